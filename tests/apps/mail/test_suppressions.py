"""Who is not written to: scopes, reasons, ends, and that it is asked when a mail is accepted and when it is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.suppressions import ALL, BULK, Suppressed, find, lift, list_scope, suppress, suppression_of
from tests.apps.conftest import Post, post
from tests.apps.sink import sink

ADA = parse_address("Ada@Example.org")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
HARD, COMPLAINT, LEFT = Suppressed.HARD_BOUNCE, Suppressed.COMPLAINT, Suppressed.UNSUBSCRIBE


@pytest.mark.parametrize(
    ("scope", "transactional", "bulk", "of_the_list"),
    [(ALL, True, True, True), (BULK, False, True, True), (list_scope("news"), False, False, True)],
)
async def test_a_scope_says_which_mail_is_held_back(with_inbox: Post, scope, transactional, bulk, of_the_list):
    with with_inbox.engine.begin() as connection:
        suppress(connection, ADA, COMPLAINT, NOW, scope=scope)

        asked = [
            suppression_of(connection, ADA.key, "transactional", NOW),
            suppression_of(connection, ADA.key, "bulk", NOW, list_id="other"),
            suppression_of(connection, ADA.key, "bulk", NOW, list_id="news"),
            suppression_of(connection, "grace@example.org", "bulk", NOW, list_id="news"),
        ]

    assert [found is not None for found in asked] == [transactional, bulk, of_the_list, False]


async def test_an_end_counts_and_the_later_one_wins(with_inbox: Post):
    soft = Suppressed.SOFT_BOUNCE_LIMIT
    with with_inbox.engine.begin() as connection:
        first = suppress(connection, ADA, soft, NOW, expires_at=NOW + timedelta(days=30))
        again = suppress(connection, ADA, soft, NOW, expires_at=NOW + timedelta(days=10))
        within = suppression_of(connection, ADA.key, "bulk", NOW + timedelta(days=29))
        after = suppression_of(connection, ADA.key, "bulk", NOW + timedelta(days=30))
        anew = suppress(connection, ADA, soft, NOW + timedelta(days=31))

        assert (first, again, anew) == (True, False, True)
        assert (within is not None, after) == (True, None)
        assert suppression_of(connection, ADA.key, "bulk", NOW + timedelta(days=999)) is not None


async def test_lifting_one_reason_leaves_the_others(with_inbox: Post):
    with with_inbox.engine.begin() as connection:
        suppress(connection, ADA, HARD, NOW)
        suppress(connection, ADA, COMPLAINT, NOW)

        assert lift(connection, ADA.key, ALL, HARD) == 1
        found = suppression_of(connection, ADA.key, "transactional", NOW)
        assert (found and found.reason) == COMPLAINT
        assert lift(connection, ADA.key, ALL) == 1
        assert suppression_of(connection, ADA.key, "transactional", NOW) is None


async def test_pages_of_suppressions_miss_none(with_inbox: Post):
    with with_inbox.engine.begin() as connection:
        for number in range(7):
            suppress(connection, parse_address(f"a{number}@example.org"), HARD, NOW, source=f"event-{number}")
        seen, after = [], None
        while page := find(connection, limit=3, after=after):
            seen += [one.address for one in page]
            last = page[-1]
            after = (last.created_at, last.address_key, last.scope, last.reason)

    assert seen == [f"a{number}@example.org" for number in reversed(range(7))]


@pytest.mark.parametrize("scope", ["", "everything", "list:", "list:\n", "list:" + "x" * 80])
async def test_a_scope_that_is_none_is_refused(with_inbox: Post, scope):
    with with_inbox.engine.begin() as connection, pytest.raises(Refused, match="scope"):
        suppress(connection, ADA, HARD, NOW, scope=scope)


async def test_a_suppressed_address_is_accepted_as_suppressed_and_no_connection_is_made(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as running:
        with running.engine.begin() as connection:
            suppress(connection, ADA, HARD, NOW)
        id = await running.asend()
        message = running.message(id)

        assert (message.state, message.reason) == ("suppressed", "prior_bounce")
        assert [event.type for event in running.events(id)] == ["queued", "suppressed"]
        assert await running.ox.queue(message.queue).get(message.job_id) is None
        assert server.connections == 0


async def test_fault_k7_a_suppression_between_accepting_and_sending_holds_the_mail_back(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port, worker=False) as running:
        id = await running.asend()
        with running.engine.begin() as connection:
            suppress(connection, ADA, LEFT, NOW, scope=BULK)
            suppress(connection, ADA, HARD, NOW)
        async with running.ox.worker():
            message = await running.ended(id)

        assert (message.state, message.reason, message.attempts) == ("suppressed", "prior_bounce", 0)
        assert server.connections == 0
