"""Against a server that is not ours: aiosmtpd, with and without SMTPUTF8, STARTTLS and AUTH."""

from __future__ import annotations

import asyncio
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.parser import BytesParser

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from muskox.apps.mail.smtp import Tls
from tests.apps.conftest import post

# aiosmtpd sends its own deprecation warning for the login call-back that its documentation still shows.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:aiosmtpd")


class Collector:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.logins: list[LoginPassword] = []

    async def handle_DATA(self, server, session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name for it
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"

    def authenticate(self, server, session, envelope, mechanism, data: LoginPassword) -> AuthResult:
        self.logins.append(data)
        return AuthResult(success=data.password == b"secret")


@asynccontextmanager
async def aiosmtpd(**options) -> AsyncIterator[tuple[int, Collector]]:
    collector = Collector()
    if options.get("auth_required"):
        options["authenticator"] = collector.authenticate
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(collector, hostname="aio", loop=loop, **options), host="127.0.0.1", port=0
    )
    try:
        yield server.sockets[0].getsockname()[1], collector
    finally:
        server.close()


async def test_case_e01_a_welcome_mail_arrives_with_text_and_html(tmp_path):
    async with aiosmtpd() as (port, collector), post(tmp_path, port=port) as built:
        id = await built.asend(display="Ada", context={"name": "Ada Lovelace", "email": "ada@example.org"})

        assert (await built.ended(id)).state == "sent"
        [envelope] = collector.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@example.org", ["ada@example.org"])
        mail = BytesParser(policy=email.policy.default).parsebytes(envelope.original_content)
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
        for kind in ("plain", "html"):
            assert "Ada Lovelace" in mail.get_body((kind,)).get_content()
        assert [(event.seq, event.type) for event in built.events(id)] == [(1, "queued"), (2, "sending"), (3, "sent")]


@pytest.mark.parametrize("offered", [False, True])
async def test_case_e17_smtputf8_is_used_where_it_is_offered_and_only_there(tmp_path, offered):
    async with aiosmtpd(enable_SMTPUTF8=offered) as (port, collector), post(tmp_path, port=port) as built:
        domain, local = await built.asend(to="zoe@bücher.example"), await built.asend(to="zoë@example.org")

        assert (await built.ended(domain)).state == "sent"
        message = await built.ended(local)
        recipients = {envelope.rcpt_tos[0] for envelope in collector.envelopes}
        if offered:
            assert message.state == "sent"
            assert recipients == {"zoe@xn--bcher-kva.example", "zoë@example.org"}
        else:
            assert (message.state, message.reason) == ("failed", "invalid_address")
            assert recipients == {"zoe@xn--bcher-kva.example"}


async def test_mission_c05_a_login_over_starttls_is_accepted(tmp_path):
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
    ours = {"tls": Tls.STARTTLS, "context": client_side, "username": "ada", "password": "secret"}
    required = {"require_starttls": True, "auth_required": True, "auth_require_tls": True}
    async with (
        aiosmtpd(tls_context=server_side, **required) as (port, collector),
        post(tmp_path, port=port, server=ours) as built,
    ):
        assert (await built.ended(await built.asend())).state == "sent"
        assert [(login.login, login.password) for login in collector.logins] == [(b"ada", b"secret")]


async def test_case_e41_a_body_of_dots_and_long_lines_arrives_as_it_was(tmp_path):
    name = "." + "x" * 150
    async with aiosmtpd() as (port, collector), post(tmp_path, port=port) as built:
        context = {"name": f"{name}\n.\n..\nbare\n", "changed_at": "x" * 2000}
        id = await built.asend(template="password-changed", kind="custom", context=context)

        assert (await built.ended(id)).state == "sent"
        [envelope] = collector.envelopes
        text = BytesParser(policy=email.policy.default).parsebytes(envelope.original_content).get_body(("plain",))
        content = text.get_payload(decode=True).decode().replace("\r\n", "\n")
        assert f"Hello {name}\n.\n..\nbare\n" in content
        assert "x" * 2000 in content
