"""Reads what ffmpeg says of a file where there is no ffprobe: text for people, alike in all versions since 4.

A line is ours by its indentation and its first word. What stands in a file's
tags is printed behind a name and a colon, so it can never look like a stream.
"""

from __future__ import annotations

import re

from muskox.apps.media.video.facts import AudioFacts, Facts, VideoFacts

__all__ = ["read_text"]

_INPUT = re.compile(r"^Input #0, (\S+), from ", re.MULTILINE)
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?),", re.MULTILINE)
_STREAM = re.compile(r"^  +Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\([^)\n]*\))?: (\w+): (.*)$", re.MULTILINE)
_CHAPTER = re.compile(r"^  +Chapter #0:\d+: start ", re.MULTILINE)
_ROTATION = re.compile(r"^ +(?:displaymatrix|Display Matrix): rotation of (-?\d+(?:\.\d+)?) degrees", re.MULTILINE)
_TAG = re.compile(r"^    (\w[\w.\-]*) *: (.*)$", re.MULTILINE)
_SIZE = re.compile(r"(?<![\w.])(\d{1,6})x(\d{1,6})(?![\w.])")
_ASPECT = re.compile(r"\bSAR (\d+):(\d+)\b")
_FPS = re.compile(r"(?:^|, )(\d+(?:\.\d+)?)(k?) (fps|tbr)\b")
_CHANNELS = {"mono": 1, "stereo": 2, "2.1": 3, "3.0": 3, "quad": 4, "4.0": 4, "5.0": 5, "5.1": 6, "6.1": 7, "7.1": 8}


def read_text(said: str) -> Facts | None:
    """Read what ffmpeg says of its one input; None when it has opened nothing."""
    start = _INPUT.search(said)
    if start is None:
        return None
    said = said[start.start() :]
    found = list(_STREAM.finditer(said))
    if not found:
        return None
    ends = [*(one.start() for one in found[1:]), len(said)]
    streams = [(int(one[1]), one[2], one[3], said[one.end() : end]) for one, end in zip(found, ends, strict=True)]
    videos = [one for one in streams if one[1] == "Video" and "(attached pic)" not in one[2]]
    audios = [one for one in streams if one[1] == "Audio"]
    first_tags = said[: found[0].start()]
    return Facts(
        format=start[1],
        streams=len(streams),
        duration=_duration(said),
        video=_video(videos[0]) if videos else None,
        audio=_audio(audios[0]) if audios else None,
        tags=dict(_TAG.findall(first_tags)),
        others=len(streams) - bool(videos) - bool(audios),
        chapters=len(_CHAPTER.findall(said)),
    )


def _duration(said: str) -> float | None:
    found = _DURATION.search(said)
    return None if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _video(stream: tuple[int, str, str, str]) -> VideoFacts:
    index, _, text, below = stream
    parts = _parts(text)
    codec, profile = _named(parts[0])
    pixels, notes = _named(parts[1]) if len(parts) > 1 else ("", "")
    size = next((found for part in parts[1:] if (found := _SIZE.match(part))), None)
    aspect = _ASPECT.search(text)
    turn = _ROTATION.search(below)
    square = aspect is None or not int(aspect[1]) or not int(aspect[2])
    return VideoFacts(
        index=index,
        codec=codec,
        width=int(size[1]) if size else 0,
        height=int(size[2]) if size else 0,
        profile=profile,
        pixels=pixels,
        aspect=(1, 1) if square or aspect is None else (int(aspect[1]), int(aspect[2])),
        rotation=float(turn[1]) if turn else 0.0,
        fps=_fps(text),
        transfer=_transfer(notes),
    )


def _audio(stream: tuple[int, str, str, str]) -> AudioFacts:
    index, _, text, _ = stream
    parts = _parts(text)
    codec, profile = _named(parts[0])
    rate = next((int(part.split()[0]) for part in parts if re.fullmatch(r"\d+ Hz", part)), 0)
    return AudioFacts(index=index, codec=codec, profile=profile, channels=_channels(parts), rate=rate)


def _parts(text: str) -> list[str]:
    """The pieces between commas that stand in no brackets."""
    return [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text)]


def _named(part: str) -> tuple[str, str]:
    """A word and what stands in the first brackets behind it."""
    found = re.match(r"([\w.]+)(?: ?\(([^)]*)\))?", part)
    return (found[1], found[2] or "") if found else ("", "")


def _channels(parts: list[str]) -> int:
    for part in parts[2:3]:
        name = part.partition("(")[0].strip()
        counted = re.fullmatch(r"(\d+) channels.*", part)
        if counted:
            return int(counted[1])
        return _CHANNELS.get(name, 0)
    return 0


def _fps(text: str) -> float | None:
    """Frames in a second as the file says, else as ffmpeg guesses."""
    rates = {kind: float(number) * (1000 if kilo else 1) for number, kilo, kind in _FPS.findall(text)}
    return rates.get("fps", rates.get("tbr"))


def _transfer(notes: str) -> str:
    """The curve in `tv, bt2020nc/bt2020/smpte2084, progressive`: the last of matrix, primaries and curve."""
    for note in notes.split(", "):
        colours = note.split("/")
        if len(colours) == 3:
            return "" if colours[2] == "unknown" else colours[2]
        if note == "bt709":
            return note  # matrix, primaries and curve alike
    return ""
