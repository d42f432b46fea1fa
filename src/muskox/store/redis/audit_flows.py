"""Compares flows and batches with their jobs, nodes and indexes, with a full scan. It mends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from muskox.core.job import SETTLED, Job, JobState
from muskox.store.protocol import Finding
from muskox.store.redis.flows import StoredFlow, read_flow
from muskox.store.redis.ids import long
from muskox.store.redis.keys import Keys
from muskox.store.redis.link import Link
from muskox.store.redis.records import LETTER

__all__ = ["audit"]

_Key = tuple[str, str]
"""Queue and id of a job."""

_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_whole = msgspec.msgpack.Decoder(int).decode
_text = msgspec.msgpack.Decoder(str).decode


class _Node(NamedTuple):
    key: _Key
    state: str
    parents: int
    children: int


async def audit(link: Link, keys: Keys, members: Sequence[Job], behind: set[_Key]) -> list[Finding]:
    """What does not fit. `members` are all jobs in flows, `behind` those that are blocked by their parents."""
    by_flow: dict[str, dict[_Key, Job]] = {}
    for job in members:
        by_flow.setdefault(job.flow or "", {})[job.queue, job.id] = job
    kept = await _hash(link, f"{keys.tag}flows")
    indexes = {
        name: {id.decode() for id in await link.ask(b"ZRANGE", f"{keys.tag}flow-{name}", 0, -1)}
        for name in ("list", "unended", "over")
    }
    found = []
    for id, record in kept.items():
        its = _Flow(link, keys, id.decode(), read_flow(record), by_flow.pop(id.decode(), {}))
        found += await its.look(indexes, behind)
    for name, ids in indexes.items():
        found += [Finding(f"flow {id} is in flow-{name} and not there") for id in ids if id.encode() not in kept]
    for flow, jobs in by_flow.items():
        found += [Finding(f"in flow {flow}, which is not there", *key) for key in jobs]
    return found


class _Flow:
    """The audit of one flow."""

    def __init__(self, link: Link, keys: Keys, id: str, its: StoredFlow, jobs: dict[_Key, Job]) -> None:
        self._link = link
        self._tag = keys.tag
        self._id = id
        self._its = its
        self._jobs = jobs

    async def look(self, indexes: dict[str, set[str]], behind: set[_Key]) -> list[Finding]:
        found = [Finding(f"{self._its.kind} {self._id}: {what}") for what in self._figures(indexes)]
        found += await self._list()
        if not self._its.is_batch:
            found += await self._nodes(behind)
        return found

    def _figures(self, indexes: dict[str, set[str]]) -> Iterator[str]:
        its = self._its
        unended = sum(job.state not in SETTLED for job in self._jobs.values())
        said = its.total - its.completed - its.failed - its.cancelled
        if said != unended:
            yield f"{said} jobs are said not to have ended, {unended} have not"
        if its.here != len(self._jobs):
            yield f"{its.here} jobs are said to be there, {len(self._jobs)} are"
        if min(its.completed, its.failed, its.cancelled) < 0:
            yield "a figure is below 0"
        ended = its.ended > 0
        if ended != (not its.is_open and said == 0) or (ended and not its.settled_added):
            yield "its end does not fit its figures"
        for name, belongs in (("list", True), ("unended", not ended), ("over", ended and not self._jobs)):
            if (self._id in indexes[name]) != belongs:
                yield f"it is {'not ' if belongs else ''}in flow-{name}"

    async def _list(self) -> list[Finding]:
        names = await self._link.ask(b"LRANGE", f"{self._tag}flow-jobs:{self._id}", 0, -1)
        listed = [(int.from_bytes(name[:7], "big"), _split(name[7:])) for name in names]
        places = {key: place for place, (at, key) in enumerate(listed, self._its.trimmed) if self._is_meant(key, at)}
        missing = self._jobs.keys() - places.keys()
        found = [self._finding("not in its list of jobs", key) for key in missing]
        for key, place in places.items() if self._its.is_batch else ():
            state = self._jobs[key].state
            if place < self._its.cancel and state not in SETTLED:
                found.append(self._finding("passed over by cancels, and has not ended", key))
            if place < self._its.retry and state in (JobState.FAILED, JobState.CANCELLED):
                found.append(self._finding(f"passed over by retries, and is {state}", key))
        return found

    def _is_meant(self, key: _Key, added_us: int) -> bool:
        job = self._jobs.get(key)
        return job is not None and job.added_us == added_us

    async def _nodes(self, behind: set[_Key]) -> list[Finding]:
        fields = await _hash(self._link, f"{self._tag}nodes:{self._id}")
        numbers = {_split(field[1:]): int(number) for field, number in fields.items() if field[:1] == b"i"}
        nodes = {int(field[1:]): _node(kept) for field, kept in fields.items() if field[:1] == b"n"}
        waits = {int(field[1:]): int(number) for field, number in fields.items() if field[:1] == b"w"}
        found = [self._finding("is no node", key) for key in self._jobs.keys() - numbers.keys()]
        found += [self._finding("has a number and no node", key) for key, n in numbers.items() if n not in nodes]
        unended = _edges(fields, b"p")
        children = Counter(n for n, _ in _edges(fields, b"c"))
        parents = Counter(child for child, _ in unended)
        waiting = Counter(child for child, parent in unended if parent in nodes and not nodes[parent].state)
        for number, node in nodes.items():
            job = self._jobs.get(node.key) if numbers.get(node.key) == number else None
            found += [self._finding(what, node.key) for what in _look_at(node, job)]
            is_behind = job is not None and node.key in behind
            if is_behind != (number in waits) or (is_behind and waits[number] != waiting[number]):
                found.append(
                    self._finding(f"waits for {waits.get(number)} parents, {waiting[number]} have not ended", node.key)
                )
            if (node.parents, node.children) != (parents[number], children[number]):
                found.append(self._finding("its edges are not as many as it says", node.key))
        return found

    def _finding(self, what: str, key: _Key) -> Finding:
        return Finding(f"in flow {self._id}: {what}", *key)


def _look_at(node: _Node, job: Job | None) -> Iterator[str]:
    if job is None:
        if not node.state:
            yield "a node that has not ended and has no job"
    elif node.state != (LETTER[job.state] if job.state in SETTLED else ""):
        yield f"its node says {node.state or 'nothing'} of its end, and it is {job.state}"


def _node(kept: bytes) -> _Node:
    queue, id, _, state, parents, children = _raw(kept)
    # An id is no text to msgpack where it is a UUID.
    size = len(bytes(id))
    its = bytes(id)[1 if size <= 32 else 2 if size <= 257 else 3 :]
    return _Node((_text(queue), long(its)), _text(state), _whole(parents), _whole(children))


def _edges(fields: dict[bytes, bytes], kind: bytes) -> list[tuple[int, int]]:
    """The numbers on both sides of each edge, that of the node which keeps it first."""
    return [
        (int(field[1:].partition(b":")[0]), _whole(_raw(kept)[0]))
        for field, kept in fields.items()
        if field[:1] == kind
    ]


def _split(name: bytes) -> _Key:
    queue, _, id = name.partition(b":")
    return queue.decode(), long(id)


async def _hash(link: Link, name: str) -> dict[bytes, bytes]:
    told: Any = await link.ask(b"HGETALL", name)
    return told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
