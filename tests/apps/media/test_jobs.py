"""From an upload to what was made of it: jobs, progress, attempts, and what is never done twice."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from muskox import JobEvent, JobState, WrongState
from muskox.apps.media import records
from muskox.apps.media.desk import Desk
from muskox.apps.media.errors import BadOptions, Broken, NoSuchFile, Reason, Refused, reason_in
from muskox.apps.media.kinds import Kind
from muskox.apps.media.limits import Limits
from muskox.apps.media.recipes import Made, Recipe
from tests.apps.media.conftest import Studio, blocks, studio_in
from tests.apps.media.drawing import encoded, plain_png, scene
from tests.runtime.helpers import until


async def progress_of(studio: Studio, job_id: str) -> list[int]:
    """All progress that events tell of a job."""
    found = []
    async for event in studio.ox.queue("images").events(after=0):
        if isinstance(event, JobEvent) and event.job_id == job_id:
            if event.kind == "progress":
                found.append(event.value)
            if event.kind in {"completed", "failed", "cancelled"}:
                return found
    return found


async def test_case_f1_mission_d01_a_photo_becomes_a_smaller_one_and_a_thumbnail(studio: Studio):
    data = encoded(scene(4000, 3000), quality=90)

    look = await studio.upload(data)
    job = await studio.settled(look)

    assert job.state is JobState.COMPLETED
    assert await progress_of(studio, job.id) == [10, 30, 50, 75, 100]
    assert (job.name, job.options.attempts, job.attempt) == ("process-image", 3, 1)
    result = job.result
    root = studio.media.storage.root
    processed, thumbnail = (
        Image.open(BytesIO((root / result[name]).read_bytes())) for name in ("processed", "thumbnail")
    )
    assert (processed.size, thumbnail.size) == ((1440, 1080), (300, 300))
    assert processed.quantization == Image.open(BytesIO(encoded(scene(64, 64), quality=85))).quantization
    assert hashlib.sha256((root / result["original"]).read_bytes()).digest() == hashlib.sha256(data).digest()
    assert (result["file_id"], result["cached"]) == (look.run.file_id, False)
    assert studio.partial == []


async def test_mission_d01_pictures_have_three_attempts_that_grow_from_five_seconds(studio):
    declared = studio.ox.registry.find("images", "process-image")

    assert declared is not None
    assert declared.options.attempts == 3
    assert [declared.options.backoff.delay(attempt, 0.5) for attempt in (1, 2)] == [5, 10]


async def test_case_f12_the_same_again_costs_nothing(studio, tmp_path, pool):
    data = encoded(scene(800, 600))
    first = await studio.upload(data)
    await studio.settled(first)

    second = await studio.upload(data)
    again = await studio.media.process(first.run.file_id, ["generate-thumbnail", "compress", "resize"])

    assert (second.run.cached, second.job, again.run.cached, again.job) == (True, None, True, None)
    assert again.state is JobState.COMPLETED
    assert second.run.file_id != first.run.file_id
    file = await studio.media.file(first.run.file_id)
    blobs = [path for path in (studio.media.storage.root / "blobs").rglob("*") if path.is_file()]
    assert blobs == [studio.media.storage.blob_path(file.sha256)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with studio_in(elsewhere, pool, limits=Limits(reserve=1)) as other, other.ox.worker():
        fresh = await other.upload(data)
        await other.settled(fresh)
        for name in ("processed.jpg", "thumbnail.jpg"):
            assert other.output(fresh, file.sha256, name) == studio.output(first, file.sha256, name)


async def test_case_f10_a_corrupt_file_fails_once_and_leaves_nothing(studio):
    data = encoded(scene(800, 600))

    job = await studio.settled(await studio.upload(data[: len(data) * 6 // 10]))

    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert reason_in(job.failure) is Reason.CORRUPT
    assert studio.partial == []
    assert list((studio.media.storage.root / "derived").rglob("*.jpg")) == []


async def test_case_f13_a_full_disk_costs_an_attempt_and_what_was_done_stays_done(studio, monkeypatch):
    kept: list[tuple[str, int]] = []
    keep = Desk.keep
    full = True

    def failing(desk: Desk, name: str, media_type: str, **facts: object) -> Made:
        nonlocal full
        if name == "thumbnail.jpg" and full:
            full = False
            raise Broken(Reason.DISK_FULL, "No space left on device")
        kept.append((name, desk._fence))
        return keep(desk, name, media_type, **facts)

    monkeypatch.setattr(Desk, "keep", failing)
    look = await studio.upload(encoded(scene(640, 480)))
    queue = studio.ox.queue("images")
    async for event in queue.events(after=0, kinds={"retrying"}):
        delayed = await queue.get(look.run.id)
        assert event.job_id == look.run.id
        break

    assert delayed.state is JobState.DELAYED
    assert reason_in(delayed.failure) is Reason.DISK_FULL
    assert len(studio.partial) == 1
    assert list((studio.media.storage.root / "derived").iterdir()) == []
    await queue.promote(look.run.id)
    job = await studio.settled(look)

    assert (job.state, job.attempt) == (JobState.COMPLETED, 2)
    assert [name for name, _ in kept] == ["processed.jpg", "thumbnail.jpg"]
    assert studio.partial == []


async def test_case_f32_fault_f5_of_two_runs_of_a_job_one_result_stands_and_the_late_one_is_refused(tmp_path, pool):
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        look = await studio.upload(encoded(scene(640, 480)))
        gate, waiting = asyncio.Event(), asyncio.Event()
        craft = studio.media._crafts[Kind.IMAGE]
        make = craft.make
        runs = []

        async def late(task):
            runs.append(task.job)
            if len(runs) == 1:
                waiting.set()
                await gate.wait()
            await make(task)

        craft.make = late
        # Its first worker is never heard of again, until its lease is over and another has done the work.
        async with studio.ox.worker(["images"], lease=30) as first:
            await waiting.wait()
            store = await studio.ox.store()
            [job] = await store.get("images", [look.run.id])
            await asyncio.to_thread(lapse, tmp_path / "muskox.db")
            assert len(await store.recover(limit=10)) == 1
            async with studio.ox.worker(["images"]):
                done = await studio.settled(look)
            gate.set()
            first.stop()

        assert done.state is JobState.COMPLETED
        assert len(runs) == 2
        assert runs[1].fence > job.lease.token
        assert (await studio.ox.queue("images").get(look.run.id)).result == done.result
        assert studio.partial == []


def lapse(file: Path) -> None:
    """Let all leases be over."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE muskox_jobs SET lease_until = 1 WHERE state = 3")


async def test_what_is_refused_at_the_door_leaves_nothing_behind(studio):
    big = studio.media.limits.image.bytes
    path = studio.media.storage.root / "bomb.png"
    plain_png(30_000, 30_000, path)
    refused = {
        b"": Reason.EMPTY,
        os.urandom(10): Reason.UNSUPPORTED_TYPE,
        b"<html>" + bytes(10_000): Reason.UNSUPPORTED_TYPE,
        b"\xff\xd8\xff" + bytes(big): Reason.TOO_LARGE,
        path.read_bytes(): Reason.TOO_MANY_PIXELS,
    }
    path.unlink()

    for data, reason in refused.items():
        with pytest.raises(Refused) as caught:
            await studio.upload(data)
        assert caught.value.reason is reason
    with pytest.raises(BadOptions):
        await studio.upload(encoded(scene(64, 48)), ["explode"])
    assert [path for path in studio.media.storage.root.rglob("*") if path.is_file()] == []
    assert await studio.media.files() == []


async def test_case_f15_no_more_is_read_than_the_limit_says(studio):
    size, most = 65_536, studio.media.limits.image.bytes
    read = 0

    async def endless():
        nonlocal read
        yield b"\xff\xd8\xff\xe0" + bytes(size - 4)
        while True:
            read += size
            yield bytes(size)

    with pytest.raises(Refused) as caught:
        await studio.media.receive(endless())

    assert caught.value.reason is Reason.TOO_LARGE
    assert read <= most + 1024 * 1024
    assert studio.partial == []


async def test_a_wrong_kind_is_refused_before_the_rest_is_read(studio):
    read = 0

    async def html():
        nonlocal read
        while True:
            read += 1000
            yield b"<p>hello</p>" + bytes(988)

    with pytest.raises(Refused):
        await studio.media.receive(html())

    assert read <= 6000


async def test_an_upload_that_breaks_off_leaves_nothing(studio):
    async def broken():
        yield encoded(scene(640, 480))[:20_000]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await studio.media.receive(broken())

    assert studio.partial == []


async def test_fault_f8_a_cancelled_picture_ends_its_child_and_leaves_nothing(tmp_path):
    async with studio_in(tmp_path, None, limits=Limits(children=1, reserve=1)) as studio:
        pool = studio.media._pool
        look = await studio.upload(encoded(scene(320, 240)))
        [pid] = pool.pids
        # It has looked at the head; halted, it comes to no end by itself.
        os.kill(pid, signal.SIGSTOP)
        async with studio.ox.worker():
            await until(lambda: studio.partial and not pool._idle)

            await studio.media.cancel(look.run.id)
            job = await studio.settled(look)
            await until(lambda: not studio.partial and not pool.pids)

        assert job.state is JobState.CANCELLED
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(WrongState):
            await studio.media.cancel(look.run.id)


async def test_a_file_goes_with_the_last_that_has_its_bytes(studio):
    data = encoded(scene(320, 240))
    first, second = await studio.upload(data), None
    await studio.settled(first)
    second = await studio.upload(data)
    file = await studio.media.file(first.run.file_id)

    await studio.media.delete(first.run.file_id)
    assert studio.media.storage.blob_path(file.sha256).exists()
    await studio.media.delete(second.run.file_id)

    with pytest.raises(NoSuchFile):
        studio.media.storage.blob_path(file.sha256)
    with pytest.raises(NoSuchFile):
        await studio.media.file(second.run.file_id)
    assert [path for path in studio.media.storage.root.rglob("*") if path.is_file()] == []


async def test_fault_f1_the_sweep_removes_what_nobody_works_on_and_nothing_else(tmp_path, pool):
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        look = await studio.upload(encoded(scene(320, 240)))
        storage = studio.media.storage
        alive = Desk(storage, look.run.id, 1, Recipe("image", "x", []))
        alive.open()
        for name in (f"{studio.ox.world.new_id()}.3", "upload.old", "strange"):
            (storage.tmp / name).mkdir()
        for name in ("upload.old", "strange"):
            os.utime(storage.tmp / name, (1, 1))
        (storage.tmp / "upload.new").touch()
        orphan = storage.receive("x")
        orphan.write(b"orphan")
        lost = storage.keep(orphan)
        os.utime(storage.blob_path(lost.sha256), (1, 1))
        kept = storage.blob_path((await studio.media.file(look.run.file_id)).sha256)
        os.utime(kept, (1, 1))

        await studio.media.sweep()

        assert sorted(studio.partial) == sorted([alive.folder.name, "upload.new"])
        assert kept.exists()
        with pytest.raises(NoSuchFile):
            storage.blob_path(lost.sha256)


async def test_a_job_that_a_crash_kept_from_being_added_is_added_by_the_sweep(tmp_path, pool):
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        look = await studio.upload(encoded(scene(320, 240)))
        await studio.ox.queue("images").remove(look.run.id)
        old = records.RunRecord(
            **{
                **{name: getattr(look.run, name) for name in records.RunRecord.__slots__},
                "id": studio.ox.world.new_id(),
                "created_at": studio.media.now() - timedelta(days=2),
            }
        )
        await asyncio.to_thread(studio.media._write_run, old)

        await studio.media.sweep()

        assert (await studio.ox.queue("images").get(look.run.id)).state is JobState.WAITING
        assert await studio.ox.queue("images").get(old.id) is None
        async with studio.ox.worker():
            assert (await studio.settled(look)).state is JobState.COMPLETED


async def test_a_file_that_is_deleted_before_its_turn_is_cancelled(tmp_path, pool):
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        look = await studio.upload(encoded(scene(320, 240)))

        await studio.media.delete(look.run.file_id)

        assert (await studio.ox.queue("images").get(look.run.id)).state is JobState.CANCELLED


async def test_a_job_whose_source_is_gone_fails_once(tmp_path, pool):
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        look = await studio.upload(encoded(scene(320, 240)))
        studio.media.storage.remove_source((await studio.media.file(look.run.file_id)).sha256)
        async with studio.ox.worker():
            job = await studio.settled(look)

        assert (job.attempt, reason_in(job.failure)) == (1, Reason.SOURCE_GONE)
        assert studio.partial == []


async def test_names_are_kept_to_be_shown_and_made_harmless(studio):
    for given, shown in {
        "../../etc/passwd": "passwd",
        "C:\\temp\\a b.jpg": "a b.jpg",
        "a\x00\r\nb\u202egpj.exe": "abgpj.exe",
        "": "image.jpeg",
        "é" * 400: "é" * 255,
    }.items():
        received = await studio.media.receive(blocks(encoded(scene(64, 48))), name=given)
        assert received.name == shown
        received.drop()
