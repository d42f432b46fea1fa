"""The way there and back with Debian's Postfix: it takes our mail, and its own reports say what became of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from muskox.apps.mail import tables
from muskox.apps.mail.inbound import Inbound
from muskox.apps.mail.reports import read_report
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.suppressions import suppression_of
from muskox.apps.mail.worlds import moment_now
from tests.apps.conftest import Post, post
from tests.servers import postfix


@pytest.fixture(scope="module")
def server() -> Iterator[postfix.Server]:
    reason = postfix.missing()
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)
    assert not reason
    with postfix.Server() as running:
        yield running


async def read_until(here: Post, server: postfix.Server, id: str, state: MessageState) -> None:
    """Read what has landed in the Maildir until a message is in a state."""
    inbound = Inbound(here.mail)
    with here.mail.bell.listen(id) as ear:
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(here.message, id)).state is not state:
                await inbound.read_maildir(server.reports)
                await ear.wait(0.05)


def suppressed(here: Post, address: str) -> tuple[str, str] | None:
    with here.engine.connect() as connection:
        found = suppression_of(connection, address, "transactional", moment_now(here.ox.world))
    return None if found is None else (found.scope, found.reason)


async def test_case_e33_reports_of_postfix_say_delivered_and_bounced_by_the_token_in_the_sender(tmp_path, server):
    async with post(tmp_path, port=server.port, mail={"bounce_domain": "bounces.example.org"}) as here:
        there = await here.asend(to="ada@example.org")
        gone = await here.asend(to="gone@example.org")
        assert {(await here.ended(id)).state for id in (there, gone)} == {MessageState.SENT}

        await read_until(here, server, there, MessageState.DELIVERED)
        await read_until(here, server, gone, MessageState.BOUNCED)

        bounced = here.message(gone)
        said = here.events(gone)[-1]
        assert (bounced.reason, said.type, said.source) == ("unknown_mailbox", "bounced", "dsn")
        assert '"5.1.1"' in str(said.detail).replace("'", '"')
        assert suppressed(here, "gone@example.org") == ("all", "hard_bounce")
        assert suppressed(here, "ada@example.org") is None
        again = await here.ended(await here.asend(to="gone@example.org"))
        assert (again.state, again.reason) == (MessageState.SUPPRESSED, "prior_bounce")


async def test_case_e33_without_a_token_the_envelope_id_alone_finds_the_message(tmp_path, server):
    async with post(tmp_path, port=server.port) as here:
        id = await here.asend(to="lost@example.org")
        sent = await here.ended(id)
        assert (sent.state, sent.bounce_token) == (MessageState.SENT, None)
        # Postfix sends the Message-ID back too; nobody is found by it.
        with here.engine.begin() as connection:
            connection.execute(update(tables.messages).where(tables.messages.c.id == id).values(message_id_header="<>"))

        await read_until(here, server, id, MessageState.BOUNCED)

        assert here.message(id).reason == "unknown_mailbox"
        assert suppressed(here, "lost@example.org") == ("all", "hard_bounce")
        reports = [read_report(file.read_bytes()) for file in (server.reports / "cur").iterdir()]
        assert [report.tokens for report in reports if report.envelope_id == id] == [()]
