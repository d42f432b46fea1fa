"""A workshop for videos with a worker, and clips made on the spot: tiny, as it is not their size that is tested."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import msgspec
import pytest

from muskox import Fixed, Job, Muskox
from muskox.apps.media.kinds import Kind, sniff
from muskox.apps.media.limits import Limits, VideoLimits
from muskox.apps.media.operations import plain, read_operations
from muskox.apps.media.recipes import Manifest
from muskox.apps.media.storage import Storage
from muskox.apps.media.video.craft import VideoCraft
from muskox.apps.media.video.encoder import Encoder
from muskox.apps.media.video.facts import Facts
from muskox.apps.media.video.probe import Prober
from muskox.apps.media.video.processor import Videos
from muskox.apps.media.video.tools import Tools, find_tools
from muskox.apps.media.workshop import Workshop

TRANSCODE = [{"operation": "transcode", "preset": "ultrafast"}]
PREVIEW = [{"operation": "generate-preview"}]
SETTLED = ("completed", "failed", "cancelled")

Film = Callable[..., Path]


@pytest.fixture(scope="session")
def tools() -> Tools:
    return find_tools()


@pytest.fixture(scope="session")
def film(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Make a clip: its name, and the words for ffmpeg before it; the same words make it only once."""
    folder = tmp_path_factory.mktemp("films")
    made: dict[tuple[object, ...], Path] = {}

    def make(name: str, *words: str) -> Path:
        if (name, *words) not in made:
            out = folder / f"{len(made)}-{name}"
            shoot(tools.ffmpeg, *words, str(out))
            made[name, *words] = out
        return made[name, *words]

    return make


def bundled() -> str:
    """The ffmpeg of the wheel, which every machine has that runs the tests."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def shoot(ffmpeg: str, *words: str) -> str:
    """Run ffmpeg and give what it has said."""
    done = subprocess.run(
        [ffmpeg, "-nostdin", "-hide_banner", "-y", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def pattern(size: str = "320x180", seconds: float = 2, rate: int = 30) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc=s={size}:d={seconds}:r={rate}"]


def tone(seconds: float = 2) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=d={seconds}"]


H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


@dataclass
class Rig:
    """Everything that makes something of videos, wired together."""

    ox: Muskox
    storage: Storage
    workshop: Workshop
    craft: VideoCraft
    tools: Tools

    async def add(self, path: Path, operations: list[dict[str, Any]], **options: Any) -> Job:
        source = await asyncio.to_thread(self._keep, path)
        with path.open("rb") as file:
            sniffed = sniff(file.read(4096))
        options = {"backoff": Fixed(0.05), **options}
        data = {
            "file": path.name,
            "source": source,
            "format": sniffed.format,
            "operations": plain(read_operations(Kind.VIDEO, operations)),
        }
        return await self.ox.queue("videos").add("process-video", data, **options)

    def _keep(self, path: Path) -> str:
        incoming = self.storage.receive(self.ox.world.new_id())
        incoming.write(path.read_bytes())
        return self.storage.keep(incoming).sha256

    async def until(self, job: Job, good: Callable[[Job], bool], seconds: float = 40.0) -> Job:
        """Wait until a job is as it should be."""
        queue = self.ox.queue("videos")
        async with asyncio.timeout(seconds):
            async for _ in queue.events(after=0):
                found = await queue.get(job.id)
                assert found is not None
                if good(found):
                    return found
        raise AssertionError("the events ended")

    async def ended(self, job: Job, state: str | None = None) -> Job:
        found = await self.until(job, lambda found: found.state in SETTLED)
        assert state is None or found.state == state, found.failure
        return found

    async def made(self, path: Path, operations: list[dict[str, Any]], **options: Any) -> tuple[Manifest, Path]:
        """Have something made of a video; gives the manifest and the folder of the outputs."""
        job = await self.ended(await self.add(path, operations, **options), "completed")
        folder = self.storage.result_path(job.data["source"], job.result["recipe"])
        return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest), folder

    async def look(self, path: Path, demuxer: str = "mov") -> Facts:
        prober = Prober(self.tools, Encoder(self.ox.world), VideoLimits())
        return await prober.look(path, demuxer, folder=path.parent)

    @property
    def leftovers(self) -> list[str]:
        """What lies where only partial files may lie."""
        return sorted(entry.name for entry in self.storage.tmp.iterdir())

    @property
    def published(self) -> list[Path]:
        return sorted(file for file in (self.storage.root / "derived").rglob("*") if file.is_file())


@asynccontextmanager
async def rig(folder: Path, tools: Tools, *, worker: bool = True, **options: Any) -> AsyncIterator[Rig]:
    """A workshop in a folder; `limits` are those for videos, `encoder` replaces what x264 is run by."""
    limits = Limits(video=options.pop("limits", VideoLimits()), encoders=options.pop("encoders", 1))
    script = options.pop("encoder", None)
    used = tools if script is None else replace(tools, ffmpeg=str(fake(folder, tools, script)))
    ox = Muskox(f"sqlite:///{folder / 'muskox.db'}")
    ox.queue("videos", concurrency=limits.encoders)
    storage = Storage(folder / "media")
    storage.open()
    workshop = Workshop(ox, storage, limits)
    craft = VideoCraft(ox.world, limits, used)
    ox.include(Videos(workshop, craft))
    built = Rig(ox, storage, workshop, craft, tools)
    async with ox:
        if worker:
            async with ox.worker(["videos"], **{"concurrency": 4, **options}):
                yield built
        else:
            yield built


def fake(folder: Path, tools: Tools, script: str) -> Path:
    """An ffmpeg that does what `script` (for sh) says when it is to encode, and else what it should."""
    path = folder / "fake-ffmpeg"
    path.write_text(
        f'#!/bin/sh\nREAL={tools.ffmpeg}\ncase "$*" in *force_key_frames*)\n{script}\n;; esac\nexec $REAL "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
async def studio(tmp_path: Path, tools: Tools) -> AsyncIterator[Rig]:
    async with rig(tmp_path, tools) as built:
        yield built


def encoders_in(root: Path) -> list[int]:
    """The processes that work on files beneath a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(root).encode() in (entry / "cmdline").read_bytes():
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                found += [int(entry.name)] if state != "Z" else []
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]
