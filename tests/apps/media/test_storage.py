"""Files on the disk: whole or not there, known by their content, and never outside the folder."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from muskox.apps.media import storage as storage_module
from muskox.apps.media.desk import Desk
from muskox.apps.media.errors import Broken, DiskLow, NoSuchFile, Reason
from muskox.apps.media.recipes import Recipe
from muskox.apps.media.storage import Storage

RECIPE = Recipe("image", "test-1", [{"operation": "resize"}])
TRAVERSAL = [
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "a\x00b",
    "\\\\server\\share",
    "%2e%2e",
    "\xc0\xae\xc0\xae",
    "",
    ".",
    "~",
    "-rf",
    "a" * 129,
]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage(tmp_path / "media")
    made.open()
    return made


def put(storage: Storage, content: bytes, id: str = "one") -> str:
    incoming = storage.receive(id)
    incoming.write(content)
    return storage.keep(incoming).sha256


def make(storage: Storage, source: str, *, fence: int = 1, **files: bytes) -> Desk:
    desk = Desk(storage, "job", fence, RECIPE)
    desk.open()
    for name, content in files.items():
        desk.path(name).write_bytes(content)
        desk.keep(name, "text/plain")
    return desk


def publish(storage: Storage, source: str, **files: bytes) -> None:
    make(storage, source, **files).publish(source, engines={}, seconds=1, facts={})


def test_the_same_content_is_kept_once_and_for_nobody_else(storage):
    first, second = put(storage, b"content"), put(storage, b"content", "two")

    assert first == second == hashlib.sha256(b"content").hexdigest()
    kept = [path for path in storage.root.rglob("*") if path.is_file()]
    assert kept == [storage.blob_path(first)]
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in storage.root.rglob("*") if path.is_dir()} == {0o700}


def test_what_is_dropped_leaves_nothing(storage):
    incoming = storage.receive("one")
    incoming.write(b"half of it")

    incoming.drop()
    incoming.drop()

    assert list(storage.tmp.iterdir()) == []


@pytest.mark.parametrize("name", TRAVERSAL)
def test_security_s34_no_name_leads_out_of_the_folder(storage, name):
    source = put(storage, b"content")
    publish(storage, source, **{"out.txt": b"x"})

    with pytest.raises(NoSuchFile):
        storage.open_blob(name)
    with pytest.raises(NoSuchFile):
        storage.open_output(source, name, "out.txt")
    with pytest.raises(NoSuchFile):
        storage.open_output(source, RECIPE.hash, name)
    with pytest.raises(NoSuchFile):
        storage.receive(name + "/")


def test_security_s34_a_link_is_not_followed_wherever_it_stands(storage, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    source = put(storage, b"content")
    publish(storage, source, **{"out.txt": b"x"})
    folder = storage.result_path(source, RECIPE.hash)
    (folder / "link.txt").symlink_to(secret)

    with pytest.raises(NoSuchFile):
        storage.open_output(source, RECIPE.hash, "link.txt")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoSuchFile):
        storage.open_output(source, RECIPE.hash, "out.txt")


def test_security_s34_a_folder_that_turns_into_a_link_while_it_is_read_gives_nothing_away(storage, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "out.txt").write_bytes(b"secret")
    source = put(storage, b"content")
    publish(storage, source, **{"out.txt": b"x"})
    folder, aside = storage.result_path(source, RECIPE.hash), tmp_path / "aside"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            folder.rename(aside)
            folder.symlink_to(outside)
            folder.unlink()
            aside.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    for _ in range(500):
        try:
            with os.fdopen(storage.open_output(source, RECIPE.hash, "out.txt"), "rb") as file:
                seen.add(file.read())
        except NoSuchFile:
            seen.add(b"gone")
    stop.set()
    swapping.join()

    assert seen <= {b"x", b"gone"}
    with os.fdopen(storage.open_output(source, RECIPE.hash, "out.txt"), "rb") as file:
        assert file.read() == b"x", "it is read when nobody moves it"


def test_a_result_is_there_only_when_it_was_published(storage):
    source = put(storage, b"content")
    desk = make(storage, source, **{"a.txt": b"a", "b.txt": b"bb"})
    desk.path("half.txt").write_bytes(b"not kept")
    assert storage.find(source, RECIPE.hash) is None

    desk.publish(source, engines={"x": "1"}, seconds=1.5, facts={"width": 3})

    manifest = storage.find(source, RECIPE.hash, rehash=True)
    assert manifest is not None
    assert [(made.name, made.bytes) for made in manifest.outputs] == [("a.txt", 1), ("b.txt", 2)]
    assert sorted(path.name for path in storage.result_path(source, RECIPE.hash).iterdir()) == [
        "a.txt",
        "b.txt",
        "manifest.json",
    ]
    assert list(storage.tmp.iterdir()) == []


def test_of_two_who_publish_the_same_one_stands_and_the_other_goes(storage):
    source = put(storage, b"content")
    first, second = make(storage, source, fence=2, **{"a.txt": b"a"}), Desk(storage, "other", 1, RECIPE)
    second.open()
    second.path("a.txt").write_bytes(b"a")
    second.keep("a.txt", "text/plain")

    one = first.publish(source, engines={}, seconds=1, facts={})
    two = second.publish(source, engines={}, seconds=9, facts={})

    assert one == two == storage.find(source, RECIPE.hash)
    assert list(storage.tmp.iterdir()) == []


@pytest.mark.parametrize("damage", [b"x", b"", None])
def test_a_damaged_result_is_no_result(storage, damage):
    source = put(storage, b"content")
    publish(storage, source, **{"a.txt": b"aa"})
    target = storage.result_path(source, RECIPE.hash) / "a.txt"
    target.unlink() if damage is None else target.write_bytes(damage)

    assert storage.find(source, RECIPE.hash) is None
    publish(storage, source, **{"a.txt": b"aa"})
    assert storage.find(source, RECIPE.hash) is not None


def test_a_flipped_byte_is_found_by_hashing(storage):
    source = put(storage, b"content")
    publish(storage, source, **{"a.txt": b"aa"})
    (storage.result_path(source, RECIPE.hash) / "a.txt").write_bytes(b"ab")

    assert storage.find(source, RECIPE.hash) is not None
    assert storage.find(source, RECIPE.hash, rehash=True) is None


def test_the_next_run_takes_over_what_was_kept_and_nothing_else(storage):
    source = put(storage, b"content")
    first = make(storage, source, fence=1, **{"a.txt": b"a"})
    first.path("b.txt").write_bytes(b"half")

    second = Desk(storage, "job", 2, RECIPE)
    second.open()

    assert list(second.made) == ["a.txt"]
    assert not first.folder.exists()
    assert not second.path("b.txt").exists()


def test_a_run_of_another_recipe_or_an_older_fence_takes_over_nothing(storage):
    source = put(storage, b"content")
    make(storage, source, fence=5, **{"a.txt": b"a"})

    late = Desk(storage, "job", 4, RECIPE)
    late.open()
    assert late.made == {}
    other = Desk(storage, "job", 6, Recipe("image", "test-2", []))
    other.open()
    assert other.made == {}


def test_fault_f2_a_full_disk_is_told_as_such_and_worth_another_attempt(storage, monkeypatch):
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    incoming = storage.receive("one")
    monkeypatch.setattr(storage_module.os, "fsync", full)

    with pytest.raises(Broken) as caught:
        storage.keep(incoming)

    assert caught.value.reason is Reason.DISK_FULL
    incoming.drop()
    assert list(storage.tmp.iterdir()) == []


def test_fault_f2_a_disk_that_is_nearly_full_takes_nothing(storage):
    storage.check_room(1, reserve=1)

    with pytest.raises(DiskLow):
        storage.check_room(2**62, reserve=1)


def test_a_file_that_is_made_empty_or_as_a_link_is_not_kept(storage, tmp_path):
    desk = Desk(storage, "job", 1, RECIPE)
    desk.open()
    desk.path("empty.txt").touch()
    desk.path("link.txt").symlink_to("/etc/hostname")

    for name in ("empty.txt", "link.txt", "missing.txt"):
        with pytest.raises(Broken):
            desk.keep(name, "text/plain")
    assert desk.made == {}


def test_a_source_goes_with_all_that_was_made_of_it(storage):
    source = put(storage, b"content")
    publish(storage, source, **{"a.txt": b"a"})

    storage.remove_source(source)
    storage.remove_source(source)

    assert storage.find(source, RECIPE.hash) is None
    with pytest.raises(NoSuchFile):
        storage.blob_path(source)
