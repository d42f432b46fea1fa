"""One mail to everybody on a list: planned in chunks, each once, paused, resumed, cancelled, braked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from muskox.apps.mail import subscriptions, tables
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.campaigns import Campaign, CampaignMoved, get_campaign
from muskox.apps.mail.counters import CampaignState
from muskox.apps.mail.list_links import LEAVE, ListLinks
from muskox.apps.mail.list_tables import campaigns
from muskox.apps.mail.list_tables import subscriptions as rows
from muskox.apps.mail.spreading import Campaigns
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.subscriptions import Status, Tokens
from muskox.apps.mail.suppressions import BULK, Suppressed, suppress
from muskox.apps.mail.worlds import moment_now
from tests.apps.conftest import Post, post
from tests.apps.sink import DROP, Sink, sink

ISSUE = {"headline_text": "What is new", "paragraphs": ["Much is new.", "More next week."]}
TOKENS = Tokens(b"a secret of thirty-two bytes, yes")
ENDED = {CampaignState.FINISHED, CampaignState.CANCELLED}


@dataclass
class Press:
    """A list, campaigns to it, and the mail that they become."""

    post: Post
    campaigns: Campaigns
    sink: Sink

    def fill(self, people: int, domain: str = "example.org") -> list[str]:
        """Put people on the list, as if they had confirmed."""
        now = moment_now(self.post.ox.world) - timedelta(days=1)
        ids = [self.post.ox.world.new_id() for _ in range(people)]
        with self.post.engine.begin() as connection:
            subscriptions.add_list(connection, "news", "News", now)
            values = [
                {"id": id, "list_id": "news", "address": f"p{n}@{domain}", "address_key": f"p{n}@{domain}",
                 "name": f"Person {n}", "status": Status.SUBSCRIBED, "asked_at": now, "confirmed_at": now,
                 "changed_at": now}
                for n, id in enumerate(ids)
            ]  # fmt: skip
            connection.execute(insert(rows), values)
        return ids

    def start(self, **options: Any) -> str:
        with self.post.engine.begin() as connection:
            return self.campaigns.start(connection, "news", "newsletter", ISSUE, **options)[0].id

    def ask(self, verb: Callable[..., Campaign], id: str) -> Campaign:
        with self.post.engine.begin() as connection:
            return verb(connection, id)

    def look(self, id: str) -> Campaign:
        """Read a campaign, and check the sum rule while at it."""
        with self.post.engine.connect().execution_options(reading=True) as connection:
            found = get_campaign(connection, id)
        assert found is not None
        assert sum(found.counts.values()) == found.planned
        assert min(found.counts.values()) >= 0
        return found

    async def until(self, id: str, condition: Callable[[Campaign], bool], seconds: float = 60.0) -> Campaign:
        with self.post.mail.bell.listen("any") as ear:
            async with asyncio.timeout(seconds):
                while not condition(found := await asyncio.to_thread(self.look, id)):
                    await ear.wait(0.05)
        return found

    async def ended(self, id: str) -> Campaign:
        return await self.until(id, lambda found: found.state in ENDED and not found.open)

    def rows(self) -> dict[str, int]:
        table = tables.messages.c
        with self.post.engine.connect().execution_options(reading=True) as connection:
            return dict(connection.execute(select(table.state, func.count()).group_by(table.state)).all())

    def recipients(self) -> list[str]:
        return [message_from_bytes(mail)["To"] for mail in self.sink.mails]


@asynccontextmanager
async def press(folder: Path, *, chunk: int = 10, **settings: Any) -> AsyncIterator[Press]:
    async with sink(**settings) as server, post(folder, port=server.port, worker=False) as running:
        running.mail.links = ListLinks(TOKENS, "https://app.example.org", postal="1 Tundra Road")
        yield Press(running, Campaigns(running.mail, chunk=chunk), server)


async def test_everybody_on_the_list_gets_one_mail_and_the_sums_hold_at_each_look(tmp_path):
    async with press(tmp_path) as here:
        here.fill(35)
        id = here.start()
        async with here.post.ox.worker(concurrency=8):
            found = await here.ended(id)

        assert (found.state, found.planned, found.counts[MessageState.SENT]) == ("finished", 35, 35)
        assert len(set(here.recipients())) == len(here.sink.mails) == 35
        assert here.rows() == {"sent": 35}
        assert found.ended_at is not None


async def test_an_empty_list_ends_at_once(tmp_path):
    async with press(tmp_path) as here:
        with here.post.engine.begin() as connection:
            subscriptions.add_list(connection, "news", "News", moment_now(here.post.ox.world))
        id = here.start()
        async with here.post.ox.worker():
            found = await here.ended(id)

        assert (found.state, found.planned) == ("finished", 0)


async def test_one_occurrence_is_one_campaign(tmp_path):
    async with press(tmp_path) as here:
        here.fill(1)
        first, second = here.start(occurrence="news/monday"), here.start(occurrence="news/monday")

        assert first == second


async def test_case_e15_the_headers_to_unsubscribe_survive_as_they_are(tmp_path):
    async with press(tmp_path) as here:
        here.post.mail.links = ListLinks(TOKENS, f"https://app.example.org/{'a' * 90}", mailto="leave@example.org")
        [subscription] = here.fill(1)
        id = here.start()
        async with here.post.ox.worker():
            await here.ended(id)
        head = here.sink.mails[0].partition(b"\r\n\r\n")[0]
        token = TOKENS.make(LEAVE, subscription, id)

        assert len(token) == 60
        assert f"List-Unsubscribe: <https://app.example.org/{'a' * 90}/u/{token}>".encode() in head
        assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in head
        assert b"=?" not in head
        assert b"\r\nList-ID: <news.example.org>\r\n" in head
        assert max(len(line) for line in head.split(b"\r\n")) <= 998


async def test_case_e21_who_leaves_before_their_turn_gets_no_mail(tmp_path):
    async with press(tmp_path) as here:
        left, *_ = here.fill(30)
        id = here.start()
        async with here.post.ox.worker(queues=["campaigns"]):
            await here.until(id, lambda found: sum(here.rows().values()) == 30)
        with here.post.engine.begin() as connection:
            now = moment_now(here.post.ox.world)
            subscriptions.leave(connection, left, now)
            suppress(connection, parse_address("p1@example.org"), Suppressed.COMPLAINT, now, scope=BULK)
        async with here.post.ox.worker(concurrency=8):
            found = await here.ended(id)

        assert (found.counts[MessageState.SUPPRESSED], found.counts[MessageState.SENT]) == (2, 28)
        assert not {"p0@example.org", "p1@example.org"} & {to.split("<")[-1].rstrip(">") for to in here.recipients()}


async def test_a_pause_loses_nobody_and_going_on_doubles_nobody(tmp_path):
    async with press(tmp_path) as here:
        here.fill(60)
        id = here.start()
        async with here.post.ox.worker(concurrency=4):
            await here.sink.until(lambda: len(here.sink.mails) >= 7, 30)
            await asyncio.to_thread(here.ask, here.campaigns.pause, id)
            paused = await here.until(id, lambda found: not found.counts[MessageState.SENDING])
            seen = len(here.sink.mails)
            with pytest.raises(CampaignMoved):
                await asyncio.to_thread(here.ask, here.campaigns.pause, id)
            await asyncio.to_thread(here.ask, here.campaigns.resume, id)
            found = await here.ended(id)

        assert paused.counts[MessageState.SENT] == seen < 60
        assert (found.planned, found.counts[MessageState.SENT], len(here.sink.mails)) == (60, 60, 60)
        assert len(set(here.recipients())) == 60


async def test_cancelling_withdraws_what_waits_and_what_is_not_written_yet(tmp_path):
    async with press(tmp_path) as here:
        here.fill(60)
        id = here.start()
        async with here.post.ox.worker(concurrency=4):
            await here.sink.until(lambda: len(here.sink.mails) >= 5, 30)
            await asyncio.to_thread(here.ask, here.campaigns.cancel, id)
            found = await here.ended(id)

        assert found.state == "cancelled"
        assert found.counts[MessageState.SENT] + found.counts[MessageState.CANCELLED] == found.planned
        assert found.counts[MessageState.CANCELLED] > 0
        assert len(here.sink.mails) == found.counts[MessageState.SENT]


async def test_case_e39_too_many_bounces_pause_a_campaign_and_it_goes_on_with_the_rest(tmp_path):
    async with press(tmp_path, chunk=100) as here:
        here.fill(19, "gone.example.org")
        here.fill(221)
        shuffle(here)
        here.sink.refuse = "gone.example.org"
        id = here.start()
        async with here.post.ox.worker(concurrency=4):
            paused = await here.until(id, lambda found: found.state is CampaignState.PAUSED)
            paused = await here.until(id, lambda found: not found.counts[MessageState.SENDING])
            outcomes = paused.counts[MessageState.SENT] + paused.counts[MessageState.BOUNCED]
            await asyncio.to_thread(here.ask, here.campaigns.resume, id)
            found = await here.ended(id)

        assert "hard bounces" in paused.state_reason
        assert 200 <= outcomes <= 260
        assert found.counts[MessageState.SENT] == 221
        assert len(set(here.recipients())) == len(here.sink.mails) == 221


def shuffle(here: Press) -> None:
    """Give the subscriptions ids that mix both domains, so that bounces come all the way."""
    with here.post.engine.begin() as connection:
        found = connection.execute(select(rows.c.id, rows.c.address)).all()
        ordered = sorted(found, key=lambda row: int(row.address[1:].partition("@")[0]) * 12 % 221)
        for number, row in enumerate(ordered):
            connection.execute(update(rows).where(rows.c.id == row.id).values(id=f"{number:08x}{row.id[8:]}"))


async def test_case_e13_a_lost_answer_makes_no_second_copy_of_a_newsletter(tmp_path):
    async with press(tmp_path) as here:
        here.fill(20)
        here.sink.answers(COMMIT=DROP)
        id = here.start()
        async with here.post.ox.worker(concurrency=4):
            found = await here.ended(id)

        assert (found.counts[MessageState.SENT], found.ambiguous) == (20, 20)
        assert len(set(here.recipients())) == len(here.sink.mails) == 20


async def test_a_plan_that_dies_half_way_goes_on_where_it_was(tmp_path):
    async with press(tmp_path, chunk=2) as here:
        here.fill(110)
        id = here.start()
        planner = here.campaigns
        assert planner._begin_plan(id)
        assert len(planner._plan_piece(id)) == 50  # and then the process was killed: no job was added for these
        async with here.post.ox.worker(concurrency=8):
            found = await here.ended(id)
        with here.post.engine.connect().execution_options(reading=True) as connection:
            counted = connection.execute(select(campaigns.c.planned)).scalar_one()

        assert (found.planned, counted, found.counts[MessageState.SENT]) == (110, 110, 110)
        assert len(set(here.recipients())) == 110


async def test_a_test_goes_to_few_and_counts_for_nothing(tmp_path):
    async with press(tmp_path) as here:
        here.fill(3)
        id = here.start(at=moment_now(here.post.ox.world) + timedelta(days=1))
        [message] = await asyncio.to_thread(
            here.campaigns.rehearse, here.look(id), [parse_address("editor@example.org")]
        )
        async with here.post.ox.worker():
            ended = await here.post.ended(message)

        assert (ended.state, here.look(id).planned) == ("sent", 0)
        assert here.look(id).state == "scheduled"
