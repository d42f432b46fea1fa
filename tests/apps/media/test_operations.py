"""The vocabulary: what may be asked for, and how a refusal says where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from muskox import Failure, FailureKind
from muskox.apps.media.errors import BadOptions, Broken, Reason, reason_in
from muskox.apps.media.kinds import Kind
from muskox.apps.media.operations import Compress, Resize, Thumbnail, default_operations, plain, read_operations
from muskox.apps.media.recipes import Recipe

BAD: list[tuple[Kind, Any, str]] = [
    (Kind.IMAGE, ["explode"], "/operations/0/operation"),
    (Kind.IMAGE, [{"operation": "compress", "quality": 101}], "/operations/0/quality"),
    (Kind.IMAGE, ["compress", {"operation": "resize", "width": -1}], "/operations/1/width"),
    (Kind.IMAGE, [{"operation": "resize", "width": True}], "/operations/0/width"),
    (Kind.IMAGE, [{"operation": "resize", "width": 1e9}], "/operations/0/width"),
    (Kind.IMAGE, [{"operation": "compress", "background": "red; rm"}], "/operations/0/background"),
    (Kind.VIDEO, [{"operation": "transcode", "crf": "23; rm"}], "/operations/0/crf"),
    (Kind.VIDEO, ["resize"], "/operations/0/operation"),
    (Kind.IMAGE, [{"operation": "resize", "shell": "x"}], "/operations/0"),
    (Kind.IMAGE, [7], "/operations/0"),
    (Kind.IMAGE, [{"operation": "resize"}, "resize"], "/operations/1/operation"),
    (Kind.IMAGE, [], "/operations"),
    (Kind.IMAGE, {"operation": "resize"}, "/operations"),
    (Kind.IMAGE, ["resize"] * 9, "/operations"),
]


@pytest.mark.parametrize(("kind", "given", "pointer"), BAD)
def test_a_refused_operation_is_pointed_at(kind, given, pointer):
    with pytest.raises(BadOptions) as caught:
        read_operations(kind, given)

    assert caught.value.pointer == pointer


def test_a_name_alone_stands_for_the_operation_with_its_defaults():
    read = read_operations(Kind.IMAGE, ["generate-thumbnail", {"operation": "compress", "quality": 70}, "resize"])

    assert read == [Resize(1920, 1080), Compress(quality=70), Thumbnail(300, 300)]


def test_a_recipe_is_known_by_what_would_be_made():
    def recipe(*given: Any, engine: str = "libvips-8") -> str:
        return Recipe(Kind.IMAGE, engine, plain(read_operations(Kind.IMAGE, list(given)))).hash

    full = {"operation": "resize", "width": 1920, "height": 1080, "fit": "inside", "format": "same"}
    assert recipe("resize") == recipe(full)
    assert recipe("compress", "resize") == recipe("resize", "compress")
    others = {recipe("resize"), recipe("compress"), recipe({**full, "width": 1921}), recipe("resize", engine="x")}
    assert len(others) == 4


@pytest.mark.parametrize("kind", list(Kind))
def test_a_recipe_comes_through_json_unchanged(kind):
    operations = default_operations(kind)

    assert read_operations(kind, plain(operations)) == operations


def test_a_failure_is_read_back_as_its_reason():
    told = str(Broken(Reason.DISK_FULL, "No space left"))

    assert reason_in(Failure(FailureKind.ERROR, "x.Broken", told)) is Reason.DISK_FULL
    assert reason_in(Failure(FailureKind.TIMEOUT)) is Reason.TIMEOUT
    assert reason_in(Failure(FailureKind.STALLED)) is Reason.LEASE_LOST
    assert reason_in(Failure(FailureKind.ERROR, "ValueError", "corrupt or so")) is None
    assert reason_in(None) is None
