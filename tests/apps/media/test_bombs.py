"""Files that are made to hurt: refused by what their head says, or stopped by the limits of the process."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from muskox.apps.media.errors import Broken, MediaError, Reason, Refused
from muskox.apps.media.images.pool import Pool
from muskox.apps.media.images.wire import Make, Probe
from muskox.apps.media.kinds import Kind, sniff
from muskox.apps.media.limits import ImageLimits
from muskox.apps.media.operations import read_operations
from tests.apps.media.conftest import first_bytes
from tests.apps.media.drawing import encoded, long_gif, lying_png, plain_png, scene

STRANGE = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='file:///etc/hostname'/></svg>",
    "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj",
    "ppm": b"P6\n1 1\n255\nabc",
    "tiff": b"II*\x00\x08\x00\x00\x00\x00\x00",
    "mat": b"MATLAB 5.0 MAT-file" + bytes(200),
    "csv": b"1,2,3\n4,5,6\n",
    "radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n",
    "fits": b"SIMPLE  =                    T" + b" " * 100,
    "vips": b"\xb6\xa6\xf2\x08" + bytes(100),
}


async def test_case_f8_a_picture_of_900_million_pixels_is_refused_by_its_head(darkroom, tmp_path):
    bomb = tmp_path / "bomb.png"
    plain_png(30_000, 30_000, bomb)
    assert bomb.stat().st_size < 1_048_576
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(Refused) as caught:
        await darkroom.make(bomb, "generate-thumbnail")

    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


async def test_case_f8_a_head_that_lies_is_found_out(darkroom):
    for claimed, real in (((4000, 4000), (40, 40)), ((100, 5000), (100, 50))):
        with pytest.raises(Refused) as caught:
            await darkroom.make(lying_png(claimed, real), "generate-thumbnail")
        assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize("frames", [201, 5000])
async def test_case_f8_too_many_frames_are_refused(darkroom, frames):
    with pytest.raises(Refused) as caught:
        await darkroom.make(long_gif(frames), "generate-thumbnail")

    assert caught.value.reason is Reason.TOO_MANY_FRAMES


async def test_security_s35_a_side_may_be_long_only_so_far(darkroom):
    with pytest.raises(Refused) as caught:
        await darkroom.make(encoded(Image.new("L", (20_000, 2)), "PNG"), "generate-thumbnail")

    assert caught.value.reason is Reason.TOO_MANY_PIXELS


async def test_security_s35_a_picture_that_needs_more_memory_than_it_may_have_does_not_get_it(tmp_path):
    limits = replace(ImageLimits(), memory=420 * 1024 * 1024, pixels=200_000_000)
    pool = Pool(1, limits)
    large = tmp_path / "large.png"
    plain_png(16_000, 12_000, large)
    try:
        with pytest.raises(MediaError) as caught:
            await pool.ask(_make(large, limits, tmp_path), wall=60)
        assert caught.value.reason in {Reason.OUT_OF_MEMORY, Reason.CORRUPT}
        small = tmp_path / "small.jpg"
        small.write_bytes(encoded(scene(64, 48)))
        done = await pool.ask(Probe(str(small), "jpeg", limits), wall=60)
        assert (done.width, done.height) == (64, 48)
    finally:
        pool.close()


async def test_security_s41_the_process_that_decodes_has_limits_and_no_secrets(monkeypatch, tmp_path):
    monkeypatch.setenv("SMTP_PASSWORD", "a secret")
    limits = ImageLimits()
    pool = Pool(1, limits)
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(encoded(scene(64, 48)))
    try:
        await pool.ask(Probe(str(picture), "jpeg", limits), wall=60)
        [pid] = pool.pids
        told, status, environment = _told_of(pid)
        group = os.getpgid(pid)
    finally:
        pool.close()

    assert told["Max address space"] == str(limits.memory)
    assert told["Max file size"] == str(limits.output_bytes)
    assert told["Max core file size"] == "0"
    assert int(told["Max cpu time"]) <= limits.cpu + 10
    assert status["NoNewPrivs"] == "1"
    assert b"secret" not in environment
    assert {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry} == {
        b"PATH",
        b"LANG",
        b"VIPS_BLOCK_UNTRUSTED",
        b"VIPS_CONCURRENCY",
        b"MALLOC_ARENA_MAX",
    }
    assert group == pid


@pytest.mark.parametrize("kind", STRANGE)
async def test_security_s36_s37_what_is_on_no_list_is_not_read_whatever_it_is_called(pool, tmp_path, kind):
    path = tmp_path / "picture.jpg"
    path.write_bytes(STRANGE[kind])

    with pytest.raises(Refused):
        sniff(STRANGE[kind])
    # And a child that is told that it is a JPEG calls the reader of JPEGs, which finds none.
    with pytest.raises(Refused) as caught:
        await pool.ask(Probe(str(path), "jpeg", ImageLimits()), wall=60)
    assert caught.value.reason is Reason.CORRUPT


async def test_fault_f7_many_small_pictures_leave_no_file_open_and_no_memory_taken(tmp_path):
    limits = ImageLimits()
    pool = Pool(1, limits)
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(encoded(scene(64, 48)))
    order = _make(picture, limits, tmp_path)
    try:
        for _ in range(10):
            await pool.ask(order, wall=60)
        [pid] = pool.pids
        files, memory = _files(pid), _memory(pid)
        for _ in range(60):
            await pool.ask(order, wall=60)
        assert pool.pids == [pid]
        assert _files(pid) == files
        assert _memory(pid) - memory < 16 * 1024 * 1024
    finally:
        pool.close()


async def test_a_child_that_takes_too_long_is_gone_before_that_is_told(tmp_path):
    limits = ImageLimits()
    pool = Pool(1, limits)
    large = tmp_path / "large.png"
    plain_png(6000, 6000, large)
    try:
        await pool.ask(_make(large, limits, tmp_path, "generate-thumbnail"), wall=60)
        [pid] = pool.pids
        with pytest.raises(Broken) as caught:
            await pool.ask(_make(large, limits, tmp_path), wall=0.05)
        assert caught.value.reason is Reason.TIMEOUT
        assert not _is_there(pid)
        assert pool.pids == []
    finally:
        pool.close()


def _make(path: Path, limits: ImageLimits, folder: Path, *operations: str) -> Make:
    wanted = read_operations(Kind.IMAGE, list(operations or ("compress",)))
    return Make(str(path), sniff(first_bytes(path)).format, limits, str(folder), wanted, [])


def _told_of(pid: int) -> tuple[dict[str, str], dict[str, str], bytes]:
    """What the system says of a process: its limits, its status and its environment."""
    place = Path(f"/proc/{pid}")
    limits = (place / "limits").read_text().splitlines()[1:]
    status = (place / "status").read_text().splitlines()
    return (
        {line[:26].strip(): line[26:].split()[0] for line in limits},
        {name: value.strip() for name, _, value in (line.partition(":") for line in status)},
        (place / "environ").read_bytes(),
    )


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
