"""Reads what ffprobe says of a file. Fields that are missing or make no sense are left out, never guessed."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from muskox.apps.media.video.facts import AudioFacts, Facts, VideoFacts

__all__ = ["read_json"]


class _Stream(msgspec.Struct):
    index: int = 0
    codec_type: str = ""
    codec_name: str = ""
    profile: Any = ""
    width: int = 0
    height: int = 0
    sample_aspect_ratio: str = ""
    pix_fmt: str = ""
    color_transfer: str = ""
    avg_frame_rate: str = ""
    r_frame_rate: str = ""
    duration: str = ""
    channels: int = 0
    sample_rate: str = ""
    disposition: dict[str, int] = {}
    tags: dict[str, str] = {}
    side_data_list: list[dict[str, Any]] = []


class _Format(msgspec.Struct):
    format_name: str = ""
    duration: str = ""
    tags: dict[str, str] = {}


class _Said(msgspec.Struct):
    format: _Format | None = None
    streams: list[_Stream] = []
    chapters: list[dict[str, Any]] = []


def read_json(data: bytes) -> Facts | None:
    """Read ffprobe's answer; None when it has opened nothing."""
    try:
        # Tags are bytes of the file's own, and need not be text.
        said = msgspec.json.decode(data.decode("utf-8", "replace"), type=_Said)
    except msgspec.MsgspecError:
        return None
    if said.format is None or not said.streams:
        return None
    video = next((one for one in said.streams if one.codec_type == "video" and not _is_artwork(one)), None)
    audio = next((one for one in said.streams if one.codec_type == "audio"), None)
    lengths = [_number(said.format.duration), *(_number(one.duration) for one in (video, audio) if one)]
    known = [one for one in lengths if one is not None]
    return Facts(
        format=said.format.format_name,
        streams=len(said.streams),
        duration=known[0] if known else None,
        video=None if video is None else _video(video),
        audio=None if audio is None else _audio(audio),
        tags=said.format.tags,
        others=sum(one not in (video, audio) for one in said.streams),
        chapters=len(said.chapters),
    )


def _is_artwork(stream: _Stream) -> bool:
    return bool(stream.disposition.get("attached_pic") or stream.disposition.get("timed_thumbnails"))


def _video(one: _Stream) -> VideoFacts:
    turns = [_number(str(side.get("rotation", ""))) for side in one.side_data_list]
    return VideoFacts(
        index=one.index,
        codec=one.codec_name,
        width=one.width,
        height=one.height,
        profile=str(one.profile),
        pixels=one.pix_fmt,
        aspect=_ratio(one.sample_aspect_ratio, ":") or (1, 1),
        rotation=next((turn for turn in turns if turn is not None), 0.0),
        fps=_rate(one.avg_frame_rate) or _rate(one.r_frame_rate),
        transfer=one.color_transfer,
    )


def _audio(one: _Stream) -> AudioFacts:
    return AudioFacts(
        index=one.index,
        codec=one.codec_name,
        profile=str(one.profile),
        channels=one.channels,
        rate=int(_number(one.sample_rate) or 0),
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _ratio(text: str, sign: str) -> tuple[int, int] | None:
    over, _, under = text.partition(sign)
    if over.isdecimal() and under.isdecimal() and int(over) > 0 and int(under) > 0:
        return int(over), int(under)
    return None


def _rate(text: str) -> float | None:
    found = _ratio(text, "/")
    return None if found is None else found[0] / found[1]
