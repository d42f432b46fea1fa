"""What the stores share about schedules: the text in which one is kept, and how such a text is read again.

It asks no database and knows none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from muskox.core.errors import OptionError
from muskox.core.kept import Kept
from muskox.core.schedule import Overlap, Schedule
from muskox.core.zones import FIRST_US, LAST_US

__all__ = ["Outline", "due_of", "fault", "outline", "read", "text"]

log = logging.getLogger("muskox.store")

_encode = msgspec.json.Encoder().encode
_schedule = msgspec.json.Decoder(Schedule)


class Outline(msgspec.Struct, frozen=True, gc=False):
    """What a store itself must know of a schedule."""

    queue: str
    overlap: Overlap = Overlap.ALLOW


_outline = msgspec.json.Decoder(Outline)


def text(schedule: Schedule) -> str:
    """A schedule as it is kept."""
    return _encode(schedule).decode()


def read(name: str, kept: str) -> Schedule | None:
    """The schedule in a text; None, and a warning, when this release or this machine cannot read it.

    It may have been written by a newer release, or name a time zone that is not known here: nobody fires it here
    then, and all others go on.
    """
    try:
        return _schedule.decode(kept)
    except (msgspec.DecodeError, OptionError) as error:
        log.warning("schedule %s cannot be read here and is left alone: %s", name, error)
        return None


def outline(kept: str) -> Outline:
    """What a store must know of the schedule in a text, also where the rest cannot be read."""
    try:
        return _outline.decode(kept)
    except msgspec.DecodeError:
        return Outline("")


def due_of(kept: Iterable[Kept], now_us: int, limit: int) -> list[Kept]:
    """Those that are due, earliest first, at most `limit`."""
    due = [
        (one.next_us, one.schedule.name, one)
        for one in kept
        if not one.paused and one.next_us is not None and one.next_us <= now_us
    ]
    return [one for _, _, one in sorted(due, key=lambda found: found[:2])][: max(0, limit)]


def fault(name: str, kept: str, version: int, generation: int, next_us: int | None) -> str | None:
    """What is wrong with a schedule as it is kept; None when nothing is."""
    try:
        schedule = _schedule.decode(kept)
    except (msgspec.DecodeError, OptionError) as error:
        return f"it cannot be read: {error}"
    if schedule.name != name:
        return f"it says that its name is {schedule.name}"
    if version < 1 or generation < 1:
        return f"its version {version} and generation {generation} are not both greater than 0"
    if next_us is not None and not FIRST_US <= next_us <= LAST_US:
        return f"its next moment {next_us} is none"
    return None
