"""How fast photos are made smaller, beside bare loops of libvips and of Pillow, and how much memory it takes.

All three make the same: 1920 × 1080 at quality 85 and a thumbnail, on all cores.
Only Muskox does it as jobs, in limited processes, with files that are synced.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyvips
from PIL import Image, ImageOps

from bench.report import Ratio, Report
from muskox import JobState, Muskox
from muskox.apps.media.images.pool import Pool
from muskox.apps.media.images.wire import Make
from muskox.apps.media.kinds import Kind
from muskox.apps.media.limits import ImageLimits
from muskox.apps.media.media import Media
from muskox.apps.media.operations import default_operations
from muskox.apps.notifier.engine import open_engine

__all__ = ["pictures"]

MEGABYTES = 300.0


def pictures(count: int, rounds: int) -> Report:
    """Make `count` photos of 12 megapixels smaller, three ways, one after the other in each round."""
    command = f"python -m bench pictures --jobs {count} --rounds {rounds}"
    report = Report("pictures: photos of 12 megapixels made smaller", command, {"photos": count})
    with tempfile.TemporaryDirectory(prefix="muskox-pictures-") as name:
        folder = Path(name)
        photos = [_photo(folder, number, 4000, 3000) for number in range(count)]
        found: list[tuple[float, float, float]] = []
        for number in range(rounds):
            place = folder / str(number)
            place.mkdir()
            ours = asyncio.run(_ours(place, photos, report))
            found.append((ours, _loop(_with_vips, photos, place), _loop(_with_pillow, photos, place)))
        peak = asyncio.run(_peak(folder, _photo(folder, count, 8660, 5774)))
    for index, who in enumerate(("Muskox", "libvips alone", "Pillow alone")):
        report.add(f"photos per second, {who}", [count / seconds[index] for seconds in found], "/s")
    report.compare("of libvips alone", "photos per second, Muskox", "photos per second, libvips alone", 0.85)
    report.compare("times Pillow alone", "photos per second, Muskox", "photos per second, Pillow alone", 2.0)
    report.ratios.append(Ratio("memory of the child, 50 megapixels", peak, MEGABYTES, below=True, unit="MB"))
    return report


def _photo(folder: Path, number: int, width: int, height: int) -> Path:
    path = folder / f"photo-{number}.jpg"
    noise = pyvips.Image.gaussnoise(width // 8, height // 8, mean=128, sigma=60, seed=number).resize(8)
    slope = pyvips.Image.xyz(width, height)[0] * (200 / width)
    image = noise.crop(0, 0, min(noise.width, width), min(noise.height, height)).embed(0, 0, width, height)
    image.bandjoin([slope, 255 - slope]).cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=90)
    return path


async def _ours(folder: Path, photos: list[Path], report: Report) -> float:
    ox = Muskox(f"sqlite:///{folder / 'muskox.db'}")
    engine = open_engine(ox.url)
    media = Media(ox, engine, folder / "media")
    async with ox, media.running():
        received = [await media.receive(_blocks(photo), name=photo.name) for photo in photos]
        looks = await asyncio.gather(*(media.accept(one) for one in received))
        queue = ox.queue("images")
        begun = time.perf_counter()
        async with ox.worker(["images"], concurrency=4):
            await asyncio.gather(*(queue.result(look.run.id) for look in looks))
            seconds = time.perf_counter() - begun
        states = [job.state for look in looks if (job := await queue.get(look.run.id))]
    engine.dispose()
    report.failed |= states != [JobState.COMPLETED] * len(photos)
    return seconds


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    yield await asyncio.to_thread(path.read_bytes)


def _loop(make: Callable[[tuple[str, str]], None], photos: list[Path], folder: Path) -> float:
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as executor:
        work = [(str(photo), str(folder / photo.stem)) for photo in photos]
        list(executor.map(make, work[:1] * cores))  # all processes are up, and their libraries loaded
        begun = time.perf_counter()
        list(executor.map(make, work))
        return time.perf_counter() - begun


def _with_vips(paths: tuple[str, str]) -> None:
    pyvips.cache_set_max(0)
    source, target = paths
    how = {"optimize_coding": True, "keep": "none"}
    image = pyvips.Image.thumbnail(source, 1920, height=1080, size="down")
    image.jpegsave(f"{target}-processed.jpg", Q=85, interlace=True, **how)
    pyvips.Image.thumbnail(source, 300, height=300, crop="centre").jpegsave(f"{target}-thumbnail.jpg", Q=80, **how)


def _with_pillow(paths: tuple[str, str]) -> None:
    source, target = paths
    image = ImageOps.exif_transpose(Image.open(source))
    small = image.copy()
    small.thumbnail((1920, 1080), Image.Resampling.LANCZOS)
    small.save(f"{target}-processed.jpg", quality=85, optimize=True, progressive=True)
    fitted = ImageOps.fit(image, (300, 300), Image.Resampling.LANCZOS)
    fitted.save(f"{target}-thumbnail.jpg", quality=80, optimize=True)


async def _peak(folder: Path, photo: Path) -> float:
    """The most memory that a fresh child has taken for one photo, in MB."""
    limits = ImageLimits(pixels=60_000_000)
    pool = Pool(1, limits)
    try:
        operations = [*default_operations(Kind.IMAGE)]
        order = Make(str(photo), "jpeg", limits, str(folder), operations, [])  # type: ignore[arg-type]
        await pool.ask(order, wall=120)
        status = await asyncio.to_thread(Path(f"/proc/{pool.pids[0]}/status").read_text)
    finally:
        pool.close()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1000
