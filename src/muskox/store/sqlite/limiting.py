"""The steps about limits: put them, look at them, hold; and what they let a claim take from a queue.

How the jobs of a key come to the line is in `keys.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from muskox.core.job import JobState
from muskox.core.limits import NO_LIMITS, KeyLimits, Limits
from muskox.store.protocol import Finding, KeyState, QueueLimits, Standing
from muskox.store.sqlite import keys, select
from muskox.store.sqlite.keys import Key
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = [
    "HAS_LIMITS",
    "Gate",
    "audit",
    "forget",
    "hold",
    "limit",
    "limit_key",
    "look",
    "look_at_due",
    "look_at_keys",
    "standing",
]

HAS_LIMITS = 1
"""The mark of a queue that has limits or a hold of its own; see migrations/0001.sql."""

_A = NUMBER[JobState.ACTIVE]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Key]).decode


# --- putting ---------------------------------------------------------------------------


def limit(tx: Tx, queue: str, limits: Limits, declared: bool) -> bool:
    """Put what holds for a queue; whether that changed anything."""
    there = tx.one("find_queue", {"queue": queue}) or [None]
    said, _, _, last = tx.one("limits_of", {"queue": there[0]}) or ("{}", 0, None, None)
    before = keys.read_limits((last or "{}") if declared else said)
    if before == limits:
        return False
    number = _queue(tx, queue)
    new = _encode(limits).decode()
    tx.execute("put_limits", {"queue": number, "limits": new, "declared": new if declared else last})
    tx.execute("mark_limited", {"queue": number, "mark": HAS_LIMITS})
    tx.execute("mark_bounded")
    changed = keys.read_limits(said) != limits
    if changed:
        tx.execute("look_at_all", {"queue": number, "now": tx.now})
        tx.woken.add(queue)
    return changed


def limit_key(tx: Tx, queue: str, name: str, limits: KeyLimits | None) -> None:
    """Put what holds for one key; None or nothing said: the queue's defaults."""
    key = _key(tx, queue, name)
    own = None if limits in (None, KeyLimits()) else _encode(limits).decode()
    tx.execute("own_key", {"id": key.id, "own": own})
    key.own_text = own
    keys.reopen(tx, key)
    tx.woken.add(queue)


def hold(tx: Tx, queue: str, seconds: float, key: str | None) -> None:
    """Let nothing of a queue, or of a key in it, start for so many seconds; 0 ends a hold."""
    until = tx.now + int(seconds * 1_000_000) if seconds > 0 else None
    if key is None:
        number = _queue(tx, queue)
        _, _, held, _ = tx.one("limits_of", {"queue": number}) or ("{}", 0, None, None)
        tx.execute("hold_queue", {"queue": number, "held": until and max(until, held or 0)})
        tx.execute("mark_limited", {"queue": number, "mark": HAS_LIMITS})
    else:
        found = _key(tx, queue, key)
        found.held = until and max(until, found.held or 0)
        keys.reopen(tx, found)
    tx.woken.add(queue)


def _queue(tx: Tx, queue: str) -> int:
    tx.execute("add_queue", {"queue": queue})
    found = tx.one("find_queue", {"queue": queue})
    assert found is not None, "it was made above"
    return int(found[0])


def _key(tx: Tx, queue: str, name: str) -> Key:
    return keys.named(tx, _queue(tx, queue), [name])[name]


# --- looking ---------------------------------------------------------------------------


def look(tx: Tx, queue: str) -> QueueLimits:
    """What holds for a queue, and how it stands."""
    found = tx.one("find_queue", {"queue": queue})
    return QueueLimits(queue, tx.now, NO_LIMITS) if found is None else _look(tx, queue, found[0])


def _look(tx: Tx, queue: str, number: int) -> QueueLimits:
    said, empty_ns, held, declared = tx.one("limits_of", {"queue": number}) or ("{}", 0, None, None)
    limits = keys.read_limits(said)
    rate = limits.rate
    return QueueLimits(
        queue, tx.now, limits, None if declared is None else keys.read_limits(declared), _active(tx, number),
        None if rate is None else rate.tokens(empty_ns / 1000, tx.now),
        None if rate is None else rate.next_at(empty_ns / 1000, tx.now),
        held if held is not None and held > tx.now else None,
    )  # fmt: skip


def _active(tx: Tx, queue: int) -> int:
    """How many jobs of a queue run, the moves of this transaction included."""
    return sum(active + tx.delta(lane, _A) for lane, active in tx.all("active_in", {"queue": queue}))


def look_at_keys(tx: Tx, queue: str, names: Sequence[str] | None, after: str, limit: int) -> list[KeyState]:
    """Keys by their names, or a page of them."""
    found = tx.one("find_queue", {"queue": queue})
    if found is None:
        return [_state_of(Key(0, 0, name), NO_LIMITS, tx.now) for name in names or ()]
    limits = keys.limits_of(tx, found[0])
    if names is None:
        [said] = tx.one("keys_after", {"queue": found[0], "after": after, "now": tx.now, "limit": limit}) or ["[]"]
        return [_state_of(key, limits, tx.now) for key in _decode(said)]
    [said] = tx.one("keys_named", {"queue": found[0], "names": text(list(names))}) or ["[]"]
    known = {key.name: key for key in _decode(said)}
    return [_state_of(known.get(name) or Key(0, 0, name), limits, tx.now) for name in names]


def standing(tx: Tx, queue: str, id: str, names: Collection[str] | None, most: int) -> Standing | None:
    """Tell where a job stands, and which limits of its queue and its key hold it."""
    found = select.standing(tx, queue, id, names, most)
    if found is None or found.job.settled:
        return found
    [number, _] = tx.one("find_queue", {"queue": queue}) or (0, 0)
    if tx.one("limits_of", {"queue": number}) is not None:
        found = msgspec.structs.replace(found, limits=_look(tx, queue, number))
    if found.job.key is None:
        return found
    [key] = look_at_keys(tx, queue, [found.job.key], "", 1)
    holders = tuple(id for (id,) in tx.all("holders", {"queue": number, "key": key.key}))
    place = tx.one("place_in_line", {"queue": number, "id": id})
    if place is None:
        return msgspec.structs.replace(found, key=key, holders=holders)
    values = dict(zip(("line", "priority", "arrival", "seq"), place, strict=True), most=most)
    [higher] = tx.one("count_higher_of_key", values) or [0]
    [earlier] = tx.one("count_earlier_of_key", values) or [0]
    return msgspec.structs.replace(found, higher=higher, earlier=earlier, key=key, holders=holders)


def _state_of(key: Key, limits: Limits, now: int) -> KeyState:
    """A key as it stands in a queue with these limits."""
    rate = key.own.rate_under(limits)
    return KeyState(
        key.name, key.own, rate, key.own.concurrency_under(limits), key.waiting, key.blocked, key.active,
        None if rate is None else rate.tokens(key.empty_ns / 1000, now),
        None if rate is None else rate.next_at(key.empty_ns / 1000, now),
        key.held if key.held is not None and key.held > now else None,
    )  # fmt: skip


# --- claiming --------------------------------------------------------------------------


class Gate:
    """What a claim may still take from the queues that have limits of their own, by their numbers."""

    def __init__(self, tx: Tx, queues: Iterable[int]) -> None:
        self._tx = tx
        self.caps: dict[int, int] = {}
        """How many jobs at most; a queue that is not here has no limit."""
        self.counted: set[int] = set()
        """The queues in which only so many jobs may run."""
        self._rows: dict[int, tuple[Limits, int, int | None]] = {}
        for queue in queues:
            said, empty_ns, held, _ = tx.one("limits_of", {"queue": queue}) or ("{}", 0, None, None)
            limits = keys.read_limits(said)
            self._rows[queue] = limits, empty_ns, held
            caps = []
            if limits.concurrency is not None:
                self.counted.add(queue)
                caps.append(limits.concurrency - _active(tx, queue))
            if limits.rate is not None:
                caps.append(limits.rate.tokens(empty_ns / 1000, tx.now))
            if held is not None and held > tx.now:
                caps.append(0)
            if caps:
                self.caps[queue] = max(0, min(caps))

    def take(self, queue: int, count: int) -> None:
        """So many jobs of a queue start."""
        if queue in self.caps:
            self.caps[queue] -= count
        limits, empty_ns, held = self._rows.get(queue, (NO_LIMITS, 0, None))
        if limits.rate is not None and count:
            empty_ns = round(limits.rate.taken(empty_ns / 1000, self._tx.now, count) * 1000)
            self._rows[queue] = limits, empty_ns, held
            self._tx.execute("take_rate", {"queue": queue, "empty": empty_ns})

    def next_moment(self, queue: int) -> int | None:
        """When more of a queue may be claimed just because time passes."""
        limits, empty_ns, held = self._rows.get(queue, (NO_LIMITS, 0, None))
        now = self._tx.now
        if held is not None and held > now:
            return held
        [moment] = self._tx.one("next_look", {"queue": queue}) or [None]
        if limits.rate is not None and (next_at := limits.rate.next_at(empty_ns / 1000, now)) is not None:
            return next_at
        return None if moment is None else int(moment)


# --- upkeep ----------------------------------------------------------------------------


def look_at_due(tx: Tx, limit: int) -> None:
    """Let jobs come to the line, of all queues, whose keys only waited for time."""
    for (queue,) in tx.all("queues_with_keys"):
        keys.look(tx, queue, limit)


def forget(tx: Tx, limit: int) -> None:
    """Delete keys of which nothing is left to be known."""
    for (queue,) in tx.all("queues_with_keys"):
        rate = keys.limits_of(tx, queue).key_rate
        full = tx.now * 1000 - (0 if rate is None else int(rate.size * rate.interval * 1000))
        tx.execute("forget_keys", {"queue": queue, "full": full, "now": tx.now, "limit": limit})


def audit(tx: Tx) -> list[Finding]:
    """Compare what is kept of keys with their jobs."""
    found = []
    for number, queue, name, waiting, blocked, active, *real, foreign in tx.all("audit_lines_of_keys"):
        if [waiting, blocked, active] != [figure or 0 for figure in real]:
            said = f"{waiting} waiting, {blocked} blocked, {active} active are said to be of key {name!r}"
            found.append(Finding(f"{said}; there are {', '.join(str(figure or 0) for figure in real)}", queue))
        if foreign:
            found.append(Finding(f"{foreign} jobs of other keys stand in the line of key {name!r}", queue))
        [said] = tx.one("keys_of", {"ids": text([number])}) or ["[]"]
        [key] = _decode(said)
        if key.blocked and key.look_at is None and key.room(keys.limits_of(tx, key.queue), tx.now) > 0:
            found.append(Finding(f"key {name!r} has room, and nobody will let its blocked jobs come", queue))
    found += [Finding("has a key and stands in the line of none", *row) for row in tx.all("audit_lineless")]
    return found
