"""Finds ffmpeg and, where there is one, ffprobe, and checks that they can do what is needed.

The system's own is preferred; where there is none, or it lacks an encoder, the
one of the package `imageio-ffmpeg` serves. Nothing is ever downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from muskox.apps.media.video.errors import VideoToolsMissing

try:
    import imageio_ffmpeg
except ImportError:  # the extra is not installed, and the system's ffmpeg may do
    imageio_ffmpeg = None

__all__ = ["Tools", "find_tools"]

NEEDED_ENCODERS = frozenset({"libx264", "aac", "mjpeg"})
NEEDED_FILTERS = frozenset(
    {"scale", "setsar", "format", "fps", "thumbnail", "tile", "concat", "tpad", "signalstats", "metadata"}
)
OLDEST = (4, 4)
"""The first version that has all that is asked of it."""

REMEDY = "install it (Debian: apt install ffmpeg), say where it is, or pip install 'muskox[media]', which brings one"

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Tools:
    """An ffmpeg that can do what is needed; `ffprobe` is None where it came without one."""

    ffmpeg: str
    ffprobe: str | None
    version: str
    filters: frozenset[str]

    @property
    def maps_tones(self) -> bool:
        """Whether it can bring pictures of high dynamic range into the usual one."""
        return {"zscale", "tonemap"} <= self.filters


def find_tools(*, ffmpeg: str | None = None, ffprobe: str | None = None, wheel: bool = True) -> Tools:
    """Find an ffmpeg and check it: the one that is named, else the system's, else the wheel's. Blocks for moments.

    Raises `VideoToolsMissing`, which says what was looked at and what to do.
    """
    if os.name != "posix":
        raise VideoToolsMissing("videos need Linux, macOS or another Unix; run the worker for them there")
    faults = []
    for where, program in _candidates(ffmpeg, wheel=wheel):
        try:
            return _checked(program, ffprobe)
        except VideoToolsMissing as fault:
            faults.append(f"{where}: {fault}")
    looked = "; ".join(faults) or "there is none on the PATH and none from imageio-ffmpeg"
    raise VideoToolsMissing(f"no usable ffmpeg ({looked}); {REMEDY}")


def _candidates(named: str | None, *, wheel: bool) -> list[tuple[str, str]]:
    if named is not None:
        return [("the one named in the settings", named)]
    found = []
    on_path = shutil.which("ffmpeg")
    if on_path is not None:
        found.append(("the system's", on_path))
    bundled = _bundled() if wheel else None
    if bundled is not None:
        found.append(("the one of imageio-ffmpeg", bundled))
    return found


def _bundled() -> str | None:
    if imageio_ffmpeg is None:
        return None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # its package for this machine comes without a binary
        return None


def _checked(program: str, ffprobe: str | None) -> Tools:
    full = shutil.which(program)
    if full is None:
        raise VideoToolsMissing(f"{program} is not there or may not be run")
    full = str(Path(full).absolute())
    version = _version(_ask(full, "-version"), full)
    encoders = _listed(_ask(full, "-encoders"))
    filters = _listed(_ask(full, "-filters"))
    lacking = sorted((NEEDED_ENCODERS - encoders) | (NEEDED_FILTERS - filters))
    if lacking:
        raise VideoToolsMissing(f"{full} was built without {', '.join(lacking)}")
    return Tools(full, _prober(full, ffprobe), version, filters)


def _prober(ffmpeg: str, named: str | None) -> str | None:
    """The ffprobe that is named, else the one beside the ffmpeg; one from elsewhere may be of another age."""
    if named is None:
        beside = shutil.which(str(Path(ffmpeg).with_name("ffprobe")))
        return beside if beside is not None and _works(beside) else None
    full = shutil.which(named)
    if full is None or not _works(full):
        raise VideoToolsMissing(f"{named} is not there or does not run")
    return str(Path(full).absolute())


def _works(program: str) -> bool:
    try:
        _ask(program, "-version")
    except VideoToolsMissing:
        return False
    return True


def _ask(program: str, *words: str) -> str:
    argv = [program, "-hide_banner", *words]
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True)  # noqa: S603 - the administrator says which program
    except (OSError, subprocess.SubprocessError) as error:
        raise VideoToolsMissing(f"{program} does not run ({error})") from error
    return done.stdout.decode("utf-8", "replace")


def _version(said: str, program: str) -> str:
    found = re.match(r"ff\w+ version (\S+)", said)
    if found is None:
        raise VideoToolsMissing(f"{program} does not say what it is")
    version = found[1]
    number = re.match(r"n?(\d+)\.(\d+)", version)
    # Builds from a repository have a revision instead of a number, and are taken as they are.
    if number is not None and (int(number[1]), int(number[2])) < OLDEST:
        raise VideoToolsMissing(
            f"{program} is version {version}, and {OLDEST[0]}.{OLDEST[1]} is the oldest that will do"
        )
    return version


def _listed(said: str) -> frozenset[str]:
    """The names in a list of ffmpeg's: each line has flags, a name and what it is."""
    return frozenset(re.findall(r"^ [A-Z.|]{2,6} +([\w-]+) ", said, re.MULTILINE))
