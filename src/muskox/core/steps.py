"""What a job has done so far, step by step: the results that later attempts need not earn again.

A plain value; whoever runs the job reads it, and writes it under the job's lease.
"""

from __future__ import annotations

import msgspec

from muskox.core.errors import DataError, OptionError
from muskox.core.job import check_step_name

__all__ = ["Steps"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Steps:
    """The steps of a job as one run sees them: results by name, as JSON text, and the names that it has used."""

    def __init__(self, text: str | None) -> None:
        self._kept = {} if text is None else {name: bytes(its).decode() for name, its in _decode(text).items()}
        self._used: set[str] = set()

    def begin(self, name: str) -> str | None:
        """The result that is kept of a step, None when it has to be done.

        Raises `OptionError` for a name that this run has used: two steps of one name could not be told apart.
        """
        check_step_name(name)
        if name in self._used:
            raise OptionError(f"step {name!r} is used twice in one run; give each step a name of its own")
        self._used.add(name)
        return self._kept.get(name)

    def undo(self, name: str) -> None:
        """A step has failed: its name is free again."""
        self._used.discard(name)

    def keep(self, name: str, result: str, *, limit: int) -> str:
        """Add the result of a step; returns all of them as one text. Raises `DataError` beyond `limit` bytes."""
        kept = {**self._kept, name: result}
        text = "{" + ",".join([f"{_encode(one).decode()}:{its}" for one, its in kept.items()]) + "}"
        if (size := len(text.encode())) > limit:
            raise DataError(
                f"the results of all steps take {size} bytes with that of {name!r}, more than the {limit} allowed; "
                "keep large things elsewhere and return where they are"
            )
        self._kept = kept
        return text
