"""An encoder lives as long as its job and no longer: cancel, timeouts, stalls, a dead worker (F21 to F25, F30)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from muskox import Job
from muskox.apps.media.errors import Reason, reason_in
from muskox.apps.media.limits import VideoLimits
from muskox.apps.media.video.processor import Videos
from muskox.apps.media.video.tools import Tools
from tests.apps.media.video.conftest import PREVIEW, SETTLED, TRANSCODE, Film, encoders_in, pattern, rig
from tests.processes import gone as is_gone
from tests.processes import started, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

AT_PLAY_SPEED = 'exec $REAL -re "$@"'
"""As slow as a film is when one watches it, so that there is something to interrupt."""

STUBBORN = "trap '' TERM\nsleep 100 &\nwhile :; do printf 'out_time_us=1000000\\nprogress=continue\\n'; sleep 0.1; done"
SILENT = "exec sleep 100"
BUSY = "i=0; while :; do i=$((i+1)); printf 'out_time_us=%s0000\\nprogress=continue\\n' $i; sleep 0.1; done"


async def eventually(fact: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait for a fact; gives for how long."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 - processes and files tell nobody
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def group_of(pids: list[int]) -> list[int]:
    """All processes in the process groups of these, but not in ours."""
    groups = {os.getpgid(pid) for pid in pids} - {os.getpgrp()}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            found += [int(entry.name)] if entry.name.isdigit() and os.getpgid(int(entry.name)) in groups else []
        except ProcessLookupError:
            continue
    return found


def percent(job: Job) -> float:
    return job.progress["percent"] if isinstance(job.progress, dict) else float(job.progress or 0)


@pytest.fixture(scope="module")
def clip(film: Film) -> Path:
    return film("long.mkv", *pattern("64x36", 4, 10), "-c:v", "mpeg4")


async def test_case_f21_progress_is_true_and_never_falls(tmp_path: Path, tools: Tools, clip: Path) -> None:
    """Four seconds instead of the twenty of the case, at the same rate of telling."""
    async with rig(tmp_path, tools, encoder=AT_PLAY_SPEED) as built:
        queue, told = built.ox.queue("videos"), []
        job = await built.add(clip, TRANSCODE)
        folder = built.storage.root / "derived"
        async with asyncio.timeout(40):
            async for event in queue.events(after=0):
                if event.kind == "progress":
                    share = event.value["percent"] if isinstance(event.value, dict) else event.value
                    told.append((event.at.timestamp(), share))
                    if share == 100:
                        assert list(folder.rglob("video.mp4")) != []
                if event.kind == "completed":
                    break
        assert (await built.ended(job)).progress == 100

    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert len(set(shares)) == len(shares) >= 8
    assert (shares[0], shares[-1]) == (2, 100)
    on_the_way = [at for at, share in told if 5 <= share <= 95]
    # Half a second apart as the job tells them; what carries them may hold one up and not the next.
    assert (len(on_the_way) - 1) / 2 <= on_the_way[-1] - on_the_way[0] + 0.5


@pytest.mark.parametrize("encoder", [pytest.param(AT_PLAY_SPEED, id="F22"), pytest.param(STUBBORN, id="F23")])
async def test_case_f22_f23_a_cancelled_video_leaves_nothing_behind(
    tmp_path: Path, tools: Tools, clip: Path, encoder: str
) -> None:
    async with rig(tmp_path, tools, encoder=encoder) as built:
        job = await built.add(clip, TRANSCODE)
        await built.until(job, lambda found: percent(found) >= 20)
        assert encoders_in(tmp_path) != []

        began = time.monotonic()
        await built.ox.queue("videos").cancel(job.id)
        gone = await eventually(lambda: not encoders_in(tmp_path) and built.leftovers == [])
        after = await built.add(clip, [{"operation": "transcode", "preset": "superfast"}])
        await built.until(after, lambda found: found.state == "active")

        assert (await built.ended(job)).state == "cancelled"
        assert gone <= 6
        assert time.monotonic() - began <= 6 + 2
        assert built.published == []
        await built.ox.queue("videos").cancel(after.id)


async def test_case_f24_an_encoder_ends_with_its_worker(tmp_path: Path, tools: Tools, clip: Path) -> None:
    async with rig(tmp_path, tools, worker=False) as built:
        job = await built.add(clip, TRANSCODE)
        async with started("tests.apps.media.video.hand", tmp_path, AT_PLAY_SPEED) as hand:
            await until(hand, "ready")
            await built.until(job, lambda found: percent(found) >= 20)
            assert encoders_in(built.storage.root) != []
            hand.kill()
            gone = await eventually(lambda: not encoders_in(built.storage.root))

        assert gone <= 2
        assert built.leftovers != []
        async with built.ox.worker(["videos"], lease=2):
            done = await built.ended(job, "completed")
        assert (done.stalls, done.attempt) == (1, 1)
        assert built.leftovers == []
        facts = await built.look(built.storage.result_path(job.data["source"], done.result["recipe"]) / "video.mp4")
        assert facts.duration == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("how", ["kernel", "watchdog"])
async def test_case_f24_all_that_an_encoder_has_started_ends_with_the_worker(tmp_path: Path, how: str) -> None:
    """The kernel does it on Linux, and a small process elsewhere."""
    async with started("tests.apps.media.video.holder", tmp_path, how) as holder:
        await until(holder, "ready")
        here = group_of(encoders_in(tmp_path))
        assert len(here) >= 2  # the encoder, and what it has started
        holder.kill()
        gone = await eventually(lambda: all(is_gone(pid) for pid in here))

    assert gone <= 2


async def test_case_f25_an_encoder_that_stands_still_is_given_up(tmp_path: Path, tools: Tools, clip: Path) -> None:
    """A stall limit of half a second instead of three; the beat by which it is seen is a quarter of one."""
    async with rig(tmp_path, tools, encoder=SILENT, limits=VideoLimits(stall=0.5)) as built:
        job = await built.ended(await built.add(clip, TRANSCODE), "failed")

        assert (reason_in(job.failure), job.attempt) == (Reason.STALLED, 2)
        assert (encoders_in(tmp_path), built.leftovers, built.published) == ([], [], [])


async def test_case_f25_an_encoder_that_takes_too_long_is_ended(tmp_path: Path, tools: Tools, clip: Path) -> None:
    """A wall limit of one second instead of five, with progress that goes on and on."""
    async with rig(tmp_path, tools, encoder=BUSY, limits=VideoLimits(wall=1, stall=0.8)) as built:
        job = await built.ended(await built.add(clip, TRANSCODE), "failed")

        assert (reason_in(job.failure), job.attempt) == (Reason.TIMEOUT, 2)
        assert (encoders_in(tmp_path), built.leftovers, built.published) == ([], [], [])


async def test_the_timeout_of_a_job_ends_its_encoder(tmp_path: Path, tools: Tools, clip: Path) -> None:
    async with rig(tmp_path, tools, encoder=STUBBORN) as built:
        job = await built.ended(await built.add(clip, TRANSCODE, timeout=1.0, attempts=1), "failed")

        assert reason_in(job.failure) is Reason.TIMEOUT
        assert (encoders_in(tmp_path), built.leftovers) == ([], [])


async def test_a_worker_that_stops_gives_the_job_back_and_leaves_nothing(
    tmp_path: Path, tools: Tools, clip: Path
) -> None:
    async with rig(tmp_path, tools, worker=False, encoder=AT_PLAY_SPEED) as built:
        job = await built.add(clip, TRANSCODE)
        worker = built.ox.worker(["videos"])
        running = asyncio.ensure_future(worker.run())
        await built.until(job, lambda found: percent(found) >= 5)
        worker.stop(now=True)
        await running

        found = await built.ox.queue("videos").get(job.id)
        assert found is not None
        assert (found.state, found.releases) == ("waiting", 1)
        assert (encoders_in(tmp_path), built.leftovers) == ([], [])


async def test_an_encoder_that_is_killed_is_tried_again(tmp_path: Path, tools: Tools, clip: Path) -> None:
    once = f"[ -e {tmp_path}/killed ] || {{ touch {tmp_path}/killed; kill -9 $$; }}"
    async with rig(tmp_path, tools, encoder=once) as built:
        job = await built.ended(await built.add(clip, TRANSCODE), "completed")

        assert job.attempt == 2


async def test_fault_f2_a_full_disk_is_no_fault_of_the_file(tmp_path: Path, tools: Tools, clip: Path) -> None:
    said = "av_interleaved_write_frame(): No space left on device"
    full = f"[ -e {tmp_path}/full ] || {{ touch {tmp_path}/full; echo '{said}' >&2; exit 228; }}"
    async with rig(tmp_path, tools, encoder=full) as built:
        job = await built.ended(await built.add(clip, TRANSCODE), "completed")

        assert job.attempt == 2
        assert built.leftovers == []


FULL_ONCE = """#!/bin/sh
case "$*" in
*force_key_frames*) echo encoded >> FOLDER/count;;
*concat=n=*) mkdir FOLDER/once 2>/dev/null && { echo "No space left on device" >&2; exit 1; };;
esac
exec REAL "$@"
"""


async def test_case_f13_what_an_attempt_has_finished_is_not_made_again(
    tmp_path: Path, tools: Tools, clip: Path
) -> None:
    program = tmp_path / "full-once"
    program.write_text(FULL_ONCE.replace("FOLDER", str(tmp_path)).replace("REAL", tools.ffmpeg))
    program.chmod(0o755)
    async with rig(tmp_path, replace(tools, ffmpeg=str(program))) as built:
        manifest, _ = await built.made(clip, [*TRANSCODE, *PREVIEW])

        [job] = (await built.ox.queue("videos").find()).jobs
        assert job.attempt == 2
        assert (tmp_path / "count").read_text() == "encoded\n"
        assert {made.name for made in manifest.outputs} > {"video.mp4", "poster.jpg", "preview.mp4"}
        assert built.leftovers == []


async def test_security_s41_an_encoder_is_told_no_secret(
    tmp_path: Path, tools: Tools, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "CANARY")
    seen = tmp_path / "seen"
    script = f"{{ env; ulimit -a; grep NoNewPrivs /proc/self/status; }} > {seen}; exit 1"
    async with rig(tmp_path, tools, encoder=script) as built:
        await built.ended(await built.add(clip, TRANSCODE, attempts=1), "failed")

    text = seen.read_text()
    assert "CANARY" not in text
    assert "NoNewPrivs:\t1" in text
    assert "unlimited" not in [
        line.split()[-1] for line in text.splitlines() if line.startswith(("file", "virtual", "time"))
    ]


async def test_fault_f5_two_jobs_that_want_the_same_have_one_result(tmp_path: Path, tools: Tools, clip: Path) -> None:
    both = f"""touch {tmp_path}/$$.here
while [ $(ls {tmp_path} | grep -c here) -lt 2 ]; do sleep 0.05; done"""
    async with rig(tmp_path, tools, encoder=both, encoders=2) as built:
        jobs = [await built.add(clip, TRANSCODE), await built.add(clip, TRANSCODE)]
        first, second = [await built.ended(job, "completed") for job in jobs]

        assert (first.result["video"], first.result["cached"]) == (second.result["video"], False)
        assert [file.name for file in built.published] == ["manifest.json", "video.mp4"]
        assert built.leftovers == []


async def test_mission_d02_a_video_has_two_attempts_of_an_hour_and_tells_where_its_encoder_is(
    tmp_path: Path, tools: Tools, clip: Path
) -> None:
    _, options = Videos.video.__muskox_process__
    assert (options["attempts"], options["timeout"]) == (2, 3600)

    async with rig(tmp_path, tools, encoder=AT_PLAY_SPEED) as built:
        job = await built.add(clip, [*TRANSCODE, *PREVIEW], attempts=None, backoff=None)
        told = await built.until(job, lambda found: percent(found) >= 10)
        seen: list[Job] = []
        done = await built.until(job, lambda found: seen.append(found) or found.state in SETTLED)

    assert done.state == "completed", done.failure
    shares = [percent(job) for job in seen]
    assert shares == sorted(shares)
    assert told.progress["step"] == "transcode"
    assert told.progress["speed"] > 0
    assert {"video", "poster", "preview", "storyboard"} <= set(done.result)


async def test_case_f30_no_more_encoders_run_than_may(tmp_path: Path, tools: Tools, film: Film) -> None:
    clips = [film("many.mkv", *pattern("64x36", 1, rate), "-c:v", "mpeg4") for rate in (5, 6, 7, 8)]
    one, two = tmp_path / "one", tmp_path / "two"
    count = f'mkdir {one} 2>/dev/null || touch {two}; $REAL "$@"; code=$?; rmdir {one}; exit $code'
    async with rig(tmp_path, tools, encoder=count, encoders=1) as built:
        jobs = [await built.add(clip, TRANSCODE) for clip in clips]
        for job in jobs:
            await built.ended(job, "completed")

    assert not two.exists()
