"""What a schedule shall be, before the moment at which it is put is known; and what is kept of it then.

Some rules count from the moment at which a schedule is put: an interval from
its first day, a moment in so many seconds. A store knows that moment, not the
one who declares. A pure calculation: nothing is written here.
"""

from __future__ import annotations

import msgspec

from muskox.core.kept import Kept
from muskox.core.schedule import Every, Once, Schedule

__all__ = ["Intent", "first", "resumed", "revised"]


class Intent(msgspec.Struct, frozen=True):
    """A schedule to be put.

    `floating`: its moments count from when it is put first, `after` seconds from then for a `Once`. What the
    schedule says of that itself is a place to be filled.
    """

    schedule: Schedule
    floating: bool = False
    after: float = 0.0

    def at(self, now_us: int) -> Schedule:
        """The schedule when it is put now for the first time."""
        if not self.floating:
            return self.schedule
        match self.schedule.when:
            case Every(seconds):
                return msgspec.structs.replace(self.schedule, when=Every(seconds, now_us))
            case Once():
                # At the earliest just after now, for at once is a moment to come.
                at_us = now_us + max(1, round(self.after * 1_000_000))
                return msgspec.structs.replace(self.schedule, when=Once(at_us))
            case _:
                return self.schedule

    def over(self, kept: Schedule, now_us: int) -> Schedule:
        """The schedule when it is put in the place of one: where both have the same rhythm, it goes on counting."""
        if not self.floating:
            return self.schedule
        match self.schedule.when, kept.when:
            case (Every(new), Every(old)) if new == old:
                return msgspec.structs.replace(self.schedule, when=kept.when)
            case (Once(), Once()):
                return msgspec.structs.replace(self.schedule, when=kept.when)
            case _:
                return self.at(now_us)


def first(schedule: Schedule, now_us: int) -> Kept:
    """What is kept of a schedule that is new."""
    return Kept(schedule, next_us=schedule.first_after(now_us))


def revised(kept: Kept, schedule: Schedule, now_us: int) -> Kept:
    """What is kept when a schedule is changed: a new generation.

    Its next moment stays where its moments are the same; else it is the first after now. In another queue it has no
    last job yet: the one in the old queue is neither in the way of the next nor told of.
    """
    same = _moments(kept.schedule) == _moments(schedule)
    moved = kept.schedule.queue != schedule.queue
    return msgspec.structs.replace(
        kept,
        schedule=schedule,
        generation=kept.generation + 1,
        next_us=kept.next_us if same else schedule.first_after(now_us),
        last_job=None if moved else kept.last_job,
    )


def resumed(kept: Kept, now_us: int) -> Kept:
    """What is kept when a paused schedule goes on: the moments of the pause are no moments of it."""
    if kept.next_us is None or kept.next_us > now_us:
        return msgspec.structs.replace(kept, paused=False)
    # Not before the last one, which a clock that was set back would make possible.
    after = max(now_us, kept.last_us or now_us)
    return msgspec.structs.replace(kept, paused=False, next_us=kept.schedule.first_after(after))


def _moments(schedule: Schedule) -> tuple[object, ...]:
    return schedule.when, schedule.starts_us, schedule.ends_us
