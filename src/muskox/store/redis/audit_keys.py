"""Compares what is kept of the keys and limits of a queue with its jobs. It mends nothing.

How a key is kept is told on top of `lua/keyed.lua`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping

import msgspec

from muskox.core.job import JobState
from muskox.core.limits import OPEN_PER_WEIGHT

__all__ = ["BlockedLines", "Kept", "compare"]

_STATES = {"waiting": JobState.WAITING, "blocked": JobState.BLOCKED, "active": JobState.ACTIVE}

KeyCounts = Counter[tuple[str, JobState]]
"""How many jobs of a key are in a state."""

BlockedLines = Mapping[str, set[bytes]]
"""Per key what stands in its line of blocked jobs, as stamp and id."""


class _Own(msgspec.Struct, array_like=True):
    text: str
    weight: int
    concurrency: int
    interval: float
    size: int


class _More(msgspec.Struct, array_like=True):
    empty: float = 0
    hold: float = 0
    own: _Own | bool = False


class _Key(msgspec.Struct):
    open: int = 0
    active: int = 0
    blocked: int = 0
    listed: int = 0
    own: _Own | None = None


class _Rule(msgspec.Struct, array_like=True):
    text: str = "{}"
    declared: str = ""
    interval: float = 0
    size: int = 0
    concurrency: int = 0
    key_interval: float = 0
    key_size: int = 0
    key_concurrency: int = 0


_FIGURES = struct.Struct(">IIIB")
_more = msgspec.msgpack.Decoder(_More)
_rule = msgspec.msgpack.Decoder(_Rule)


class Kept(msgspec.Struct):
    """What is kept for the limits and keys of a queue, as it stands there."""

    keys: dict[bytes, bytes]
    names: set[bytes]
    times: set[bytes]
    idle: set[bytes]
    rule: bytes | None
    active: int | None
    walks: bool


def compare(kept: Kept, lines: BlockedLines, real: KeyCounts, active: int) -> list[str]:
    """What does not fit, in words; `real` is counted from the jobs, and `active` how many of them run."""
    try:
        keys = {key.decode(): _read_key(record) for key, record in kept.keys.items()}
        rule = _rule.decode(kept.rule) if kept.rule else _Rule()
    except (msgspec.DecodeError, struct.error) as error:
        return [f"its limits or a key's record is damaged: {error}"]
    found = [] if kept.names == kept.keys.keys() else ["its keys are not those by whose names they are found"]
    for key in keys.keys() | {key for key, _ in real}:
        found += _compare_key(key, keys.get(key, _Key()), rule, kept, lines, real)
    if (kept.active is None) != (rule.concurrency == 0) or kept.active not in (None, active):
        found.append(f"{kept.active} jobs are said to run under its limit, {active} do")
    return found


def _read_key(record: bytes) -> _Key:
    more = _more.decode(record[_FIGURES.size :]) if len(record) > _FIGURES.size else _More()
    waiting, active, blocked, listed = _FIGURES.unpack_from(record)
    return _Key(waiting, active, blocked, listed, more.own if isinstance(more.own, _Own) else None)


def _compare_key(key: str, its: _Key, rule: _Rule, kept: Kept, lines: BlockedLines, real: KeyCounts) -> list[str]:
    said = {"waiting": its.open, "blocked": its.blocked, "active": its.active}
    found = [
        f"{said[word]} jobs of the key {key!r} are said to be {word}, {real[key, state]} are"
        for word, state in _STATES.items()
        if said[word] != real[key, state]
    ]
    if len(lines.get(key, ())) != its.blocked:
        found.append(f"{len(lines.get(key, ()))} jobs stand in the line of the key {key!r}, {its.blocked} are said to")
    listed = (key.encode() in kept.times) + 2 * (key.encode() in kept.idle)
    if listed != its.listed:
        found.append(f"the key {key!r} is not where it is looked for")
    if not any(said.values()) and not its.own and not its.listed:
        found.append(f"the key {key!r} has nothing and is kept")
    if its.blocked and its.listed != 1 and not kept.walks and _may_stand(its, rule):
        found.append(f"jobs of the key {key!r} are blocked, and nothing holds them")
    return found


def _may_stand(its: _Key, rule: _Rule) -> bool:
    """Whether more of a key may stand in line by now, or by some moment."""
    weight, concurrency, interval, size = 1, rule.key_concurrency, rule.key_interval, rule.key_size
    if its.own is not None:
        weight = its.own.weight
        concurrency = concurrency if its.own.concurrency < 0 else its.own.concurrency
        interval, size = (interval, size) if its.own.interval < 0 else (its.own.interval, its.own.size)
    most = OPEN_PER_WEIGHT * weight
    if concurrency:
        most = min(most, concurrency - its.active)
    return its.open < (min(most, size) if interval else most)
