"""Why a run failed, as text that can be stored and shown.

Only text crosses from a run into the store: exceptions may refuse to be
pickled, printed or even asked for their message. Whether a failure means
another attempt is decided in `life.py`.
"""

from __future__ import annotations

import traceback
from enum import StrEnum

import msgspec

from muskox.core.errors import FinalError

__all__ = ["Failure", "FailureKind", "describe"]

MESSAGE_LIMIT = 4_000
TRACEBACK_LIMIT = 16_000


class FailureKind(StrEnum):
    """In which way a job failed."""

    ERROR = "error"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    EXPIRED = "expired"
    REFUSED = "refused"
    RESULT = "result"
    PARENT = "parent"


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Kind, type and text of what went wrong; `final` when another attempt would be useless."""

    kind: FailureKind
    type: str = ""
    message: str = ""
    traceback: str = ""
    final: bool = False

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.type else self.message


def describe(
    error: BaseException, kind: FailureKind = FailureKind.ERROR, *, final_on: tuple[type[BaseException], ...] = ()
) -> Failure:
    """Put an exception into text, whatever it does when it is looked at.

    Message and traceback are cut to fixed lengths; control characters stay, so
    that whoever shows the text must make it inert.
    """
    return Failure(
        kind=kind,
        type=_cut(f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."), 255),
        message=_cut(_message(error), MESSAGE_LIMIT),
        traceback=_cut(_trace(error), TRACEBACK_LIMIT, keep_end=True),
        final=isinstance(error, (FinalError, *final_on)),
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001 - the error's own __str__ is foreign code and may raise anything
        return f"(its text cannot be had: __str__ raised {type(broken).__name__})"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-20))
    except BaseException as broken:  # noqa: BLE001 - a broken chain must not lose the failure itself
        return f"(its traceback cannot be had: {type(broken).__name__})"


def _cut(text: str, most: int, *, keep_end: bool = False) -> str:
    clean = text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    if len(clean) <= most:
        return clean
    note = f"… ({len(clean)} characters)"
    return f"{note}\n{clean[-most:]}" if keep_end else f"{clean[:most]}{note}"
