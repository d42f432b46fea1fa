"""Messages on their way through a real worker, to a scripted server and to the inbox."""

from __future__ import annotations

import asyncio
import dataclasses
import email.policy
from datetime import timedelta
from email.parser import BytesParser

import pytest
from sqlalchemy.orm import Session

from muskox import JobFailed
from muskox.apps.mail import delivery, kinds, store
from muskox.apps.mail.catalogue import shipped_templates
from muskox.apps.mail.errors import AddressRefused, HeaderRefused, Overtaken, Refused, TemplateUnknown
from muskox.apps.mail.kinds import KINDS, Growth
from muskox.apps.mail.replies import Phase
from muskox.apps.mail.smtp import Timeouts
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.templates import MailTemplate
from muskox.apps.mail.worlds import moment_now
from muskox.testing import FakeWorld, run_jobs
from tests.apps.conftest import WELCOME, Post, post
from tests.apps.sink import DROP, SILENCE, sink


@pytest.fixture
def hurry(monkeypatch):
    """Kinds of mail whose delays are too short to wait for."""
    soon = Growth(0.01, 1.0)
    for name, kind in list(KINDS.items()):
        monkeypatch.setitem(kinds.KINDS, name, dataclasses.replace(kind, network=soon, reply=soon, greylisted=0.01))


def types(built: Post, id: str) -> list[str]:
    return [event.type for event in built.events(id)]


async def test_case_e01_a_mail_reaches_the_server_once(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        id = await built.asend(display="Ada")

        message = await built.ended(id)
        assert (message.state, message.attempts) == ("sent", 1)
        assert [(event.seq, event.type) for event in built.events(id)] == [(1, "queued"), (2, "sending"), (3, "sent")]
        assert len(server.mails) == 1
        assert b"To: Ada <ada@example.org>" in server.mails[0]
        assert message.message_id_header.encode() in server.mails[0]
        assert (message.smtp_code, message.enhanced_code) == (250, "2.0.0")


async def test_case_e02_without_a_server_a_mail_is_delivered_to_the_inbox(with_inbox):
    id = await with_inbox.asend()

    message = await with_inbox.until(id, lambda message: message.state == "delivered")
    assert types(with_inbox, id) == ["queued", "sending", "sent", "delivered"]
    [mail] = with_inbox.mail.transport.find(to="ADA@example.org")
    assert (mail.message_id, mail.subject) == (message.id, "Welcome to Muskox, Ada")


async def test_case_e03_a_transaction_that_is_rolled_back_leaves_nothing(tmp_path):
    async with post(tmp_path, worker=False) as built:

        def send_and_fail() -> str:
            with Session(built.engine) as session:
                id = built.send(within=session)
                session.rollback()
            return id

        id = await asyncio.to_thread(send_and_fail)

        with built.engine.connect() as connection:
            assert store.get(connection, id) is None
        assert await built.ox.queue("mail").get(id) is None


async def test_a_message_and_its_job_commit_together(tmp_path):
    async with post(tmp_path, worker=False) as built:
        id = await built.asend(kind="password_reset", template="welcome")

        job = await built.ox.queue("mail-high").get(id)
        assert job is not None
        assert (job.priority, job.options.attempts, job.data) == (10, 5, {"message_id": id})


@pytest.mark.parametrize(
    ("refused", "options"),
    [
        (AddressRefused, {"to": "a@b.c>\r\nRCPT TO:<e@x"}),
        (HeaderRefused, {"display": "A\r\nBcc: x@y.z"}),
        (HeaderRefused, {"context": {**WELCOME, "name": "a\x00b"}}),
        (HeaderRefused, {"headers": [("X-Ticket", "a\nb")]}),
        (HeaderRefused, {"headers": [("Bcc", "eve@example.org")]}),
        (TemplateUnknown, {"template": "nothing"}),
        (Refused, {"kind": "nothing"}),
    ],
)
async def test_case_e16_what_cannot_become_a_mail_is_refused_before_anything_is_stored(tmp_path, refused, options):
    async with post(tmp_path, worker=False) as built:
        with pytest.raises(refused):
            await built.asend(**options)

        assert await built.ox.counts() == []


async def test_the_same_key_is_the_same_message(tmp_path):
    async with post(tmp_path, worker=False) as built:
        first, again = await built.asend(key="welcome/1"), await built.asend(key="welcome/1")

        assert first == again
        assert await built.asend(key="welcome/1", scope="other") != first
        assert (await built.ox.queue("mail").counts()).total == 2


@pytest.mark.usefixtures("hurry")
async def test_mission_c02_a_reset_mail_has_five_attempts(tmp_path):
    async with sink() as server:
        port = server.port
    async with post(tmp_path, port=port) as built:
        id = await built.asend(kind="password_reset")

        message = await built.ended(id)
        assert (message.state, message.reason, message.attempts) == ("failed", "attempts", 5)
        assert message.reason_detail.startswith("network")
        assert types(built, id) == ["queued", *["sending", "deferred"] * 4, "sending", "failed"]
        with pytest.raises(JobFailed):
            await built.ox.queue("mail-high").result(id, timeout=10)
        job = await built.ox.queue("mail-high").get(id)
        assert (job.state, job.attempt) == ("failed", 5)


async def test_case_e04_the_delays_of_a_reset_mail_are_2_4_8_16(tmp_path, monkeypatch):
    asked = []
    real = delivery.next_delay

    async with sink() as server:
        port = server.port

    def noted(attempt, error):
        asked.append(real(attempt, error))
        return 0.0

    monkeypatch.setattr(delivery, "next_delay", noted)
    async with post(tmp_path, port=port) as built:
        id = await built.asend(kind="password_reset")

        await built.ended(id)
        assert [pytest.approx(delay, rel=0.2 if delay > 5 else 0.001) for delay in (2, 4, 8, 16)] == asked


async def test_case_e04_with_a_closed_port_attempts_start_at_0_2_6_14_and_30_seconds(tmp_path):
    async with sink() as server:
        port = server.port
    world = FakeWorld()
    async with post(tmp_path, port=port, worker=False, world=world) as built:
        began = world.now()
        id = await built.asend(kind="password_reset")
        starts = []
        while (message := built.message(id)).state != "failed":
            if message.next_attempt_at is not None:
                world.advance((message.next_attempt_at - moment_now(world)).total_seconds() + 0.001)
            starts.append(world.now() - began)
            await run_jobs(built.ox)

        assert starts == [pytest.approx(at, rel=0.2, abs=0.01) for at in (0, 2, 6, 14, 30)]
        assert (message.reason, message.attempts) == ("attempts", 5)
        assert message.reason_detail.startswith("network")


async def test_case_e06_a_job_that_comes_too_late_sends_nothing(tmp_path):
    world = FakeWorld()
    async with sink() as server, post(tmp_path, port=server.port, worker=False, world=world) as built:
        id = await built.asend(kind="password_reset")
        world.advance(3_301)

        await run_jobs(built.ox)

        message = built.message(id)
        assert (message.state, message.reason, message.attempts) == ("failed", "expired", 0)
        assert server.connections == 0


@pytest.mark.parametrize(
    "name",
    [
        'x" <evil@x.org>, "y',
        "a, b <evil@x.org>",
        "=?utf-8?q?a=0D=0ABcc:_evil@x.org?=",
        "\\",
        '"',
        "a;b:c",
        "Bcc: evil@x.org",
        "ü" * 150,
    ],
)
async def test_security_s21_whatever_a_name_says_the_headers_stay_the_same(tmp_path, name):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        id = await built.asend(display=name, context={**WELCOME, "name": name})

        assert (await built.ended(id)).state == "sent"
        mail = BytesParser(policy=email.policy.default).parsebytes(server.mails[0])
        assert mail.keys() == [
            "Date", "Message-ID", "From", "To", "Subject", "MIME-Version", "Auto-Submitted", "Content-Type",
        ]  # fmt: skip
        [address] = mail["To"].addresses
        assert address.addr_spec == "ada@example.org"
        # Spaces aside: the parser of the standard library keeps those between encoded-words of a name.
        assert address.display_name.replace(" ", "") == name.replace(" ", "")
        assert [line for line in server.commands if line.startswith("RCPT")] == ["RCPT TO:<ada@example.org>"]


async def test_case_e05_a_greylisting_server_is_tried_when_it_asked_for(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.answers(RCPT="451 4.7.1 Greylisted, try again in 240 seconds")
        id = await built.asend(kind="password_reset")

        message = await built.until(id, lambda message: message.state == "deferred")
        wait = (message.next_attempt_at - moment_now(built.ox.world)).total_seconds()
        assert 245 < wait <= 300
        assert built.events(id)[-1].detail["reason"] == "greylisted"

        server.script = lambda _step, _connection: None
        job = await built.until_job(id, "delayed")
        await built.ox.queue("mail-high").promote(job.id)
        message = await built.ended(id)
        assert (message.state, message.attempts) == ("sent", 2)


async def test_case_e06_no_attempt_begins_after_the_deadline(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.answers(RCPT="451 4.3.0 later")
        soon = moment_now(built.ox.world) + timedelta(seconds=30)
        id = await built.asend(kind="password_reset", expires_at=soon)

        message = await built.ended(id)
        assert (message.state, message.reason, message.attempts) == ("failed", "expired", 1)


async def test_case_e07_an_unknown_mailbox_bounces_at_once(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.answers(RCPT="550 5.1.1 no such user")
        id = await built.asend()

        message = await built.ended(id)
        assert (message.state, message.reason, message.attempts) == ("bounced", "unknown_mailbox", 1)
        assert (message.smtp_code, message.mta_response) == (550, "5.1.1 no such user")
        job = await built.until_job(id, "completed")
        assert job.result == {"state": "bounced", "reason": "unknown_mailbox"}


@pytest.mark.usefixtures("hurry")
async def test_case_e11_a_line_that_breaks_in_the_body_makes_no_second_copy(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.script = lambda step, connection: DROP if step == "BODY" and connection <= 8 else None
        ids = [await built.asend(to=f"user{number}@example.org") for number in range(8)]

        for id in ids:
            assert (await built.ended(id)).state == "sent"
        sent = sorted(header_of(mail, b"Message-ID") for mail in server.mails)
        assert sent == sorted(built.message(id).message_id_header.encode() for id in ids)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("fault", [DROP, "nonsense", "999 what"])
async def test_case_e12_an_ambiguous_end_is_told_and_repeated_with_the_same_bytes(tmp_path, fault):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.script = lambda step, connection: fault if step == "COMMIT" and connection == 1 else None
        id = await built.asend(kind="password_reset")

        message = await built.ended(id)
        assert (message.state, message.attempts) == ("sent", 2)
        assert types(built, id) == ["queued", "sending", "ambiguous", "sending", "sent"]
        assert len(server.wires) == 2
        assert server.wires[0] == server.wires[1]


@pytest.mark.usefixtures("hurry")
async def test_case_e13_an_ambiguous_newsletter_is_assumed_sent(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.answers(COMMIT=DROP)
        id = await built.asend(kind="newsletter")

        message = await built.ended(id)
        assert message.state == "sent"
        assert types(built, id) == ["queued", "sending", "ambiguous", "sent"]
        assert len(server.mails) == 1


async def test_case_e17_an_address_that_needs_smtputf8_fails_with_words_where_it_is_not_offered(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        plain, needy = await built.asend(to="zoe@bücher.example"), await built.asend(to="zoë@example.org")

        assert (await built.ended(plain)).state == "sent"
        assert b"To: zoe@xn--bcher-kva.example" in server.mails[0]
        assert "RCPT TO:<zoe@xn--bcher-kva.example>" in server.commands
        message = await built.ended(needy)
        assert (message.state, message.reason) == ("failed", "invalid_address")
        assert "SMTPUTF8" in message.reason_detail


async def test_case_e19_a_missing_variable_fails_after_one_attempt_without_a_connection(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        id = await built.asend(context={"name": "Ada"})

        message = await built.ended(id)
        assert (message.state, message.reason, message.attempts) == ("failed", "render", 1)
        assert "'email'" in message.reason_detail
        assert server.connections == 0


async def test_a_mail_that_is_withdrawn_while_it_waits_is_not_sent(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port, worker=False) as built:
        built.mail.unseal("welcome", lambda _connection, _context: None)
        id = await built.asend()

        async with built.ox.worker():
            message = await built.ended(id)

        assert (message.state, message.attempts) == ("cancelled", 0)
        assert server.connections == 0


async def test_what_is_unsealed_is_in_the_mail_and_in_no_row(tmp_path):
    (tmp_path / "note.html").write_text("<p>{{ name }}: {{ code }}</p>")
    templates = shipped_templates(tmp_path, more=(MailTemplate("note", "Note"),))
    async with post(tmp_path, templates=templates) as built:
        built.mail.unseal("note", lambda _connection, _context: {"code": "xyzzy-4711"})
        id = await built.asend(template="note", context={"name": "Ada"})

        await built.until(id, lambda message: message.state == "delivered")
        [mail] = built.mail.transport.find()
        _, raw = built.mail.transport.get(mail.id)
        assert b"xyzzy-4711" in raw
        assert "xyzzy-4711" not in built.message(id).context
        job = await built.ox.queue("mail").get(id)
        assert "xyzzy-4711" not in job.data_text


# --- runs and jobs that are lost ---


def lose(built: Post, id: str, phase: Phase) -> None:
    """Leave a message as a worker does that is killed in this phase."""
    now = moment_now(built.ox.world)
    with built.engine.begin() as connection:
        message = store.get(connection, id)
        message = store.move(connection, message, MessageState.SENDING, now, attempts=1, date_header=now)
        attempt = store.open_attempt(connection, message, now, job_id=id, fence=1)
        if phase is not Phase.CONNECT:
            store.enter_phase(connection, message, attempt, phase)


async def test_a_run_lost_before_commit_costs_no_attempt(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port, worker=False) as built:
        id = await built.asend()
        await asyncio.to_thread(lose, built, id, Phase.CONNECT)

        async with built.ox.worker():
            message = await built.ended(id)

        assert (message.state, message.attempts) == ("sent", 1)
        assert types(built, id) == ["queued", "sending", "queued", "sending", "sent"]


async def test_a_run_lost_after_commit_is_ambiguous(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port, worker=False) as built:
        ids = [await built.asend(kind=kind) for kind in ("password_reset", "newsletter")]
        for id in ids:
            await asyncio.to_thread(lose, built, id, Phase.COMMIT)

        async with built.ox.worker():
            reset, newsletter = [await built.ended(id) for id in ids]

        assert types(built, reset.id) == ["queued", "sending", "ambiguous", "sending", "sent"]
        assert types(built, newsletter.id) == ["queued", "sending", "ambiguous", "sent"]
        assert len(server.mails) == 1


async def test_a_run_that_was_overtaken_may_not_write_the_end_marker(tmp_path):
    impatient = {"timeouts": Timeouts(command=0.5)}
    async with sink() as server, post(tmp_path, port=server.port, server=impatient) as built:
        server.answers(DATA=SILENCE)
        id = await built.asend()
        await server.until(lambda: "DATA" in server.commands)

        with built.engine.begin() as connection:
            message = store.get(connection, id)
            attempt = store.open_attempt_of(connection, message)
            store.move(connection, message, MessageState.QUEUED, moment_now(built.ox.world))
        with built.engine.begin() as connection, pytest.raises(Overtaken):
            store.enter_phase(connection, message, attempt, Phase.COMMIT)

        assert server.mails == []


@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("remove", "cancelled")])
async def test_a_message_ends_with_its_job(tmp_path, verb, state):
    async with post(tmp_path, worker=False) as built:
        id = await built.asend()
        await getattr(built.ox.queue("mail"), verb)(id)

        assert await built.abandoned.reconcile() == 1

        assert built.message(id).state == state
        assert await built.abandoned.reconcile() == 0


async def test_a_message_hears_that_its_waiting_job_was_cancelled(tmp_path):
    async with sink() as server:
        port = server.port
    async with post(tmp_path, port=port) as built:
        id = await built.asend()
        await built.until(id, lambda message: message.state == "deferred")
        await built.until_job(id, "delayed")

        await built.ox.queue("mail").cancel(id)

        assert (await built.ended(id)).state == "cancelled"


async def test_a_message_moves_once_per_version(tmp_path):
    async with post(tmp_path, worker=False) as built:
        id = await built.asend()
        message = built.message(id)
        now = moment_now(built.ox.world)

        with built.engine.begin() as connection:
            store.move(connection, message, MessageState.SENDING, now)
        with built.engine.begin() as connection, pytest.raises(Overtaken):
            store.move(connection, message, MessageState.SENDING, now)

        assert types(built, id) == ["queued", "sending"]


def header_of(mail: bytes, name: bytes) -> bytes:
    [line] = [line for line in mail.split(b"\r\n\r\n")[0].split(b"\r\n") if line.startswith(name + b":")]
    return line.partition(b": ")[2]


def test_every_kind_has_its_place():
    assert {kind.queue for kind in KINDS.values()} == {"mail", "mail-high", "mail-bulk"}
    assert KINDS["password_reset"].priority > KINDS["welcome"].priority > KINDS["newsletter"].priority


# --- what is learned of mailboxes ---


async def test_case_e07_a_mailbox_that_is_gone_is_written_to_no_more(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.answers(RCPT="550 5.1.1 no such user")
        await built.ended(await built.asend())
        connections = server.connections

        again = await built.ended(await built.asend(kind="password_reset"))

        assert (again.state, again.reason, again.attempts) == ("suppressed", "prior_bounce", 0)
        assert server.connections == connections


async def test_case_e08_a_refusal_for_policy_says_nothing_of_the_mailbox(tmp_path):
    async with sink() as server, post(tmp_path, port=server.port) as built:
        server.answers(RCPT="550 5.7.1 blocked")

        first, second = [await built.ended(await built.asend()) for _ in range(2)]

        assert {(message.state, message.reason) for message in (first, second)} == {("bounced", "policy")}


async def test_case_e09_a_mailbox_that_was_full_three_times_has_a_month_of_rest(tmp_path):
    world = FakeWorld()
    async with sink() as server, post(tmp_path, port=server.port, worker=False, world=world) as built:
        server.answers(RCPT="552 5.2.2 full")
        reasons = []
        for _ in range(4):
            id = built.send()
            await run_jobs(built.ox)
            reasons.append((built.message(id).state, built.message(id).reason))
            world.advance(4 * 86_400)

        assert reasons == [("bounced", "mailbox_full")] * 3 + [("suppressed", "prior_bounce")]
        world.advance(30 * 86_400)
        server.script = lambda _step, _line: None
        id = built.send()
        await run_jobs(built.ox)
        assert built.message(id).state == "sent"
