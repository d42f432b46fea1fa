"""Batches through the app: opened, filled piece by piece, closed, and followed by jobs exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from muskox import ActiveJob, FlowClosed, FlowKind, FlowNotFound, FlowState, Muskox, NewJob, OptionError
from muskox.testing import run_jobs


@pytest.fixture
def ran(ox, emails):
    """Declares `mail`, which raises for data that says so, and `done` and `over`; notes what followed."""
    followed: list[str] = []

    @emails.processor("mail")
    async def mail(job: ActiveJob) -> object:
        if job.data == "raise":
            raise ValueError("on purpose")
        return job.data

    @emails.processor("follow")
    async def follow(job: ActiveJob) -> None:
        followed.append(job.id)

    return followed


def both(emails) -> dict[str, NewJob]:
    return {"completed": emails.new("follow", id="completed"), "settled": emails.new("follow", id="settled")}


async def test_a_batch_is_filled_closed_and_followed(ox, emails, ran, monkeypatch):
    monkeypatch.setattr("muskox.batch.PIECE", 10)
    async with ox.batch("newsletter-7", **both(emails)) as batch:
        assert await batch.add_many(emails.new("mail", number) for number in range(25)) == 25
        await batch.add(emails.new("mail", "last"))
        open_ = await batch.look()
    closed = await ox.flows.get("newsletter-7")
    await run_jobs(ox)

    assert (open_.kind, open_.state, open_.total) == (FlowKind.BATCH, FlowState.OPEN, 26)
    assert closed.state is FlowState.RUNNING
    assert ran == ["completed", "settled"]
    ended = await ox.flows.get("newsletter-7")
    assert (ended.state, ended.completed, ended.completed_added, ended.settled_added) == (
        FlowState.COMPLETED, 26, True, True,
    )  # fmt: skip


async def test_jobs_come_from_anything_that_gives_them(ox, emails, ran):
    async def pages() -> AsyncIterator[NewJob]:
        for number in range(1500):
            yield emails.new("mail", number)

    async with ox.batch("a") as batch:
        assert await batch.add_many([]) == 0
        assert await batch.add_many(pages()) == 1500
        assert await batch.add_many([emails.new("mail")]) == 1

    assert (await ox.flows.get("a")).total == 1501


async def test_a_generator_is_read_a_piece_at_a_time(ox, emails, ran):
    seen: list[int] = []

    async def fill() -> None:
        async with ox.batch("lazy") as batch:

            def jobs() -> Iterator[NewJob]:
                for number in range(3000):
                    seen.append(number)
                    if number == 2100:
                        raise RuntimeError("the producer dies")
                    yield emails.new("mail", number, id=f"lazy/{number}")

            await batch.add_many(jobs())

    with pytest.raises(RuntimeError):
        await fill()

    assert len(seen) == 2101
    assert (await ox.flows.get("lazy")).total == 2000


async def test_a_batch_whose_producer_died_stays_open_and_goes_on_when_it_is_begun_anew(ox, emails, ran):
    async def fill(fails: bool) -> None:
        async with ox.batch("b", **both(emails)) as batch:
            await batch.add_many(emails.new("mail", n, id=f"b/{n}") for n in range(3))
            if fails:
                raise RuntimeError("the producer dies")
            await batch.add_many(emails.new("mail", n, id=f"b/{n}") for n in range(3, 6))

    with pytest.raises(RuntimeError):
        await fill(fails=True)
    await run_jobs(ox)
    assert ran == []
    [shown] = (await ox.flows.list(unended=True)).flows
    assert (shown.id, shown.state, shown.completed) == ("b", FlowState.OPEN, 3)

    await fill(fails=False)
    await run_jobs(ox)

    assert (await ox.flows.get("b")).total == 6
    assert ran == ["completed", "settled"]


async def test_a_batch_that_nobody_goes_on_with_is_closed_by_hand(ox, emails, ran):
    batch = ox.batch("b", **both(emails))
    await batch.open()
    await batch.add(emails.new("mail"))
    await run_jobs(ox)

    assert (await ox.flows.close("b")).state is FlowState.COMPLETED
    await run_jobs(ox)
    assert ran == ["completed", "settled"]


async def test_a_child_for_a_closed_batch_is_refused(ox, emails, ran):
    async with ox.batch("b") as batch:
        await batch.add(emails.new("mail", id="a"))

    for late in (
        batch.add(emails.new("mail")),
        batch.add_many([emails.new("mail")]),
        ox.batch("b").add(emails.new("x")),
    ):
        with pytest.raises(FlowClosed, match="batch 'b' is closed: no job can be added to it"):
            await late
    assert (await batch.add(emails.new("mail", id="a"))).id == "a"
    assert (await ox.flows.get("b")).total == 1


async def test_what_failed_is_retried_by_hand_and_then_it_is_completed(ox, emails, ran):
    async with ox.batch("b", **both(emails)) as batch:
        await batch.add(emails.new("mail", "raise", id="bad"))
        await batch.add(emails.new("mail", 1))
    await run_jobs(ox)
    assert ran == ["settled"]

    await emails.update("bad", "mended")
    assert await ox.flows.retry("b") == 1
    await run_jobs(ox)

    assert ran == ["settled", "completed"]
    assert (await ox.flows.get("b")).state is FlowState.COMPLETED


async def test_a_batch_is_cancelled_as_one(ox, emails, ran):
    async with ox.batch("b", **both(emails)) as batch:
        await batch.add_many(emails.new("mail") for _ in range(2345))

    assert await ox.flows.cancel("b") == 2345
    await run_jobs(ox)

    assert ran == ["settled"]
    assert (await ox.flows.get("b")).cancelled == 2345


async def test_wrong_uses_say_what_is_wrong(ox, emails):
    for wrong, said in (
        (lambda: ox.batch("b", completed="done"), "is a job made by new"),
        (lambda: ox.batch(""), "id of a flow or batch"),
    ):
        with pytest.raises(OptionError, match=said):
            wrong()
    async with ox.batch() as batch:
        for late in (batch.add(("mail", 1)), batch.add_many([("mail", 1)])):
            with pytest.raises(OptionError, match="takes jobs that were made by a queue's new"):
                await late
    with pytest.raises(FlowNotFound, match="no batch 'never' to close"):
        await ox.batch("never").close()


async def test_blocking_code_fills_batches_too(filed: Muskox):
    emails = filed.queue("email")

    def fill() -> int:
        with filed.sync.batch("b", settled=emails.new("over", id="over")) as batch:
            batch.add(emails.new("mail"))
            added = batch.add_many(emails.new("mail") for _ in range(1200))
        assert batch.look().state is FlowState.RUNNING
        return added

    def die() -> None:
        with filed.sync.batch("c"):
            raise RuntimeError("the producer dies")

    assert await asyncio.to_thread(fill) == 1200
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(die)
    assert (await filed.flows.get("b")).total == 1201
    assert (await filed.flows.get("c")).state is FlowState.OPEN
