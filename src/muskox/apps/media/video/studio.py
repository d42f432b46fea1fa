"""Runs the commands of one task, hears their progress, and says of failures what they mean.

What is to be run is said by the caller; whether the result is good is found out
in `verify.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from muskox.apps.media.errors import Broken, MediaError, Reason, Refused
from muskox.apps.media.limits import VideoLimits
from muskox.apps.media.video.commands import Source, measure
from muskox.apps.media.video.encoder import Encoder, Headway, Reins
from muskox.apps.media.video.errors import EncoderFailed
from muskox.apps.media.video.report import Reader, Report

__all__ = ["Studio", "meaning"]

HearReport = Callable[[Report], Awaitable[None]]

_MEANINGS: list[tuple[tuple[str, ...], type[MediaError], Reason]] = [
    (("no space left", "disk quota exceeded"), Broken, Reason.DISK_FULL),
    (("cannot allocate memory", "out of memory"), Broken, Reason.OUT_OF_MEMORY),
    (
        ("decoder not found", "no decoder", "unknown decoder", "not supported", "patchwelcome", "not yet implemented"),
        Refused,
        Reason.UNSUPPORTED_CODEC,
    ),
    (
        (
            *("invalid data", "error while decoding", "decode error", "could not find codec parameters", "corrupt"),
            *("error opening input", "ended prematurely", "partial file", "cannot determine format"),
        ),
        Refused,
        Reason.CORRUPT,
    ),
]


def meaning(error: EncoderFailed) -> MediaError:
    """What it means that an encoder gave up: whose fault it is, and whether to try again."""
    said = error.complaint.lower()
    for words, kind, reason in _MEANINGS:
        if any(word in said for word in words):
            return kind(reason, error.text)
    return error


class Studio:
    """Everything that runs for one task, in its folder and within its limits."""

    def __init__(self, encoder: Encoder, limits: VideoLimits, folder: Path, *, size: int, threads: int) -> None:
        self._encoder = encoder
        self._folder = folder
        self._reins = Reins(
            wall=limits.wall,
            cpu=limits.wall * threads,
            memory=limits.memory,
            output=limits.output_factor * size + limits.output_extra,
            stall=limits.stall,
        )

    async def run(self, argv: Sequence[str], hear: HearReport | None = None) -> str:
        """Run a command to its end; gives what it complained of. Raises as `Encoder.run`, and what it means."""
        reader, headway = Reader(), Headway()

        async def listen(data: bytes) -> None:
            for report in reader.feed(data):
                headway.position = report.position
                if hear is not None:
                    await hear(report)

        try:
            return await self._encoder.run(argv, folder=self._folder, reins=self._reins, hear=listen, headway=headway)
        except EncoderFailed as error:
            raise meaning(error) from error

    async def measure(self, source: Source) -> float | None:
        """How long a video is, by its packets and not by what its head says."""
        last: list[float] = []

        async def hear(report: Report) -> None:
            if report.out_time is not None:
                last.append(report.out_time)

        await self.run(measure(source), hear)
        return max(last, default=None)
