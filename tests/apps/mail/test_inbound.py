"""Reports and events that come back about mail: real forms of them, repeated, out of order and hostile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from muskox.apps.mail import store, tables
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.inbound import Inbound, Told, read_bounces
from muskox.apps.mail.reports import LARGEST_REPORT, Action, ReportKind, read_report
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.suppressions import suppression_of
from muskox.apps.mail.worlds import moment_now
from muskox.testing import FakeWorld, run_jobs
from tests.apps.conftest import post

BOUNCES = {"mail": {"bounce_domain": "bounces.example.org"}}


def dsn(*, to="", envelope_id="", message_id="", action="failed", status="5.1.1", code="550 5.1.1 no such user"):
    """A report as Postfix writes it."""
    return f"""From: MAILER-DAEMON@mx.example.org (Mail Delivery System)
To: {to or "no-reply@example.org"}
Subject: Undelivered Mail Returned to Sender
Message-ID: <{action}.{status}.{envelope_id}{to}{message_id.strip("<>")}@mx.example.org>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="edge"

--edge
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.
--edge
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
{f"Original-Envelope-Id: {envelope_id}" if envelope_id else "X-Postfix-Queue-ID: 1"}

Final-Recipient: rfc822; ada@example.org
Original-Recipient: rfc822;ada@example.org
Action: {action}
Status: {status}
Remote-MTA: dns; mail.example.org
Diagnostic-Code: smtp; {code}

--edge
Content-Type: text/rfc822-headers

Subject: Welcome
Message-ID: {message_id or "<unknown@elsewhere.example>"}

--edge--
""".replace("\n", "\r\n").encode()


def arf(to: str) -> bytes:
    return f"""From: <abuse@provider.example>
To: complaints@example.org
Subject: complaint
Message-ID: <arf-1@provider.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="edge"

--edge
Content-Type: text/plain

This is an abuse report.
--edge
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: Provider/1.0
Version: 1
Original-Mail-From: <{to}>

--edge
Content-Type: message/rfc822

Subject: News

--edge--
""".replace("\n", "\r\n").encode()


@asynccontextmanager
async def with_message(folder, state=MessageState.SENT, **options):
    """One message that has come as far as `state`, and what takes reports about it."""
    async with post(folder, worker=False, **BOUNCES) as built:
        id = await built.asend(**options)
        way = {
            MessageState.QUEUED: [],
            MessageState.SENDING: [MessageState.SENDING],
            MessageState.UNKNOWN: [MessageState.SENDING, MessageState.UNKNOWN],
            MessageState.SENT: [MessageState.SENDING, MessageState.SENT],
        }[state]
        with built.engine.begin() as connection:
            message = store.get(connection, id)
            for step in way:
                message = store.move(connection, message, step, moment_now(built.ox.world))
        yield built, Inbound(built.mail), id


def suppressed(built, stream="transactional"):
    with built.engine.connect() as connection:
        found = suppression_of(connection, "ada@example.org", stream, moment_now(built.ox.world))
    return None if found is None else (found.scope, found.reason)


@pytest.mark.parametrize("by", ["token", "envelope id", "message id"])
async def test_case_e33_a_bounce_is_matched_by_token_then_envelope_id_then_message_id(tmp_path, by):
    async with with_message(tmp_path) as (built, inbound, id):
        message = built.message(id)
        names = {
            "token": {"to": message.envelope_from},
            "envelope id": {"envelope_id": id},
            "message id": {"message_id": message.message_id_header},
        }

        assert await inbound.take_report(dsn(**names[by])) == "moved"

        after = built.message(id)
        assert (after.state, after.reason) == ("bounced", "unknown_mailbox")
        assert suppressed(built) == ("all", "hard_bounce")
        assert (built.events(id)[-1].type, built.events(id)[-1].source) == ("bounced", "dsn")


async def test_case_e33_a_success_report_makes_it_delivered(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        report = dsn(envelope_id=id, action="delivered", status="2.0.0", code="250 2.0.0 ok")

        assert await inbound.take_report(report) == "moved"

        assert built.message(id).state == "delivered"
        assert suppressed(built) is None


async def test_a_delay_is_told_and_moves_nothing(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        report = dsn(envelope_id=id, action="delayed", status="4.4.1", code="451 4.4.1 no answer")

        assert await inbound.take_report(report) == "noted"

        assert built.message(id).state == "sent"
        assert built.events(id)[-1].type == "delayed"


async def test_a_report_resolves_what_nobody_knew(tmp_path):
    async with with_message(tmp_path, MessageState.UNKNOWN, kind="newsletter") as (built, inbound, id):
        await inbound.take_report(dsn(envelope_id=id, action="delivered", status="2.0.0", code="250 ok"))

        assert built.message(id).state == "delivered"


async def test_a_refusal_for_policy_suppresses_nobody(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        await inbound.take_report(dsn(envelope_id=id, status="5.7.1", code="550 5.7.1 blocked"))

        assert (built.message(id).state, built.message(id).reason) == ("bounced", "policy")
        assert suppressed(built) is None


async def test_case_e35_a_complaint_stops_bulk_mail_and_nothing_else(tmp_path):
    async with with_message(tmp_path, kind="newsletter") as (built, inbound, id):
        assert await inbound.take_report(arf(built.message(id).envelope_from)) == "moved"

        assert built.message(id).state == "complained"
        assert suppressed(built, "bulk") == ("stream:bulk", "complaint")
        assert suppressed(built) is None
        welcome = built.message(await built.asend())
        assert welcome.state == "queued"


async def test_case_e36_events_three_times_and_in_the_wrong_order_end_the_same(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        now = moment_now(built.ox.world)
        told = [Told(f"evt-{type}", type, id, now) for type in ("delivered", "sent", "queued")]

        answers = [await inbound.take_told(one) for one in told * 3]

        assert answers == ["moved", "ignored", "ignored", *["repeated"] * 6]
        assert built.message(id).state == "delivered"
        assert [event.source for event in built.events(id)].count("webhook") == 3


async def test_evidence_that_comes_before_our_own_word_waits_for_it(tmp_path):
    async with with_message(tmp_path, MessageState.QUEUED) as (built, inbound, id):
        early = Told("evt-1", "delivered", id, moment_now(built.ox.world))

        assert await inbound.take_told(early) == "waits"
        assert built.message(id).state == "queued"
        assert await inbound.take_told(early) == "repeated"

        async with built.ox.worker():
            await built.ended(id)

        assert built.message(id).state == "delivered"
        with built.engine.connect() as connection:
            assert connection.execute(tables.evidence.select()).all() == []


async def test_a_late_bounce_beats_a_delivery_and_no_delivery_beats_a_bounce(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        now = moment_now(built.ox.world)
        for number, type in enumerate(["delivered", "bounced", "delivered"]):
            await inbound.take_told(Told(f"evt-{number}", type, id, now + timedelta(seconds=number), 550, "5.1.1 gone"))

        assert (built.message(id).state, built.message(id).reason) == ("bounced", "unknown_mailbox")


async def test_fault_k6_what_belongs_to_nobody_is_kept_and_moves_nothing(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        forged = dsn(to="bounces+aaaaaaaaaaaaaaaaaa@bounces.example.org")

        assert await inbound.take_report(forged) == "unmatched"
        assert await inbound.take_report(forged) == "repeated"

        assert built.message(id).state == "sent"
        assert suppressed(built) is None


def nested(depth: int) -> bytes:
    opening = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(depth))
    return b"To: x@example.org\r\n" + opening


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe" * 1_000,
        nested(1_000),
        dsn(envelope_id="x").replace(b"us-ascii", b"no-such-charset"),
        dsn(envelope_id="x").replace(b"message/delivery-status", b"message/delivery-status; charset=\xff"),
        b"Content-Type: multipart/report; report-type=delivery-status\r\n\r\nno boundary",
        b"To: " + b"<" * 100_000 + b"\r\n\r\n",
    ],
    ids=["empty", "noise", "nested", "charset", "parameter", "no boundary", "brackets"],
)
def test_fault_k6_a_hostile_report_is_read_without_harm(raw):
    assert read_report(raw).kind in set(ReportKind)


def test_fault_k6_a_report_that_is_too_large_is_not_read():
    with pytest.raises(Refused):
        read_report(b"x" * (LARGEST_REPORT + 1))


def test_a_holiday_note_is_no_bounce():
    raw = b"To: bounces+abcdefghijklmnopqr@x.org\r\nAuto-Submitted: auto-replied\r\nSubject: Away\r\n\r\nback on Monday"

    report = read_report(raw)

    assert (report.kind, report.tokens) == (ReportKind.AUTO_REPLY, ("abcdefghijklmnopqr",))


def test_each_recipient_of_a_report_has_its_own_words():
    [recipient] = read_report(dsn(envelope_id="x", status="5.0.0", code="550-5.2.1 disabled")).recipients

    assert (recipient.action, recipient.address) == (Action.FAILED, "ada@example.org")
    assert (recipient.reply.code, recipient.reply.enhanced) == (550, "5.2.1")


async def test_reports_are_read_from_a_maildir_and_put_away(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        folder = tmp_path / "bounces"
        (folder / "new").mkdir(parents=True)
        (folder / "new" / "1.a").write_bytes(dsn(envelope_id=id))
        (folder / "new" / "2.b").write_bytes(b"no report")

        assert await inbound.read_maildir(folder) == 2
        assert await inbound.read_maildir(folder) == 0

        assert built.message(id).state == "bounced"
        assert sorted(file.name for file in (folder / "cur").iterdir()) == ["1.a:2,S", "2.b:2,S"]


async def test_two_reports_at_once_count_one_after_the_other(tmp_path):
    async with with_message(tmp_path) as (built, inbound, id):
        reports = [dsn(envelope_id=id, action="delivered", status="2.0.0", code="250 ok"), dsn(envelope_id=id)]

        await asyncio.gather(*(inbound.take_report(raw) for raw in reports * 4))

        assert [event.type for event in built.events(id)][3:] in (["delivered", "bounced"], ["bounced", "ignored"])


async def test_a_maildir_is_read_by_a_schedule(tmp_path):
    world = FakeWorld()
    async with post(tmp_path, worker=False, world=world, **BOUNCES) as built:
        folder = tmp_path / "bounces"
        (folder / "new").mkdir(parents=True)
        (folder / "new" / "1.a").write_bytes(dsn(envelope_id="nobody"))
        read_bounces(Inbound(built.mail), folder)
        await run_jobs(built.ox)

        world.advance(61)
        await run_jobs(built.ox)

        assert [file.name for file in (folder / "cur").iterdir()] == ["1.a:2,S"]
