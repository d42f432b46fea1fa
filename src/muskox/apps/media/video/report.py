"""Reads what an encoder says of its progress, and decides when a job tells of it.

Everything here is a plain calculation: bytes and moments come from the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIRST", "LAST", "Meter", "Reader", "Report", "share"]

FIRST, LAST = 5, 95
"""The marks between which the encoder's own progress lies."""

LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Report:
    """Where the encoder is: seconds of output, frames, bytes; None for what it does not say (yet)."""

    out_time: float | None = None
    frame: int | None = None
    size: int | None = None
    fps: float | None = None
    speed: float | None = None
    ended: bool = False

    @property
    def position(self) -> tuple[float, int, int]:
        """What grows while the encoder works."""
        return self.out_time or 0.0, self.frame or 0, self.size or 0


class Reader:
    """Puts `key=value` lines together to reports, however they are cut and whatever else stands between them."""

    def __init__(self) -> None:
        self._rest = b""
        self._said: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Report]:
        """Give the reports that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        # An encoder that floods us without ever ending a line must not fill the memory.
        self._rest = self._rest[-LONGEST_LINE:]
        found = []
        for line in lines:
            key, _, value = line.decode("ascii", "replace").strip().partition("=")
            if key == "progress":
                found.append(_report(self._said, ended=value == "end"))
                self._said = {}
            elif key in _KEYS:
                self._said[key] = value.strip()
        return found


_KEYS = {"out_time_us", "frame", "total_size", "fps", "speed"}


def _report(said: dict[str, str], *, ended: bool) -> Report:
    # `out_time_us` and never `out_time_ms`, which is in microseconds too, whatever its name says.
    micros = _number(said.get("out_time_us"))
    frame, size = _number(said.get("frame")), _number(said.get("total_size"))
    return Report(
        # Before the first packet it is N/A, or as far below zero as a number can be.
        out_time=None if micros is None else max(micros, 0.0) / 1e6,
        frame=None if frame is None else max(int(frame), 0),
        size=None if size is None else max(int(size), 0),
        fps=_number(said.get("fps")),
        speed=_number(said.get("speed", "").removesuffix("x")),
        ended=ended,
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e15 else 0.0 if value < 0 else None


def share(out_time: float | None, duration: float | None) -> float | None:
    """How much of the encoding is done, from 0 to 1; None while that cannot be known."""
    if out_time is None or duration is None or duration <= 0:
        return None
    return min(max(out_time / duration, 0.0), 1.0)


class Meter:
    """Which percentages a job tells and when: they never fall, and at most one in `beat` seconds is told."""

    def __init__(self, *, beat: float = 0.5) -> None:
        self._beat = beat
        self._told = -1
        self._next = float("-inf")

    def move(self, done: float, now: float) -> int | None:
        """What to tell of the share of encoding that is done; None when it is too soon or not a point more.

        That all is done is told at once: an encoder holds frames back and gives the last of them in one go.
        """
        return self.mark(round(FIRST + (LAST - FIRST) * done), now, always=done >= 1)

    def mark(self, percent: int, now: float, *, always: bool = False) -> int | None:
        """What to tell of a step of the work; `always` for the first and the last, however soon they come."""
        if percent <= self._told or (now < self._next and not always):
            return None
        self._told, self._next = percent, now + self._beat
        return percent
