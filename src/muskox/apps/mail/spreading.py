"""The jobs of a campaign: plan it in chunks, spread a chunk into messages, go on after a pause, withdraw the rest.

Each step writes what it did in the transaction in which it does it, so a step that
is run again finds what is left. Memory holds one chunk, however long the list is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, or_, select, update

from muskox import ActiveJob, Exponential, FinalError, FlowClosed, NewJob
from muskox.apps.mail import store, tables
from muskox.apps.mail.addresses import Address
from muskox.apps.mail.campaigns import Campaign, NewCampaign, add_campaign, get_campaign, set_state
from muskox.apps.mail.counters import CampaignState, put_under_way
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.figures import count_one
from muskox.apps.mail.list_tables import campaigns, chunks, subscriptions
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.states import Cause, MessageState, Reason
from muskox.apps.mail.store import Message
from muskox.apps.mail.subscriptions import Status
from muskox.apps.mail.worlds import moment_now

__all__ = ["CHUNK", "QUEUE", "Campaigns"]

QUEUE = "campaigns"
CHUNK = 1_000
"""People in one chunk."""

_PIECE = 50
_PAGE = 500
_WAITING = (MessageState.QUEUED, MessageState.DEFERRED)
log = logging.getLogger("muskox.mail")


class Campaigns:
    """Sends campaigns for a program; made once, before the worker starts. `chunk` is for tests."""

    def __init__(self, mail: Mail, *, chunk: int = CHUNK) -> None:
        self._mail = mail
        self._world = mail.ox.world
        self._chunk = chunk
        self._queue = mail.ox.queue(QUEUE)
        declare = partial(self._queue.processor, attempts=8, backoff=Exponential(2.0), max_stalls=20)
        declare("plan")(self.plan)
        declare("spread")(self.spread)
        declare("conclude")(self.conclude)
        declare("go-on")(self.go_on)
        declare("withdraw")(self.withdraw)

    # --- what one asks of campaigns (blocking) -----------------------------------

    def start(
        self,
        connection: Connection,
        list_id: str,
        template: str,
        context: Mapping[str, Any],
        *,
        occurrence: str = "",
        at: datetime | None = None,
    ) -> tuple[Campaign, bool]:
        """Store a campaign and the job that plans it, now or `at` a moment; False: its occurrence has one already."""
        now, id = moment_now(self._world), self._world.new_id()
        subject = self._mail.templates.subject(template, {**self._mail.site, **context, "name": ""})
        new = NewCampaign(id, occurrence or id, list_id, template, subject, context, at)
        if not add_campaign(connection, new, now):
            query = select(campaigns.c.id).where(campaigns.c.occurrence_key == new.occurrence)
            known = get_campaign(connection, connection.execute(query).scalar_one())
            assert known is not None
            return known, False
        self._add(connection, "plan", id, 0, delay=max(0.0, (at - now).total_seconds()) if at else 0.0)
        made = get_campaign(connection, id)
        assert made is not None
        return made, True

    def pause(self, connection: Connection, id: str) -> Campaign:
        """Let nothing more begin; what a worker has begun ends. Raises `CampaignMoved`."""
        return set_state(connection, id, CampaignState.PAUSED, moment_now(self._world), "paused by hand")

    def resume(self, connection: Connection, id: str) -> Campaign:
        """Go on where it was paused. Its returns so far count no more towards pausing itself."""
        found = set_state(connection, id, CampaignState.PLANNING, moment_now(self._world))
        if found.snapshot_at is None:  # it had not begun: its moment decides again
            found = replace(found, state=CampaignState.SCHEDULED)
        outcomes = found.planned - found.open
        connection.execute(
            update(campaigns)
            .where(campaigns.c.id == id)
            .values(state=found.state, rounds=found.rounds + 1, looked_at_outcomes=outcomes)
        )
        now = moment_now(self._world)
        late = found.scheduled_for is not None and found.snapshot_at is None and found.scheduled_for > now
        delay = (found.scheduled_for - now).total_seconds() if late and found.scheduled_for else 0.0
        self._add(connection, "plan", id, found.rounds + 1, delay=delay)
        self._add(connection, "go-on", id, found.rounds + 1)
        again = get_campaign(connection, id)
        assert again is not None
        return again

    def cancel(self, connection: Connection, id: str) -> Campaign:
        """Withdraw all that no attempt has been made for. Raises `CampaignMoved`."""
        found = set_state(connection, id, CampaignState.CANCELLED, moment_now(self._world), "cancelled by hand")
        self._add(connection, "withdraw", id, found.rounds)
        return found

    def rehearse(self, found: Campaign, addresses: Sequence[Address]) -> list[str]:
        """Send the mail of a campaign to a few addresses, beside the campaign; gives the ids of the messages."""
        if not 1 <= len(addresses) <= 5:
            raise Refused("a test goes to one to five addresses")
        context = {**found.context, "name": "Ada"}
        return [self._mail.send(found.template, to=address, context=context).id for address in addresses]

    # --- the jobs ----------------------------------------------------------------

    async def plan(self, job: ActiveJob, campaign_id: str, round: int) -> dict[str, Any]:  # noqa: A002
        """Cut the list into chunks, and add a job for each to the batch of this round."""
        if not await self._mail.in_thread(self._begin_plan, campaign_id):
            return {"planned": False}
        over = self._queue.new("conclude", {"campaign_id": campaign_id}, id=f"{campaign_id}/conclude/{round}")
        batch = self._mail.ox.batch(f"campaign/{campaign_id}/{round}", settled=over)
        try:
            await batch.open()
            left = await self._mail.in_thread(self._unspread, campaign_id)
            await batch.add_many(self._spread_jobs(campaign_id, round, left))
            while piece := await self._mail.in_thread(self._plan_piece, campaign_id):
                await batch.add_many(self._spread_jobs(campaign_id, round, piece))
                await job.progress({"chunks": piece[-1]})
            await batch.close()
        except FlowClosed:
            log.info("campaign %s was planned before", campaign_id)
        return {"planned": await self._mail.in_thread(self._end_plan, campaign_id)}

    async def spread(self, campaign_id: str, n: int) -> dict[str, Any]:
        """Turn the people of one chunk into messages with jobs, all in one transaction, once."""
        return {"messages": await self._mail.in_thread(self._spread, campaign_id, n)}

    async def conclude(self, campaign_id: str) -> dict[str, Any]:
        """Look whether every chunk of the round was spread; one that could not be is told as a failed job."""
        left = await self._mail.in_thread(self._unspread, campaign_id)
        found = await self._mail.in_thread(self._read, campaign_id)
        if left and found is not None and found.state is CampaignState.SENDING:
            raise FinalError(f"{len(left)} chunks of campaign {campaign_id} could not be spread; pause and resume it")
        return {"left": len(left)}

    async def go_on(self, campaign_id: str, round: int) -> dict[str, int]:  # noqa: A002
        """Give the messages that a pause has held their jobs back."""
        released = 0
        while n := await self._mail.in_thread(self._release_page, campaign_id):
            released += n
        return {"released": released}

    async def withdraw(self, campaign_id: str, round: int) -> dict[str, int]:  # noqa: A002
        """Cancel what waits, and the people whose messages were never written."""
        withdrawn = 0
        while n := await self._mail.in_thread(self._withdraw_page, campaign_id):
            withdrawn += n
        return {"withdrawn": withdrawn + await self._mail.in_thread(self._withdraw_chunks, campaign_id)}

    # --- their transactions --------------------------------------------------------

    def _read(self, id: str) -> Campaign | None:
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            return get_campaign(connection, id)

    def _begin_plan(self, id: str) -> bool:
        """Fix who is on the list at this moment; returns whether there is something to plan."""
        with self._mail.engine.begin() as connection:
            found = get_campaign(connection, id)
            if found is None or found.state not in {CampaignState.SCHEDULED, CampaignState.PLANNING}:
                return False
            if found.state is CampaignState.PLANNING and found.snapshot_at is not None:
                return True
            now = moment_now(self._world)
            last = select(func.max(subscriptions.c.id)).where(subscriptions.c.list_id == found.list_id)
            values = {
                "state": CampaignState.PLANNING,
                "snapshot_id": connection.execute(last).scalar() or "",
                "snapshot_at": now,
                "started_at": now,
            }
            connection.execute(update(campaigns).where(campaigns.c.id == id).values(values))
            return True

    def _plan_piece(self, id: str) -> list[int]:
        """Write the next chunks; gives their numbers, none when the end is reached or the campaign was stopped."""
        with self._mail.engine.begin() as connection:
            found = get_campaign(connection, id)
            if found is None or found.state is not CampaignState.PLANNING:
                return []
            n = connection.execute(select(func.count()).where(chunks.c.campaign_id == id)).scalar_one()
            last, people = found.last_id, 0
            rows: list[dict[str, Any]] = []
            while len(rows) < _PIECE:
                some = _people(found, last, found.snapshot_id).limit(self._chunk).subquery()
                hi, count = connection.execute(select(func.max(some.c.id), func.count()).select_from(some)).one()
                if not count:
                    break
                n += 1
                rows.append({"campaign_id": id, "n": n, "lo_id": last, "hi_id": hi, "people": count})
                last, people = hi, people + count
            if rows:
                connection.execute(insert(chunks), rows)
                _count(connection, id, planned=people, n_queued=people, last_id=last)
            return [row["n"] for row in rows]

    def _end_plan(self, id: str) -> bool:
        with self._mail.engine.begin() as connection:
            put_under_way(connection, id, moment_now(self._world))
            found = get_campaign(connection, id)
            return found is not None and found.state in {CampaignState.SENDING, CampaignState.FINISHED}

    def _unspread(self, id: str) -> list[int]:
        query = select(chunks.c.n).where(chunks.c.campaign_id == id, chunks.c.spread.is_(False)).order_by(chunks.c.n)
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            return list(connection.execute(query).scalars())

    def _spread(self, id: str, n: int) -> int:
        with self._mail.engine.begin() as connection:
            found = get_campaign(connection, id)
            row = connection.execute(select(chunks).where(chunks.c.campaign_id == id, chunks.c.n == n)).one()
            if row.spread or found is None or found.state not in {CampaignState.PLANNING, CampaignState.SENDING}:
                return 0
            people = connection.execute(_people(found, row.lo_id, row.hi_id)).mappings().all()
            messages = [self._message(found, person) for person in people]
            _insert(connection, messages)
            self._mail.jobs.add_many(connection, [self._mail.job_of(message) for message in messages])
            connection.execute(update(chunks).where(chunks.c.campaign_id == id, chunks.c.n == n).values(spread=True))
            # Who was deleted or came back since was counted and is not written to, so the plan is put right.
            differing = len(messages) - row.people
            _count(connection, id, planned=differing, n_queued=differing)
            return len(messages)

    def _message(self, found: Campaign, person: RowMapping) -> Message:
        local, _, domain = person["address"].rpartition("@")
        message = self._mail.new_message(
            found.template,
            to=Address(local, domain),  # it was checked when it was asked for
            context={**found.context, "name": person["name"], "subscription_id": person["id"]},
            display=person["name"],
            kind="newsletter",
        )
        return replace(message, campaign_id=found.id, list_id=found.list_id)

    def _release_page(self, id: str) -> int:
        with self._mail.engine.begin() as connection:
            found = get_campaign(connection, id)
            if found is None or found.state not in {CampaignState.PLANNING, CampaignState.SENDING}:
                return 0
            table = tables.messages
            held = select(table.c.id).where(
                table.c.campaign_id == id, table.c.state.in_(_WAITING), table.c.job_id == ""
            )
            ids = list(connection.execute(held.limit(_PAGE)).scalars())
            messages = []
            for message_id in ids:
                message = store.get(connection, message_id)
                assert message is not None
                messages.append(replace(message, job_id=self._world.new_id()))
                connection.execute(update(table).where(table.c.id == message_id).values(job_id=messages[-1].job_id))
            self._mail.jobs.add_many(connection, [self._mail.job_of(message) for message in messages])
            return len(messages)

    def _withdraw_page(self, id: str) -> int:
        table, now = tables.messages.c, moment_now(self._world)
        with self._mail.engine.begin() as connection:
            waiting = select(table.id).where(table.campaign_id == id, table.state.in_(_WAITING)).limit(_PAGE)
            ids = list(connection.execute(waiting).scalars())
            for message_id in ids:
                message = store.get(connection, message_id)
                assert message is not None
                store.move(connection, message, MessageState.CANCELLED, now, reason=Reason.MANUAL, cause=Cause.OPERATOR)
            return len(ids)

    def _withdraw_chunks(self, id: str) -> int:
        with self._mail.engine.begin() as connection:
            left = (chunks.c.campaign_id == id) & chunks.c.spread.is_(False)
            people = connection.execute(select(func.sum(chunks.c.people)).where(left)).scalar() or 0
            connection.execute(update(chunks).where(left).values(spread=True))
            _count(connection, id, n_queued=-people, n_cancelled=people)
            return int(people)

    # --- jobs to be added ------------------------------------------------------------

    def _spread_jobs(self, id: str, round: int, numbers: Iterable[int]) -> list[NewJob]:  # noqa: A002
        return [
            self._queue.new("spread", {"campaign_id": id, "n": n}, id=f"{id}/{round}/{n}", keep_for=0) for n in numbers
        ]

    def _add(self, connection: Connection, step: str, id: str, round: int, delay: float = 0.0) -> None:  # noqa: A002
        data = {"campaign_id": id, "round": round}
        job = self._queue.new(step, data, id=f"{id}/{step}/{round}", priority=2, delay=delay)
        self._mail.jobs.add_many(connection, [job])


def _people(found: Campaign, lo: str, hi: str) -> Any:
    """Who was on the list when the campaign began, also when they have left it since: they are told as suppressed."""
    table = subscriptions.c
    return (
        select(table.id, table.address, table.name)
        .where(
            table.list_id == found.list_id,
            table.id > lo,
            table.id <= hi,
            table.confirmed_at <= found.snapshot_at,
            or_(table.status == Status.SUBSCRIBED, table.changed_at > found.snapshot_at),
        )
        .order_by(table.id)
    )


def _count(connection: Connection, id: str, last_id: str | None = None, **more: int) -> None:
    """Add to the figures of a campaign."""
    values: dict[str, Any] = {name: campaigns.c[name] + n for name, n in more.items()}
    if last_id is not None:
        values["last_id"] = last_id
    connection.execute(update(campaigns).where(campaigns.c.id == id).values(values))


def _insert(connection: Connection, messages: Sequence[Message]) -> None:
    """Store many messages with their first events; their campaign has counted them already."""
    if not messages:
        return
    names = [field.name for field in fields(Message)]
    connection.execute(
        insert(tables.messages), [{name: getattr(message, name) for name in names} for message in messages]
    )
    connection.execute(
        insert(tables.events),
        [
            {
                "message_id": message.id,
                "seq": 1,
                "type": "queued",
                "at": message.created_at,
                "recorded_at": message.created_at,
                "source": Cause.APP,
                "detail": json.dumps({}),
            }
            for message in messages
        ],
    )
    count_one(connection, messages[0].queue, MessageState.QUEUED, messages[0].created_at, len(messages))
