"""Sending over real sockets: each phase fails once, and the wire is looked at byte by byte."""

from __future__ import annotations

import dataclasses
import ssl

import pytest
import trustme

from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.pool import Pooling, Smtp
from muskox.apps.mail.replies import Fault, Phase
from muskox.apps.mail.smtp import Envelope, SmtpServer, Timeouts, Tls
from muskox.apps.mail.wire import dot_stuffed
from muskox.testing import FakeWorld
from tests.apps.sink import DROP, SILENCE, sink

QUICK = Timeouts(connect=2, greeting=0.3, command=0.3, block=2, commit=0.3)


def envelope(raw: bytes = b"Subject: x\r\n\r\nhello\r\n", to: str = "ada@example.org") -> Envelope:
    address = parse_address(to)
    return Envelope("m1", "no-reply@example.org", address, raw, address.needs_smtputf8)


class Committing:
    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


def smtp(port: int, **settings: object) -> Smtp:
    values = {"tls": Tls.NONE, "timeouts": QUICK, **settings}
    server = SmtpServer("localhost" if "context" in settings else "127.0.0.1", port, **values)
    return Smtp(server, FakeWorld(), pooling=Pooling(messages=1))


async def test_a_mail_is_handed_over_step_by_step():
    async with sink() as server:
        before_commit = Committing()

        reply = await smtp(server.port).deliver(envelope(), before_commit)

        assert (reply.phase, reply.code, reply.enhanced) == (Phase.DONE, 250, "2.0.0")
        assert server.mails == [b"Subject: x\r\n\r\nhello\r\n"]
        assert before_commit.times == 1
        await server.until(lambda: "QUIT" in server.commands)
        assert [line.split(" ")[0] for line in server.commands] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize(
    ("step", "phase"),
    [
        ("greeting", Phase.GREETING),
        ("MAIL", Phase.MAIL),
        ("RCPT", Phase.RCPT),
        ("DATA", Phase.DATA),
        ("COMMIT", Phase.COMMIT),
    ],
)
@pytest.mark.parametrize("answer", ["451 4.3.0 later", "554 5.7.1 no", DROP, SILENCE, "999 what", "nonsense"])
async def test_the_phase_of_every_refusal_is_known(step, phase, answer):
    async with sink() as server:
        server.answers(**{step: answer})
        before_commit = Committing()

        reply = await smtp(server.port).deliver(envelope(), before_commit)

        assert reply.phase is phase
        assert before_commit.times == (1 if phase is Phase.COMMIT else 0)
        if answer[:3] in {"451", "554"}:
            assert (reply.code, reply.fault) == (int(answer[:3]), None)
        else:
            assert reply.code is None
            assert reply.fault is not None


async def test_a_line_that_breaks_in_the_body_never_reaches_commit():
    async with sink() as server:
        server.answers(BODY=DROP)
        before_commit = Committing()

        reply = await smtp(server.port).deliver(envelope(b"x" * 70 + b"\r\n" + b"y" * 9_000_000), before_commit)

        assert (reply.phase, reply.fault) == (Phase.BODY, Fault.NETWORK)
        assert before_commit.times == 0


async def test_nothing_is_written_when_the_right_to_commit_is_gone():
    async def overtaken() -> None:
        raise LookupError("somebody else has it")

    async with sink() as server:
        with pytest.raises(LookupError):
            await smtp(server.port).deliver(envelope(), overtaken)

        await server.until(lambda: server.connections == 1)
        assert server.mails == []


async def test_a_closed_port_is_a_network_fault_at_connect():
    async with sink() as server:
        port = server.port

    reply = await smtp(port).deliver(envelope(), Committing())

    assert (reply.phase, reply.fault) == (Phase.CONNECT, Fault.NETWORK)


async def test_ehlo_refused_falls_back_to_helo():
    async with sink() as server:
        server.answers(EHLO="502 what")

        reply = await smtp(server.port).deliver(envelope(), Committing())

        assert reply.phase is Phase.DONE
        assert server.commands[1].startswith("HELO [127.0.0.1]")


@pytest.mark.parametrize("raw", [b".\r\n", b"..\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n.b\r\n", b"a\r\n.", b"\r\n" * 5])
async def test_case_e41_dots_survive_the_wire(raw):
    async with sink() as server:
        await smtp(server.port).deliver(envelope(raw), Committing())

        sent = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
        assert server.mails == [sent]
        assert len(server.wires) == 1


@pytest.mark.parametrize("raw", [b"a\nb", b"a\rb", b"a\n.\nRCPT TO:<x>\r\n", b"\n", b"a\r\r\n"])
def test_security_s22_a_bare_line_end_is_never_written(raw):
    with pytest.raises(ValueError, match="bare"):
        dot_stuffed(raw)


async def test_a_large_mail_arrives_whole():
    raw = b"".join(b"%07d %s\r\n" % (number, b"." * 60) for number in range(60_000))
    async with sink() as server:
        reply = await smtp(server.port, timeouts=Timeouts()).deliver(envelope(raw), Committing())

        assert reply.phase is Phase.DONE
        assert server.mails == [raw]


async def test_the_size_that_a_server_names_is_kept():
    async with sink(extensions=["SIZE 100"]) as server:
        reply = await smtp(server.port).deliver(envelope(b"x" * 200), Committing())

        assert (reply.phase, reply.fault) == (Phase.MAIL, Fault.TOO_LARGE)
        assert "200" in reply.text
        assert not any(line.startswith("MAIL") for line in server.commands)


async def test_case_e17_letters_outside_of_ascii_need_smtputf8():
    zoe = envelope(to="zoë@example.org")
    async with sink() as server:
        refused = await smtp(server.port).deliver(zoe, Committing())
        server.extensions.append("SMTPUTF8")
        taken = await smtp(server.port).deliver(zoe, Committing())

        assert (refused.phase, refused.fault) == (Phase.MAIL, Fault.INVALID_ADDRESS)
        assert "SMTPUTF8" in refused.text
        assert taken.phase is Phase.DONE
        assert "RCPT TO:<zoë@example.org>" in server.commands
        assert any(line.endswith("BODY=8BITMIME SMTPUTF8") for line in server.commands)


async def test_no_extension_is_used_that_was_not_offered():
    async with sink(extensions=[]) as server:
        await smtp(server.port).deliver(envelope(), Committing())

        assert "MAIL FROM:<no-reply@example.org>" in server.commands


@pytest.mark.parametrize("method", ["PLAIN", "LOGIN"])
async def test_a_login_uses_what_the_server_offers(method):
    async with sink(extensions=[f"AUTH {method}"]) as server:
        server.script = lambda step, _: (
            "334 UGFzc3dvcmQ6"
            if step == "AUTH" and method == "LOGIN"
            else (
                "235 ok" if step not in {"greeting", "EHLO", "MAIL", "RCPT", "DATA", "COMMIT", "QUIT", "AUTH"} else None
            )
        )

        reply = await smtp(server.port, username="ada", password="secret").deliver(envelope(), Committing())

        assert reply.phase is Phase.DONE
        assert any(line.startswith(f"AUTH {method}") for line in server.commands)


async def test_a_refused_login_is_told_with_its_code():
    async with sink(extensions=["AUTH PLAIN"]) as server:
        server.answers(AUTH="535 5.7.8 wrong")

        reply = await smtp(server.port, username="ada", password="secret").deliver(envelope(), Committing())

        assert (reply.phase, reply.code, reply.enhanced) == (Phase.AUTH, 535, "5.7.8")


async def test_a_server_without_logins_is_told_apart():
    async with sink() as server:
        reply = await smtp(server.port, username="ada", password="secret").deliver(envelope(), Committing())

        assert (reply.phase, reply.fault) == (Phase.AUTH, Fault.AUTH)


def test_the_password_is_not_shown():
    assert "secret" not in repr(SmtpServer("mail.example.org", username="ada", password="secret"))


# --- the protected line ---


@pytest.fixture
def authority():
    return trustme.CA()


def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def test_starttls_protects_the_conversation(authority):
    server_side, client_side = contexts(authority)
    async with sink(extensions=["STARTTLS"], tls=server_side) as server:
        reply = await smtp(server.port, tls=Tls.STARTTLS, context=client_side).deliver(envelope(), Committing())

        assert reply.phase is Phase.DONE
        assert [line.split(" ")[0] for line in server.commands][:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


async def test_case_e38_starttls_not_offered_sends_nothing_in_clear():
    async with sink() as server:
        reply = await smtp(server.port, tls=Tls.STARTTLS).deliver(envelope(), Committing())

        assert (reply.phase, reply.fault) == (Phase.TLS, Fault.TLS)
        assert not any(line.startswith(("MAIL", "AUTH")) for line in server.commands)


async def test_case_e38_a_certificate_of_nobody_sends_nothing(authority):
    server_side, _ = contexts(authority)
    async with sink(extensions=["STARTTLS"], tls=server_side) as server:
        reply = await smtp(server.port, tls=Tls.STARTTLS).deliver(envelope(), Committing())

        assert (reply.phase, reply.fault) == (Phase.TLS, Fault.TLS)
        assert not any(line.startswith("MAIL") for line in server.commands)


async def test_implicit_tls_protects_the_conversation_from_its_first_byte(authority):
    server_side, client_side = contexts(authority)
    async with sink(tls=server_side, implicit=True) as server:
        reply = await smtp(server.port, tls=Tls.IMPLICIT, context=client_side).deliver(envelope(), Committing())
        refused = await smtp(server.port, tls=Tls.IMPLICIT).deliver(envelope(), Committing())

        assert reply.phase is Phase.DONE
        assert (refused.phase, refused.fault) == (Phase.TLS, Fault.TLS)
        assert len(server.mails) == 1


async def test_security_s21_an_envelope_address_with_a_line_break_never_reaches_the_wire():
    evil = Envelope("m1", "a@example.org>\r\nRCPT TO:<evil@x", parse_address("ada@example.org"), b"x\r\n", False)
    async with sink() as server:
        with pytest.raises(ValueError, match="control character"):
            await smtp(server.port).deliver(evil, Committing())

        assert not any("evil" in line for line in server.commands)


async def test_fault_k3_what_is_said_before_the_upgrade_is_not_heard_after_it(authority):
    server_side, client_side = contexts(authority)
    async with sink(extensions=["STARTTLS"], tls=server_side) as server:
        server.answers(STARTTLS="220 go ahead\r\n250-evil\r\n250 SMTPUTF8")
        wanting = envelope(to="zoë@example.org")

        reply = await smtp(server.port, tls=Tls.STARTTLS, context=client_side).deliver(wanting, Committing())

        # What was slipped in would have offered SMTPUTF8.
        assert (reply.phase, reply.accepted) != (Phase.DONE, True)
        assert not any("SMTPUTF8" in line for line in server.commands)


@pytest.mark.parametrize("step", ["greeting", "MAIL", "COMMIT"])
@pytest.mark.parametrize("answer", ["250 " + "x" * 200_000, "250-x\r\n" * 20_000 + "250 x"], ids=["line", "lines"])
async def test_fault_k4_an_answer_without_end_is_not_read_to_its_end(step, answer):
    async with sink() as server:
        server.answers(**{step: answer})

        reply = await smtp(server.port).deliver(envelope(), Committing())

        assert not reply.accepted
        assert len(reply.text) <= 1_024


async def test_case_e34_reports_are_asked_for_only_where_they_are_offered():
    asking = dataclasses.replace(envelope(to="a+b@example.org"), notify="SUCCESS,FAILURE,DELAY")
    async with sink() as plain, sink(extensions=["DSN"]) as offering:
        for server in (plain, offering):
            assert (await smtp(server.port).deliver(asking, Committing())).accepted

        assert not any("NOTIFY" in line or "ENVID" in line for line in plain.commands)
        assert "MAIL FROM:<no-reply@example.org> RET=HDRS ENVID=m1" in offering.commands
        rcpt = "RCPT TO:<a+b@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Bb@example.org"
        assert rcpt in offering.commands
