"""What keeps one piece of work from being added twice: a key, how long it counts, and what becomes of a second add.

Whether a key counts at some moment can be told from the job that has it (docs/decisions/dedup.md), so stores keep only
which job that is. They look when a job is added; nothing has to be done when one starts or ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, get_args

import msgspec

from muskox.core.errors import OptionError

__all__ = ["Dedup", "Then", "Until", "read"]

Until = Literal["started", "ended"]
Then = Literal["existing", "reject", "replace", "keep-last"]

_MOST_KEY = 255
_LONGEST_WINDOW = 366 * 86_400.0


class Dedup(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most one job of a queue with this key.

    `until` says for how long the job has its key: until it has "ended", in whichever way, or only until a run of it
    has "started", so that one may wait while another runs. With a `window`, in seconds or as a `timedelta`, it has it
    for so long after it was added, whatever becomes of it, unless it is cancelled or removed.

    `then` is what becomes of another one that is added meanwhile: nothing, and the answer is the job that is there
    ("existing"); `Duplicate` is raised ("reject"); its data, priority, delay and options take the place of those of
    the job that is there, if that has not started yet ("replace"); or the same, and while that one runs the newest is
    remembered and added when it has ended ("keep-last").
    """

    key: str
    until: Until = "ended"
    window: float | timedelta | None = None
    then: Then = "existing"

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not 1 <= len(self.key) <= _MOST_KEY or not self.key.isprintable():
            raise OptionError(
                f"dedup key {_shown(self.key)} is not allowed; use 1 to {_MOST_KEY} printable characters, "
                "of longer ones a hash"
            )
        _check_word("until", self.until, get_args(Until))
        _check_word("then", self.then, get_args(Then))
        if self.window is not None:
            msgspec.structs.force_setattr(self, "window", _window(self.window))
            if self.until != "ended":
                raise OptionError("window and until both say how long a key counts; give one of them")
        if self.then == "keep-last" and (self.window is not None or self.until != "ended"):
            raise OptionError(
                "then='keep-last' remembers what comes while a job runs, so its key must count until the job has "
                "'ended'; leave until and window out, or use then='replace'"
            )

    @property
    def window_us(self) -> int | None:
        """The window in microseconds."""
        return None if self.window is None else int(_window(self.window) * 1_000_000)


def read(given: Any) -> Dedup | None:
    """What was given as `dedup`: a rule, its key alone, or None."""
    if given is None or isinstance(given, Dedup):
        return given
    if isinstance(given, str):
        return Dedup(given)
    raise OptionError(f"dedup must be a Dedup or a key, not {_shown(given)}")


def _window(given: Any) -> float:
    found = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= _LONGEST_WINDOW:
        raise OptionError(f"a dedup window must be more than 0 seconds and at most a year, not {given!r}")
    return float(found)


def _check_word(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} of a dedup rule must be one of {', '.join(allowed)}, not {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"
