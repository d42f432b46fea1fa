"""Kills workers while they encode, and counts what is left; and how true the progress of an encoding is."""

from __future__ import annotations

import asyncio
import random
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.child import ROOT, command
from bench.programs.encoding import LEASE, working
from bench.report import Ratio, Report
from muskox import Job, JobState, Muskox, World
from muskox.apps.media.recipes import Manifest
from muskox.apps.media.storage import Storage
from muskox.apps.media.video.encoder import Encoder, Hear
from muskox.apps.media.video.report import FIRST, LAST, Reader
from muskox.apps.media.video.tools import Tools, find_tools

__all__ = ["encodes"]

ENCODERS = 2
SECONDS = 20
"""How long the video is whose progress is followed."""
SOON = 2.0
"""Seconds within which an encoder must be gone after its worker was killed."""
TRUE = 5.0
PRESETS = ["medium", "fast", "faster", "veryfast"]


def encodes(jobs: int, kills: int, rounds: int) -> Report:
    """A worker is killed again and again while it encodes; then one video is encoded and its progress followed."""
    said = f"python -m bench encodes --jobs {jobs} --kills {kills} --rounds {rounds}"
    settings: dict[str, object] = {"jobs": jobs, "kills": kills, "encoders": ENCODERS, "lease": f"{LEASE:g} s"}
    report = Report("encodes: workers killed while they encode, and the truth of progress", said, settings)
    with tempfile.TemporaryDirectory(prefix="muskox-encodes-") as folder:
        asyncio.run(_crash(report, Path(folder), jobs, kills))
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="muskox-encodes-") as folder:
            found.append(asyncio.run(_follow(Path(folder))))
    by_encoder, by_clock, seconds = ([one[index] for one in found] for index in range(3))
    report.add("seconds of the job whose progress is followed", seconds, "s")
    report.add("largest error of progress, by the clock", by_clock, "points")
    report.add("largest error of progress, by the encoder", by_encoder, "points")
    report.ratios.append(Ratio("… in all rounds", max(by_encoder), TRUE, below=True, unit="points"))
    return report


async def _crash(report: Report, folder: Path, jobs: int, kills: int) -> None:
    tools = find_tools()
    storage = Storage(folder / "media")
    storage.open()
    source = _keep(storage, _film(tools, folder, "960x540", 5))
    async with Muskox(f"sqlite:///{folder / 'muskox.db'}") as ox:
        added = [await _add(ox, source, number) for number in range(jobs)]
        lingered = [await _kill_one(folder) for _ in range(kills)]
        async with working(str(folder), ENCODERS):
            done = [await _ended(ox, job) for job in added]
    broken = [job for job in done if not await asyncio.to_thread(_is_whole, tools, storage, source, job)]
    report.checks |= {
        "jobs completed": sum(job.state is JobState.COMPLETED for job in done),
        "runs of them that a kill has ended": sum(job.stalls for job in done),
        "encoders alive after the kill, at the longest": f"{max(lingered, default=0):.2f} s",
        "encoders alive at the end": len(_encoders(folder)),
        "videos that do not decode to their end": len(broken),
        "partial files": len(list(storage.tmp.iterdir())),
    }
    report.failed = (
        any(job.state is not JobState.COMPLETED for job in done)
        or max(lingered, default=0) > SOON
        or bool(_encoders(folder) or broken or list(storage.tmp.iterdir()))
    )


async def _kill_one(folder: Path) -> float:
    """Start a worker, kill it while it encodes, and give for how long an encoder outlived it."""
    program = command("encoding.work", folder=str(folder), encoders=ENCODERS)
    worker = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=subprocess.DEVNULL)
    while len(_encoders(folder)) == 0:  # noqa: ASYNC110 - processes tell nobody
        await asyncio.sleep(0.01)
    await asyncio.sleep(random.uniform(0, 0.7))
    worker.kill()
    await worker.wait()
    killed = time.monotonic()
    while _encoders(folder) and time.monotonic() - killed < 10:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    return time.monotonic() - killed


class _Spy(Encoder):
    """An encoder runner that writes down when the encoder was where."""

    def __init__(self, world: World, places: list[tuple[float, float]]) -> None:
        super().__init__(world)
        self._clock = world
        self._places = places

    async def run(self, argv: Sequence[str], *, hear: Hear | None = None, **options: Any) -> str:
        reader, encodes = Reader(), "libx264" in argv

        async def listen(data: bytes) -> None:
            for report in reader.feed(data):
                if encodes and report.out_time is not None:
                    self._places.append((self._clock.now(), report.out_time))
            if hear is not None:
                await hear(data)

        return await super().run(argv, hear=listen, **options)


async def _follow(folder: Path) -> tuple[float, float, float]:
    """Encode one video; gives by how many points at most its progress was off, by two measures, and its seconds.

    By the encoder: beside where its reports say that it was at the moment, on the same way from 5 to 95. By the
    clock: beside the share of the time from the start of the job to its end that had passed. Both are looked at in
    each moment: just before and just after something was told.
    """
    storage = Storage(folder / "media")
    storage.open()
    source = _keep(storage, _film(find_tools(), folder, "1280x720", SECONDS))
    places: list[tuple[float, float]] = []
    async with working(str(folder), 1, encoder=lambda world: _Spy(world, places)) as ox:
        job = await _add(ox, source, 0)
        told = [one async for one in _progress(ox, job)]
        done = await _ended(ox, job)
    assert done.started_at is not None
    assert done.ended_at is not None
    begin, end = done.started_at.timestamp(), done.ended_at.timestamp()
    clock = [(begin, 0.0), (end, 100.0)]
    encoder = [(at, FIRST + (LAST - FIRST) * min(place / SECONDS, 1)) for at, place in places]
    while_encoding = [(at, percent) for at, percent in told if encoder[0][0] <= at <= encoder[-1][0]]
    return _error(while_encoding, encoder), _error(told, clock), end - begin


def _error(told: list[tuple[float, float]], truth: list[tuple[float, float]]) -> float:
    """The largest distance between what was told last and what was true, at each moment when either changed."""
    worst, before = 0.0, told[0][1] if told else 0.0
    changes = sorted(
        [*((at, percent) for at, percent in told), *((at, None) for at, _ in truth)], key=lambda one: one[0]
    )
    for at, percent in changes:
        true = _between(truth, at)
        if at >= told[0][0]:
            worst = max(worst, abs(before - true), abs((before if percent is None else percent) - true))
        before = before if percent is None else percent
    return worst


def _between(points: list[tuple[float, float]], at: float) -> float:
    """The value at a moment, on straight lines between those that are known."""
    later = next((index for index, point in enumerate(points) if point[0] >= at), len(points))
    if later in (0, len(points)):
        return points[min(later, len(points) - 1)][1]
    (start, first), (end, second) = points[later - 1], points[later]
    return second if end == start else first + (second - first) * (at - start) / (end - start)


async def _progress(ox: Muskox, job: Job) -> AsyncIterator[tuple[float, float]]:
    async for event in ox.queue("videos").events(after=0):
        if getattr(event, "job_id", "") != job.id:
            continue
        if event.kind == "progress":
            value = getattr(event, "value", None)
            yield event.at.timestamp(), value["percent"] if isinstance(value, dict) else float(value or 0)
        elif event.kind in ("completed", "failed"):
            return


async def _add(ox: Muskox, source: str, number: int) -> Job:
    # Each with a recipe of its own, else the second would be found made.
    operation = {"operation": "transcode", "preset": PRESETS[number % len(PRESETS)], "crf": 20 + number // len(PRESETS)}
    operation |= {"width": 320, "height": 180} if number % 2 else {}
    data = {"file": str(number), "source": source, "format": "matroska", "operations": [operation]}
    return await ox.queue("videos").add("process-video", data, attempts=2, max_stalls=10_000)


async def _ended(ox: Muskox, job: Job) -> Job:
    queue = ox.queue("videos")
    while True:
        found = await queue.get(job.id)
        assert found is not None
        if found.state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
            return found
        await asyncio.sleep(0.05)


def _is_whole(tools: Tools, storage: Storage, source: str, job: Job) -> bool:
    """Whether a video can be decoded from its beginning to its end without a complaint."""
    if job.state is not JobState.COMPLETED:
        return False
    folder = storage.result_path(source, job.result["recipe"])
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    argv = [tools.ffmpeg, "-nostdin", "-v", "error", "-i", str(folder / "video.mp4"), "-f", "null", "-"]
    done = subprocess.run(argv, capture_output=True, check=False)
    return done.returncode == 0 and not done.stderr and manifest.outputs[0].duration is not None


def _film(tools: Tools, folder: Path, size: str, seconds: int) -> Path:
    out = folder / "film.mkv"
    shape = ["-f", "lavfi", "-i", f"testsrc2=s={size}:d={seconds}:r=30", "-f", "lavfi", "-i", f"sine=d={seconds}"]
    argv = [tools.ffmpeg, "-nostdin", "-v", "error", *shape, "-c:v", "mpeg4", "-q:v", "3", str(out)]
    subprocess.run(argv, check=True)
    return out


def _keep(storage: Storage, path: Path) -> str:
    incoming = storage.receive("film")
    incoming.write(path.read_bytes())
    return storage.keep(incoming).sha256


def _encoders(folder: Path) -> list[int]:
    """The processes that read or write in the folder's media, by their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if str(folder / "media").encode() in words and (entry / "stat").read_text().rsplit(")", 1)[1][1] != "Z":
                found.append(int(entry.name))
        except OSError:
            continue
    return found
