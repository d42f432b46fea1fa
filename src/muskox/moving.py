"""Moving house: carries jobs and schedules from one store to another, in steps of which each may be the last.

The order of the steps is what keeps jobs from being lost or doubled: a job is first adopted there and then removed
here, and while it may be in both stores it runs in neither, since its queue is paused in both. Schedules come last,
since their last jobs must be there before they fire. A note in a queue of its own says what is under way, so that a
move that was interrupted is taken up again and not begun anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from muskox.core.errors import LeaseLost, OptionError, StoreError, StoreUnavailable, WrongState
from muskox.core.job import Job, JobState, Lease, NewJob, Options
from muskox.core.kept import Kept
from muskox.core.life import Release
from muskox.core.limits import NO_LIMITS, KeyLimits
from muskox.core.seam import World
from muskox.store.protocol import Change, Packed, Selection, Store, Want

__all__ = ["ENDED", "QUEUE", "UNENDED", "Moved", "move"]

T = TypeVar("T")

QUEUE = "muskox-move"
"""Where the notes about moves are. It is never carried itself."""
NOTE = "moving"
UNENDED = (JobState.WAITING, JobState.BLOCKED, JobState.DELAYED, JobState.FAILED)
"""What is always carried: all that may run yet, failed jobs because somebody may retry them."""
ENDED = (JobState.COMPLETED, JobState.CANCELLED)

LEASE = 30.0
BATCH = 500
"""Jobs in one step at most. It begins with few, since each may have a megabyte of data."""
FIRST = 10
LARGE = 4 * 1024 * 1024
"""A step that carries more bytes than this is followed by a smaller one."""
MOST_ROUNDS = 20
"""So often the queues are gone through, for what producers add meanwhile."""
_ALL = 1_000_000
_FOREVER = 10 * 365 * 86_400.0
_PATIENCE = (0.5, 1.0, 2.0, 4.0)


class Moved(msgspec.Struct, frozen=True):
    """What a move has done: jobs carried by queue, and how many there were in the other store before.

    Those were there by the same queue and id: mostly from an earlier try. `left` are those that the source still
    has in the states that were asked for, because they were added while the move came to its end. `schedules` are
    those that were carried; one whose name has fired there before stays as it is there, and counts as `known` too.
    """

    carried: dict[str, int]
    known: int = 0
    left: int = 0
    schedules: int = 0

    @property
    def total(self) -> int:
        return sum(self.carried.values())


class _Note(msgspec.Struct):
    """What is written down about a move: its name in the other store, and which queues were paused before it.

    By queue: in the source, in the target.
    """

    move: str
    paused: dict[str, tuple[bool, bool]] = {}


async def move(
    source: Store, target: Store, world: World, *, states: Sequence[JobState] = UNENDED, lease: float = LEASE
) -> Moved:
    """Carry all jobs in these states from one store to another; both are open.

    Begun again after an interruption it goes on where it was; one that was killed is waited for, for as long as its
    `lease` says. Raises `WrongState`, before anything is changed, while a worker of the source lives or a job of it
    is active or another move is under way, and `OptionError` when the two are one store.
    """
    await _check_still(source)
    moving = _Moving(source, target, world, lease)
    await moving.begin()
    try:
        for _ in range(MOST_ROUNDS):
            await moving.pause()
            await _check_still(source, "; the queues stay paused until the move is ended")
            await moving.carry_limits()
            if not await moving.carry(states):
                break
        await moving.carry_schedules()
        await moving.end()
    finally:
        await moving.let_go()
    left = sum(counts.states[state] for counts in await source.counts() for state in states if counts.queue != QUEUE)
    return Moved(moving.carried, moving.known, left, moving.schedules)


async def _check_still(source: Store, more: str = "") -> None:
    """Raise unless nobody can run or settle a job of the source; jobs whose lease is over are taken back."""
    while await source.recover():
        pass
    workers = await source.workers()
    if workers:
        where = ", ".join(sorted({f"{worker.host} (process {worker.pid})" for worker in workers}))
        raise WrongState(
            f"{len(workers)} workers of the store that is left are alive, on {where}; stop them first (one that was "
            f"killed is forgotten after 30 seconds){more}"
        )
    for flow in (await source.flows(unended=True, limit=1)).flows:
        stands = "is open" if flow.open else f"has {flow.unended} jobs that have not ended"
        raise WrongState(
            f"{flow.kind} {flow.id} {stands}, and what waits for other jobs cannot be taken to another store; let it "
            f"end or cancel it, and move then{more}"
        )
    for counts in await source.counts():
        if counts.queue != QUEUE and (running := counts.states[JobState.ACTIVE]):
            raise WrongState(
                f"{running} jobs of queue {counts.queue} are active though no worker is alive; wait until their "
                f"leases have run out, and move then{more}"
            )


class _Moving:
    """One move on its way."""

    def __init__(self, source: Store, target: Store, world: World, lease: float) -> None:
        self._source = source
        self._target = target
        self._world = world
        self._seconds = lease
        self._note = _Note(world.new_id())
        self._lease: Lease | None = None
        self._limit = min(FIRST, BATCH)
        self.carried: dict[str, int] = {}
        self.known = 0
        self.schedules = 0

    # --- the note ------------------------------------------------------------------

    async def begin(self) -> None:
        """Take up the note of a move that was interrupted, or write one; from then on nobody else can."""
        await self._check_chain()
        note = await self._claimed()
        if note is None:
            await self._write()
            note = await self._claimed()
        assert note is not None, "it was written"
        self._note, self._lease = msgspec.json.decode(note.data_text, type=_Note), note.lease
        [there] = await self._target.get(QUEUE, [self._note.move])
        if there is None:
            await self.let_go()
            raise OptionError(
                "a move from this store to another one than this was begun and not ended; move to that one, or, if "
                f"it is gone with all that was carried there, remove the job {NOTE!r} of queue {QUEUE} and begin anew"
            )

    async def _check_chain(self) -> None:
        """Raise when one of the stores has its part in another move: what that repeats would be doubled by this one."""
        [inbound] = await self._source.counts([QUEUE])
        if inbound.delayed and (await self._source.get(QUEUE, [NOTE]))[0] is None:
            raise WrongState(
                "a move to the store that is left is not ended; end it first, or, if it is given up, remove the jobs "
                f"of queue {QUEUE} there"
            )
        if (await self._target.get(QUEUE, [NOTE]))[0] is not None:
            raise WrongState("a move from the store that is moved to is not ended; end it first")

    async def _claimed(self) -> Job | None:
        """The note, claimed, or None if there is none. One that somebody holds is waited for, as he may be gone."""
        for _ in range(2):
            await self._source.recover()
            await self._source.promote(Selection(QUEUE, ids=(NOTE,)))
            await self._source.retry(Selection(QUEUE, ids=(NOTE,)))
            worker = self._world.new_id()
            jobs = await self._source.claim([Want(QUEUE)], limit=1, worker=worker, lease=self._seconds)
            [there] = await self._source.get(QUEUE, [NOTE])
            if jobs or there is None:
                return jobs[0] if jobs else None
            await self._world.sleep(self._seconds + 1)
        raise WrongState("another move from this store is under way; let it end, or stop it and wait a minute")

    async def _write(self) -> None:
        # There first: a note here that no other store knows of would be taken for a move to another one.
        there = NewJob(self._note.move, QUEUE, "to here", delay=_FOREVER)
        await self._target.add([there])
        if (await self._source.get(QUEUE, [there.id]))[0] is not None:
            await self._target.remove(Selection(QUEUE, ids=(there.id,)))
            raise OptionError("both URLs are of the same store; there is nothing to move")
        data = msgspec.json.encode(self._note).decode()
        await self._source.add([NewJob(NOTE, QUEUE, "from here", data, options=Options(max_stalls=10_000))])

    async def _hold(self) -> None:
        """Raise unless the note is still ours."""
        lease = self._held()
        if await self._again(lambda: self._source.renew([lease], lease=self._seconds)):
            raise LeaseLost("another move from this store has begun, since this one was silent for too long")

    def _held(self) -> Lease:
        assert self._lease is not None, "a move begins before it goes on"
        return self._lease

    async def let_go(self) -> None:
        """Leave the note, if it is there, to whoever takes it up next."""
        await self._source.settle([Release(self._held())])

    # --- the steps -------------------------------------------------------------------

    async def pause(self) -> None:
        """Pause every queue of the source in both stores, once it is written down what it was before."""
        here = {counts.queue: counts for counts in await self._source.counts() if counts.queue != QUEUE}
        new = [queue for queue in here if queue not in self._note.paused]
        for there in await self._target.counts(new) if new else []:
            self._note.paused[there.queue] = here[there.queue].paused, there.paused
        if new:
            await self._source.update(QUEUE, NOTE, msgspec.json.encode(self._note).decode())
        for queue in self._note.paused:
            await self._source.pause(queue, True)
            await self._target.pause(queue, True)

    async def carry(self, states: Sequence[JobState]) -> int:
        """Carry what there is now; returns how many jobs."""
        before = sum(self.carried.values())
        for queue in self._note.paused:
            for state in states:
                while await self._carry_some(queue, state):
                    pass
        return sum(self.carried.values()) - before

    async def _carry_some(self, queue: str, state: JobState) -> int:
        packed = await self._again(lambda: self._source.pack(queue, state, limit=self._limit))
        if not packed:
            return 0
        self._adapt(packed)
        await self._hold()
        added = await self._again(lambda: self._target.adopt(packed))
        # Only in the state in which they were packed: one that somebody has moved by hand is packed again.
        chosen = Selection(queue, ids=tuple(one.job.id for one in packed), states=(state,))
        removed = await self._again(lambda: self._source.remove(chosen))
        self.carried[queue] = self.carried.get(queue, 0) + removed
        self.known += sum(not one.created for one in added)
        return removed

    def _adapt(self, packed: Sequence[Packed]) -> None:
        """Make steps larger or smaller, by how much the jobs of this one weigh."""
        weight = sum(len(one.job.data_text) + len(one.job.result_text or "") for one in packed)
        if weight > LARGE:
            self._limit = max(1, self._limit // 2)
        elif weight < LARGE // 2 and len(packed) == self._limit:
            self._limit = min(BATCH, self._limit * 2)

    async def carry_limits(self) -> None:
        """Let the queues have the limits there that they have here, where nothing was said of any; and their keys."""
        for queue in self._note.paused:
            here, there = await self._source.limits(queue), await self._target.limits(queue)
            if here.limits != NO_LIMITS and there.limits == NO_LIMITS:
                await self._again(partial(self._target.limit, queue, here.limits))
            after = ""
            while found := await self._again(partial(self._source.keys, queue, after=after, limit=BATCH)):
                names = [key.key for key in found if key.own != KeyLimits()]
                there_too = await self._again(partial(self._target.keys, queue, names)) if names else []
                for key in (key for key in there_too if key.own == KeyLimits()):
                    own = next(one.own for one in found if one.key == key.key)
                    await self._again(partial(self._target.limit_key, queue, key.key, own))
                after = found[-1].key

    async def carry_schedules(self) -> None:
        """Carry all schedules, each with its next moment and its last job."""
        kept = (await self._again(lambda: self._source.schedules(limit=_ALL))).kept
        for some in (kept[first : first + BATCH] for first in range(0, len(kept), BATCH)):
            await self._hold()
            names = [one.schedule.name for one in some]
            found = (await self._again(partial(self._target.schedules, names, limit=BATCH))).kept
            there = {one.schedule.name: one for one in found}
            puts = [_put(one, there.get(one.schedule.name)) for one in some]
            made = await self._again(partial(self._target.put_schedules, puts))
            # One that was changed here meanwhile stays here, for the next move.
            gone = [Change(one.schedule.name, one.version, None) for one in some]
            await self._again(partial(self._source.put_schedules, gone))
            self.schedules += sum(made)
            self.known += len(made) - sum(made)

    async def end(self) -> None:
        """Let the queues be as they were: paused there if they were paused here or there."""
        for queue, (here, there) in self._note.paused.items():
            await self._target.pause(queue, here or there)
            await self._source.pause(queue, here)
        # Here first, as it was written last.
        await self._source.remove(Selection(QUEUE, ids=(NOTE,)))
        await self._target.remove(Selection(QUEUE, ids=(self._note.move,)))

    async def _again(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Repeat a verb, which does no harm, while a store gives no answer."""
        for seconds in _PATIENCE:
            try:
                return await verb()
            except StoreUnavailable:
                await self._world.sleep(seconds)
        try:
            return await verb()
        except StoreUnavailable as error:
            raise StoreError(f"{error}; the move is not ended: give the command again, and it goes on") from error


def _put(kept: Kept, there: Kept | None) -> Change:
    """The change by which a schedule arrives; one that was only declared there gives way to it."""
    declared = there is not None and there.last_us is None and there.schedule == kept.schedule
    return Change(kept.schedule.name, there.version if there is not None and declared else 0, kept)
