"""Decodes a picture once and makes all outputs of it, with libvips. For the child process only.

Only the reader of the format that was sniffed is called, by its name; which
readers there are besides does not matter. Sizes are looked at before a pixel is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips

from muskox.apps.media.errors import Broken, MediaError, Reason, Refused
from muskox.apps.media.images.colour import flat, has_alpha, to_srgb
from muskox.apps.media.images.geometry import Placing, Size, jpeg_shrink, place
from muskox.apps.media.images.stripping import strip
from muskox.apps.media.images.wire import Make, Mark, Said, Wrote
from muskox.apps.media.images.writing import EXTENSIONS, Writing, write
from muskox.apps.media.limits import ImageLimits
from muskox.apps.media.operations import Compress, Resize, Thumbnail, one_of

__all__ = ["ENGINE", "Found", "look", "make"]

# Also where the environment does not say so; cached results would only keep memory and files.
pyvips.block_untrusted_set(True)
pyvips.cache_set_max(0)

ENGINE = ".".join(str(pyvips.version(part)) for part in range(3))
_LOADERS = {
    "jpeg": pyvips.Image.jpegload,
    "png": pyvips.Image.pngload,
    "webp": pyvips.Image.webpload,
    "gif": pyvips.Image.gifload,
    "avif": pyvips.Image.heifload,
}
_ANIMATED = {"gif", "webp"}
_LYING = {5, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class Found:
    """What the head of a picture says; `size` is of the upright picture, or of one frame of it."""

    path: str
    format: str
    size: Size
    frames: int
    orientation: int
    profile: bool
    facts: dict[str, Any]

    @property
    def lying(self) -> bool:
        """Whether the picture is stored on its side."""
        return self.orientation in _LYING


def look(path: Path, format: str, limits: ImageLimits) -> Found:  # noqa: A002 - our word for it
    """Read the head of a picture; raises `Refused` for what is more than the limits, or no such picture."""
    try:
        head = _load(str(path), format)
    except pyvips.Error as error:
        raise _trouble(error) from None
    frames = head.get("n-pages") if head.get_typeof("n-pages") else 1
    orientation = head.get("orientation") if head.get_typeof("orientation") else 1
    stored = Size(head.width, head.height)
    _check(stored, frames, head, limits)
    facts = {
        "format": format,
        "alpha": has_alpha(head),
        "orientation": orientation,
        "progressive": bool(head.get_typeof("interlaced") and head.get("interlaced")),
        "metadata": sorted(name for name in ("exif", "xmp", "iptc", "icc") if head.get_typeof(f"{name}-data"))
        + (["icc"] if head.get_typeof("icc-profile-data") else []),
    }
    return Found(
        str(path),
        format,
        stored.turned if orientation in _LYING else stored,
        frames,
        orientation,
        bool(head.get_typeof("icc-profile-data")),
        facts,
    )


def make(order: Make, say: Callable[[Said], None]) -> Found:
    """Make all outputs that are asked for and not kept, and say each as soon as it lies there."""
    found = look(Path(order.path), order.format, order.limits)
    say(Mark(10))
    try:
        _Making(order, found, say).run()
    except pyvips.Error as error:
        raise _trouble(error) from None
    return found


class _Making:
    """One order on its way: what is wanted, and the pixels that all of it is made of."""

    def __init__(self, order: Make, found: Found, say: Callable[[Said], None]) -> None:
        self._order = order
        self._found = found
        self._say = say
        self._folder = Path(order.folder)
        self._resize: Resize | None = one_of(order.operations, Resize)
        self._compress: Compress | None = one_of(order.operations, Compress)
        self._thumbnail: Thumbnail | None = one_of(order.operations, Thumbnail)

    def run(self) -> None:
        processed = self._processed() if self._resize or self._compress else None
        if processed is not None and f"processed.{EXTENSIONS[processed.format]}" in self._order.kept:
            processed = None
        placings = [self._processed_place()] if processed else []
        small = self._thumbnail_place()
        if small:
            placings.append(small)
        if not placings:
            return
        if processed and self._animated(processed):
            self._write_animation(processed)
            processed, placings = None, placings[1:]
            if not placings:
                return
        base = _pixels(self._found, placings)
        if processed:
            if self._resize and self._compress:
                self._say(Mark(30))
            self._write_processed(base, processed)
        if small and self._thumbnail:
            self._write_thumbnail(base, self._thumbnail, small)

    def _processed(self) -> Writing:
        asked = self._compress or self._resize
        assert asked is not None
        wanted = self._found.format if asked.format == "same" else asked.format
        if isinstance(asked, Compress):
            return Writing(wanted, asked.quality, asked.progressive, asked.subsampling, asked.background)
        return Writing(wanted)

    def _processed_place(self) -> Placing:
        size, resize = self._found.size, self._resize
        if resize is None:
            return Placing(size, size)
        return place(size, Size(resize.width, resize.height), resize.fit, enlarge=resize.enlarge)

    def _thumbnail_place(self) -> Placing | None:
        asked = self._thumbnail
        if asked is None or any(name.startswith("thumbnail.") for name in self._order.kept):
            return None
        return place(self._found.size, Size(asked.width, asked.height), asked.fit, enlarge=asked.enlarge)

    def _animated(self, how: Writing) -> bool:
        wanted = self._resize is not None and self._resize.animated
        return wanted and self._found.frames > 1 and how.format in _ANIMATED

    def _write_processed(self, base: Any, how: Writing) -> None:
        placing = self._processed_place()
        position, background = (self._resize.position, how.background) if self._resize else ("centre", how.background)
        image = _placed(base, placing, position, background)
        path = self._folder / f"processed.{EXTENSIONS[how.format]}"
        write(image, path, how)
        same = placing.canvas == self._found.size and how.format == self._found.format
        kept = bool(self._compress) and same and self._keep_original(path)
        percent = 50 if self._compress else 30
        self._say(Wrote(path.name, placing.canvas.width, placing.canvas.height, percent, kept))

    def _keep_original(self, written: Path) -> bool:
        """Put the source in the place of what was written, without its metadata, where that is no larger."""
        source = Path(self._found.path)
        upright = self._found.orientation in {0, 1} and not self._found.profile and self._found.frames == 1
        if not upright or written.stat().st_size < source.stat().st_size:
            return False
        bare = strip(source.read_bytes(), self._found.format)
        if bare is None or len(bare) > written.stat().st_size:
            return False
        written.write_bytes(bare)
        return True

    def _write_thumbnail(self, base: Any, asked: Thumbnail, placing: Placing) -> None:
        how = Writing(
            self._found.format if asked.format == "same" else asked.format,
            asked.quality,
            progressive=False,
            background=asked.background,
        )
        path = self._folder / f"thumbnail.{EXTENSIONS[how.format]}"
        write(_placed(base, placing, asked.position, asked.background), path, how)
        self._say(Wrote(path.name, placing.canvas.width, placing.canvas.height, 75))

    def _write_animation(self, how: Writing) -> None:
        found, placing = self._found, self._processed_place()
        strip_of_frames = _load(found.path, found.format, n=-1)
        high = strip_of_frames.get("page-height")
        frames = [
            _placed(_settled(strip_of_frames.crop(0, at * high, strip_of_frames.width, high), found, placing.scaled),
                    placing, "centre", how.background)
            for at in range(found.frames)
        ]  # fmt: skip
        joined = pyvips.Image.arrayjoin(frames, across=1).copy()
        joined.set_type(pyvips.GValue.gint_type, "page-height", placing.canvas.height)
        for name in ("delay", "loop"):
            if strip_of_frames.get_typeof(name):
                joined.set_type(strip_of_frames.get_typeof(name), name, strip_of_frames.get(name))
        path = self._folder / f"processed.{EXTENSIONS[how.format]}"
        write(joined, path, how)
        if self._compress:
            self._say(Mark(30))
        percent = 50 if self._compress else 30
        self._say(Wrote(path.name, placing.canvas.width, placing.canvas.height, percent, frames=found.frames))


def _pixels(found: Found, placings: list[Placing]) -> Any:
    """Decode as small as will do for all outputs, and bring the pixels upright and into sRGB, in memory."""
    largest = max((placing.scaled for placing in placings), key=lambda size: size.pixels)
    work = Size(min(largest.width, found.size.width), min(largest.height, found.size.height))
    options: dict[str, Any] = {}
    if found.format == "jpeg":
        options["shrink"] = jpeg_shrink(found.size, work)
    return _settled(_load(found.path, found.format, **options), found, work)


def _settled(image: Any, found: Found, work: Size) -> Any:
    stored = work.turned if found.lying else work
    alpha, kind = has_alpha(image), image.format
    if alpha:
        image = image.premultiply()
    if (image.width, image.height) != (stored.width, stored.height):
        image = image.resize(stored.width / image.width, vscale=stored.height / image.height, kernel="lanczos3")
    if alpha:
        image = image.unpremultiply()
    image = to_srgb(image.cast(kind).copy_memory())
    if found.orientation > 1:
        image = image.copy_memory().autorot()
    return image.cast("uchar").copy_memory()


def _placed(base: Any, placing: Placing, position: str, background: str) -> Any:
    """Scale the base and cut it, or lay it onto a canvas."""
    scaled, canvas = placing.scaled, placing.canvas
    image = base
    if (image.width, image.height) != (scaled.width, scaled.height):
        alpha = has_alpha(image)
        image = image.premultiply() if alpha else image
        image = image.resize(scaled.width / image.width, vscale=scaled.height / image.height, kernel="lanczos3")
        image = (image.unpremultiply() if alpha else image).cast("uchar")
    if canvas == scaled:
        return image
    if canvas.width > scaled.width or canvas.height > scaled.height:
        image = flat(image, background)
        colour = [int(background[at : at + 2], 16) for at in (1, 3, 5)] if image.bands > 2 else [255]
        return image.gravity("centre", canvas.width, canvas.height, extend="background", background=colour)
    if position == "centre":
        left, top = (scaled.width - canvas.width) // 2, (scaled.height - canvas.height) // 2
        return image.crop(left, top, canvas.width, canvas.height)
    return image.copy_memory().smartcrop(canvas.width, canvas.height, interesting=position)


def _load(path: str, format: str, **options: Any) -> Any:  # noqa: A002 - our word for it
    return _LOADERS[format](path, access="sequential", fail_on="error", **options)


def _check(stored: Size, frames: int, head: Any, limits: ImageLimits) -> None:
    if stored.width > limits.side or stored.height > limits.side or stored.pixels > limits.pixels:
        raise Refused(
            Reason.TOO_MANY_PIXELS,
            f"{stored.width} × {stored.height} pixels are too many; at most {limits.pixels} in all, "
            f"and {limits.side} to a side",
        )
    if frames > limits.frames or stored.pixels * frames > max(limits.animation_pixels, limits.pixels):
        raise Refused(Reason.TOO_MANY_FRAMES, f"{frames} frames are too many; at most {limits.frames}")
    if head.bands > 5:
        raise Refused(Reason.UNSUPPORTED_TYPE, f"a picture with {head.bands} channels is not supported")


def _trouble(error: pyvips.Error) -> MediaError:
    text = " ".join(str(error.detail if hasattr(error, "detail") else error).split())
    lowered = text.lower()
    if "out of memory" in lowered or "unable to allocate" in lowered or "cannot allocate" in lowered:
        return Broken(Reason.OUT_OF_MEMORY, "the picture needs more memory than it may have")
    if "no space left" in lowered or "file too large" in lowered:
        return Broken(Reason.DISK_FULL, "there is no room to write the picture")
    if "unable to open for write" in lowered or "write failed" in lowered or "unable to write" in lowered:
        return Broken(Reason.IO_ERROR, "the picture could not be written")
    # The library says first which part of it speaks.
    return Refused(Reason.CORRUPT, f"the picture cannot be read: {text.rpartition(': ')[2][:300]}")
