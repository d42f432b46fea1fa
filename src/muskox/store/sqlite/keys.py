"""The lines of keys: which jobs of a key stand in the line of their queue, and which behind them.

The rules are in docs/decisions/limits.md. Whoever lets jobs wait, or takes them away, calls this in the same
transaction; jobs without a key are left out at once. Moments are microseconds; only when a bucket would have been
empty is in nanoseconds, so that fractions of an interval are not lost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from muskox.core.job import JobState
from muskox.core.limits import OPEN_PER_WEIGHT, KeyLimits, Limits
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.select import lane_of
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = [
    "HAS_KEYS",
    "Key",
    "admit",
    "arrive",
    "blocked",
    "finish",
    "join_new",
    "leave",
    "limits_of",
    "look",
    "named",
    "put",
    "read_limits",
    "reopen",
    "with_keys",
]

HAS_KEYS = 2
"""The mark of a queue that has had keys; see migrations/0001.sql."""
MOST_LOOKED_AT = 100

_W, _B, _A = NUMBER[JobState.WAITING], NUMBER[JobState.BLOCKED], NUMBER[JobState.ACTIVE]
_BARE = KeyLimits()


class Key(msgspec.Struct, array_like=True):
    """What is known of a key: a row of the table, to be changed and put back."""

    id: int
    queue: int
    name: str
    waiting: int = 0
    blocked: int = 0
    active: int = 0
    own_text: str | None = None
    empty_ns: int = 0
    held: int | None = None
    look_at: int | None = None

    @property
    def own(self) -> KeyLimits:
        """What was said of this key."""
        return _BARE if self.own_text is None else _read_own(self.own_text)

    def free(self, limits: Limits, now: int) -> int:
        """How many jobs of it may start now, those in line among them."""
        if self.held is not None and self.held > now:
            return 0
        own = self.own
        free = 1 << 30
        if (concurrency := own.concurrency_under(limits)) is not None:
            free = concurrency - self.active
        if (rate := own.rate_under(limits)) is not None:
            free = min(free, rate.tokens(self.empty_ns / 1000, now))
        return max(0, free)

    def room(self, limits: Limits, now: int) -> int:
        """How many blocked jobs may come to the line."""
        return min(OPEN_PER_WEIGHT * self.own.weight, self.free(limits, now)) - self.waiting

    def take(self, limits: Limits, now: int, count: int) -> None:
        """Let so many jobs of it start that stood in line."""
        self.waiting -= count
        self.active += count
        if (rate := self.own.rate_under(limits)) is not None:
            self.empty_ns = round(rate.taken(self.empty_ns / 1000, now, count) * 1000)

    def next_look(self, limits: Limits, now: int) -> int | None:
        """When more of it may come to the line just because time passes; None: only when something else happens."""
        if not self.blocked:
            return None
        if self.held is not None and self.held > now:
            return self.held
        own = self.own
        concurrency, rate = own.concurrency_under(limits), own.rate_under(limits)
        if rate is None or self.waiting >= min(rate.size, OPEN_PER_WEIGHT * own.weight):
            return None
        if concurrency is not None and self.waiting + self.active >= concurrency:
            return None
        empty = min(self.empty_ns / 1000, now)
        return max(now + 1, math.ceil(empty + (self.waiting + 1) * rate.interval))


class _Joining(NamedTuple):
    seq: int
    id: str
    queue: int
    lane: int
    attempt: int
    key: str
    state: int


_read_keys = msgspec.json.Decoder(list[Key]).decode
_read_joining = msgspec.json.Decoder(list[_Joining]).decode
_read_rows = msgspec.json.Decoder(list[tuple[Any, ...]]).decode
_read_numbers = msgspec.json.Decoder(list[int]).decode
_decode_limits = msgspec.json.Decoder(Limits).decode
_decode_own = msgspec.json.Decoder(KeyLimits).decode


@lru_cache(maxsize=1000)
def read_limits(said: str) -> Limits:
    """Limits as they are kept."""
    return _decode_limits(said)


@lru_cache(maxsize=1000)
def _read_own(said: str) -> KeyLimits:
    return _decode_own(said)


def limits_of(tx: Tx, queue: int) -> Limits:
    """What holds for a queue."""
    found = tx.one("limits_of", {"queue": queue})
    return read_limits("{}" if found is None else found[0])


# --- joining ---------------------------------------------------------------------------


def join_new(tx: Tx, after: int) -> set[tuple[int, str]]:
    """Let new jobs with keys, whose rows come after `after` and say blocked, join the lines of their keys.

    Neither tells nor counts them. Gives queue and id of those that have come to the line of their queue.
    """
    [said] = tx.one("new_with_keys", {"after": after}) or ["[]"]
    return {(job.queue, job.id) for job, state in _join(tx, _read_joining(said)) if state == _W}


def blocked(tx: Tx, seqs: Collection[int]) -> list[int]:
    """Those of the jobs that have become blocked."""
    if not seqs:
        return []
    [said] = tx.one("with_keys", {"seqs": text(sorted(seqs))}) or ["[]"]
    return [job.seq for job in _read_joining(said) if job.state == _B]


def with_keys(tx: Tx, seqs: Sequence[int]) -> list[int]:
    """Those of the jobs that have a key."""
    [said] = tx.one("with_keys", {"seqs": text(seqs)}) or ["[]"]
    return [job.seq for job in _read_joining(said)]


def arrive(tx: Tx, seqs: Sequence[int]) -> None:
    """Let jobs with keys, which say blocked and are counted so, join the lines of their keys, and tell of them."""
    if not seqs:
        return
    [said] = tx.one("with_keys", {"seqs": text(seqs)}) or ["[]"]
    for (lane, state), its in groupby(_join(tx, _read_joining(said)), key=lambda pair: (pair[0].lane, pair[1])):
        queue, queue_name, name = lane_of(tx, lane)
        facts = [(job.id, name, job.attempt) for job, _ in its]
        if state == _W:
            tx.count(lane, _B, _W, len(facts))
        tx.tell(queue, STATE[state], facts)
        tx.woken.add(queue_name)


def _join(tx: Tx, jobs: list[_Joining]) -> list[tuple[_Joining, int]]:
    """Put jobs into the lines of their keys; gives each with its state."""
    joined = []
    for queue in {job.queue: None for job in jobs}:
        limits = limits_of(tx, queue)
        keys = named(tx, queue, list({job.key: None for job in jobs if job.queue == queue}))
        _open(tx, [key for key in keys.values() if key.blocked], limits)
        for job in jobs:
            if job.queue == queue:
                key = keys[job.key]
                if key.room(limits, tx.now) > 0:
                    key.waiting += 1
                    joined.append((job, key.id, _W))
                else:
                    key.blocked += 1
                    joined.append((job, key.id, _B))
        put(tx, keys.values(), limits)
    tx.execute("join_lines", {"joined": text([(job.seq, line, state) for job, line, state in joined])})
    return [(job, state) for job, _, state in joined]


def named(tx: Tx, queue: int, names: Sequence[str]) -> dict[str, Key]:
    """Keys by their names, made where they are not there."""
    said = text(names)
    [found] = tx.one("keys_named", {"queue": queue, "names": said}) or ["[]"]
    keys = {key.name: key for key in _read_keys(found)}
    if len(keys) < len(names):
        tx.execute("add_keys", {"queue": queue, "names": said})
        tx.execute("mark_limited", {"queue": queue, "mark": HAS_KEYS})
        [found] = tx.one("keys_named", {"queue": queue, "names": said}) or ["[]"]
        keys = {key.name: key for key in _read_keys(found)}
    return keys


def put(tx: Tx, keys: Iterable[Key], limits: Limits) -> None:
    """Write keys of one queue back, each with when it is to be looked at."""
    written = []
    for key in keys:
        key.look_at = key.next_look(limits, tx.now)
        written.append((key.id, key.waiting, key.blocked, key.active, key.empty_ns, key.held, key.look_at))
    if written:
        tx.execute("write_keys", {"keys": text(written)})


# --- leaving ---------------------------------------------------------------------------


def leave(tx: Tx, seqs: Sequence[int]) -> set[int]:
    """Take jobs that are about to be moved out of the lines of their keys, and let others follow.

    Gives those that had a key: in line, blocked or active.
    """
    if not seqs:
        return set()
    [said] = tx.one("in_lines", {"seqs": text(seqs)}) or ["[]"]
    found = _read_rows(said)
    if found:
        tx.execute("leave_lines", {"seqs": text([seq for seq, _, _ in found])})
        _give_back(tx, Counter([(line, state) for _, line, state in found]))
    return {seq for seq, _, _ in found}


def finish(tx: Tx, seqs: Sequence[int]) -> None:
    """`leave` for jobs that have just been completed."""
    [said] = tx.one("lines_of_active", {"seqs": text(seqs)}) or ["[]"]
    if lines := _read_numbers(said):
        _give_back(tx, Counter([(line, _A) for line in lines]))


def _give_back(tx: Tx, left: Counter[tuple[int, int]]) -> None:
    keys = _keys_of(tx, {line: None for line, _ in left})
    for (line, state), count in left.items():
        key = keys[line]
        key.waiting -= count if state == _W else 0
        key.blocked -= count if state == _B else 0
        key.active -= count if state == _A else 0
    _open_and_put(tx, keys.values())


def _keys_of(tx: Tx, lines: Iterable[int]) -> dict[int, Key]:
    [said] = tx.one("keys_of", {"ids": text(list(lines))}) or ["[]"]
    return {key.id: key for key in _read_keys(said)}


# --- opening ---------------------------------------------------------------------------


def look(tx: Tx, queue: int, limit: int = MOST_LOOKED_AT) -> int:
    """Let jobs come to the line whose keys only waited for time; gives how many there were."""
    [said] = tx.one("keys_to_look_at", {"queue": queue, "now": tx.now, "limit": limit}) or ["[]"]
    found = _read_keys(said)
    return _open_and_put(tx, found) if found else 0


def reopen(tx: Tx, key: Key) -> None:
    """Put a key back of which was changed what holds for it, and let its jobs come as far as they may now."""
    _open_and_put(tx, [key])


def _open_and_put(tx: Tx, keys: Iterable[Key]) -> int:
    opened = 0
    for queue, its in _by_queue(keys).items():
        limits = limits_of(tx, queue)
        opened += _open(tx, its, limits)
        put(tx, its, limits)
    return opened


def _by_queue(keys: Iterable[Key]) -> dict[int, list[Key]]:
    queues: dict[int, list[Key]] = {}
    for key in keys:
        queues.setdefault(key.queue, []).append(key)
    return queues


def _open(tx: Tx, keys: Iterable[Key], limits: Limits) -> int:
    """Let blocked jobs of keys of one queue come to the line as far as there is room; the keys are changed, not put."""
    rooms: dict[int, list[Key]] = {}
    for key in keys:
        room = min(key.blocked, key.room(limits, tx.now)) if key.blocked else 0
        if room > 0:
            key.waiting += room
            key.blocked -= room
            rooms.setdefault(room, []).append(key)
    found: list[tuple[Any, ...]] = []
    # One statement for all keys with the same room: SQLite takes no limit from a row.
    for room, its in rooms.items():
        [said] = tx.one("next_in_lines", {"lines": text([key.id for key in its]), "room": room}) or ["[]"]
        found += _read_rows(said)
    if found:
        tx.execute("open", {"now": tx.now, "seqs": text([row[0] for row in found])})
        _tell(tx, found, _B, _W)
    return len(found)


def _tell(tx: Tx, found: list[tuple[Any, ...]], source: int, target: int) -> None:
    """Count and tell of moves between blocked and waiting: `found` begins with seq, id, lane and attempt."""
    by_lane: dict[int, list[tuple[Any, ...]]] = {}
    for row in found:
        by_lane.setdefault(row[2], []).append(row)
    for lane, its in by_lane.items():
        queue, queue_name, name = lane_of(tx, lane)
        tx.count(lane, source, target, len(its))
        tx.tell(queue, STATE[target], [(row[1], name, row[3]) for row in its])
        if target == _W:
            tx.woken.add(queue_name)


# --- claiming --------------------------------------------------------------------------


def admit(tx: Tx, picks: Sequence[tuple[int, int, str, int, int]]) -> tuple[set[int], dict[int, str]]:
    """Let picked jobs with keys start, as far as these let them now, and others of their keys follow.

    Of each pick: seq, line, id, lane and attempt. Gives those that may not start, which go back to the lines of their
    keys, and the names of the keys by their rows.
    """
    keys = _keys_of(tx, {line: None for _, line, _, _, _ in picks})
    limits = {queue: limits_of(tx, queue) for queue in {key.queue for key in keys.values()}}
    free = {line: key.free(limits[key.queue], tx.now) for line, key in keys.items()}
    started: Counter[int] = Counter()
    back = []
    for seq, line, id, lane, attempt in picks:
        if started[line] < free[line]:
            started[line] += 1
        else:
            back.append((seq, id, lane, attempt))
            keys[line].waiting -= 1
            keys[line].blocked += 1
    for line, count in started.items():
        keys[line].take(limits[keys[line].queue], tx.now, count)
    if back:
        tx.execute("go_back", {"seqs": text([row[0] for row in back])})
        _tell(tx, back, _W, _B)
    _open_and_put(tx, keys.values())
    return {row[0] for row in back}, {line: key.name for line, key in keys.items()}
