"""Puts ids into the form in which they are kept: a UUID as its sixteen bytes, all others as they are.

An id stands in several places while its job waits, so its length counts. It
checks nothing; which ids are allowed is said in the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Seen", "long", "longs", "packable", "short", "shorts"]

_MARK = 255
"""Begins the short form, since no text in UTF-8 begins with it."""
_SIZE = 17
_HEADER = b"\xb1"
"""Begins a string of that size in msgpack."""
_MOST_SEEN = 20_000


def short(id: str) -> bytes:
    """The id as the server keeps it."""
    its = _bytes(id)
    return id.encode() if its is None else b"\xff" + its


def packable(id: str) -> str | msgspec.Raw:
    """The short form within what is packed for a step; a string, which the msgpack of servers has no bytes beside."""
    its = _bytes(id)
    return id if its is None else msgspec.Raw(b"\xb1\xff" + its)


def long(kept: bytes) -> str:
    """The id from what is kept."""
    if kept[0] != _MARK:
        return kept.decode()
    its = kept.hex()
    return f"{its[2:10]}-{its[10:14]}-{its[14:18]}-{its[18:22]}-{its[22:]}"


def shorts(kept: Sequence[bytes]) -> msgspec.Raw | list[msgspec.Raw]:
    """Many ids in the form in which they are kept, within what is packed for a step."""
    # Most are UUIDs, and need no look at each.
    if set(map(len, kept)) == {_SIZE}:
        return msgspec.Raw(b"\xdd" + len(kept).to_bytes(4, "big") + _HEADER + _HEADER.join(kept))
    return [msgspec.Raw(b"\xdb" + len(one).to_bytes(4, "big") + one) for one in kept]


def longs(packed: bytes) -> list[str]:
    """The ids from a msgpack array of what is kept, whose strings are no text to others."""
    count, at = _length(packed, 0, 0x90, 15)
    found = []
    for _ in range(count):
        size, at = _length(packed, at, 0xA0, 31)
        found.append(long(packed[at : at + size]))
        at += size
    return found


def _length(packed: bytes, at: int, small: int, most: int) -> tuple[int, int]:
    """The length that a header in msgpack tells of an array or string, and where it ends."""
    first = packed[at]
    if first & ~most == small:
        return first & most, at + 1
    # One byte follows for a string (0xd9), two or four for both.
    width = 1 if first == 0xD9 else 2 if first in {0xDA, 0xDC} else 4
    return int.from_bytes(packed[at + 1 : at + 1 + width], "big"), at + 1 + width


def _bytes(id: str) -> bytes | None:
    """The bytes of a UUID in the one way of writing that `long` gives back."""
    if len(id) != 36 or id[8:24:5] != "----":
        return None
    digits = id.replace("-", "")
    try:
        its = bytes.fromhex(digits)
    except ValueError:
        return None
    return its if len(its) == 16 and its.hex() == digits else None


class Seen:
    """Ids that were read a moment ago, in both forms: those that are claimed are settled soon."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def read(self, kept: Sequence[bytes]) -> list[str]:
        """The ids from what is kept."""
        if len(self._kept) > _MOST_SEEN:
            self._kept.clear()
        ids = [long(one) for one in kept]
        self._kept.update(zip(ids, kept, strict=True))
        return ids

    def short(self, ids: Iterable[str]) -> list[bytes]:
        """The ids as they are kept; those that were seen are forgotten by that."""
        seen = self._kept.pop
        return [seen(id, b"") or short(id) for id in ids]
