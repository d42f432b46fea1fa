"""DKIM signatures, checked by dkimpy's own verifier on the bytes that a server got."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from email import message_from_bytes
from email.utils import parsedate_to_datetime

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import insert

from muskox import OptionError
from muskox.apps.mail.list_links import ListLinks
from muskox.apps.mail.list_tables import subscriptions
from muskox.apps.mail.signing import Dkim
from muskox.apps.mail.spreading import Campaigns
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.subscriptions import Status, Tokens, add_list
from muskox.apps.mail.worlds import moment_now
from tests.apps.conftest import WELCOME, post
from tests.apps.sink import sink

PKCS1, PKCS8 = serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8
LINKS = ListLinks(Tokens(b"a secret of thirty-two bytes, yes"), "https://app.example.org", mailto="leave@example.org")


def pem(key, form=PKCS8, password=None) -> str:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, lock).decode()


def short_key() -> str:
    """A key of 512 bits in its outer form; what makes keys today refuses to make one."""
    numbers = [0, 2**511 + 1, 3, 3, 3, 3, 3, 3, 3]
    fields = [number.to_bytes(number.bit_length() // 8 + 1, "big") for number in numbers]
    der = b"".join(b"\x02" + bytes([len(field)]) + field for field in fields)
    text = base64.encodebytes(b"\x30" + bytes([len(der)]) + der).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65_537, 2_048)


@pytest.fixture(scope="module")
def verifies(key):
    """Whether a mail bears a good signature, with the record in the DNS that belongs to the key."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def record(name: bytes, timeout: int = 5) -> bytes | None:
        there = name == b"2026a._domainkey.example.org."
        return b"v=DKIM1; k=rsa; p=" + base64.b64encode(public) if there else None

    return lambda raw: dkim.verify(raw, dnsfunc=record)


def tags(raw: bytes) -> dict[str, str]:
    value = "".join(message_from_bytes(raw)["DKIM-Signature"].split())
    return dict(tag.split("=", 1) for tag in value.split(";"))


@pytest.mark.parametrize("form", [PKCS1, PKCS8])
async def test_each_mail_is_signed_and_verifies_from_the_bytes_on_the_wire(tmp_path, key, verifies, form):
    signer = Dkim("example.org", "2026a", pem(key, form).replace("\n", "\r\n"))
    async with sink() as server, post(tmp_path, port=server.port, mail={"dkim": signer}) as here:
        sent = await here.ended(await here.asend(display="Zoë Müller"))
        [raw] = server.mails

    assert (sent.state, verifies(raw)) == (MessageState.SENT, True)
    assert {name: tags(raw)[name] for name in ("a", "c", "d", "s")} == {
        "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "example.org", "s": "2026a"
    }  # fmt: skip
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert not verifies(raw.replace(b"Subject: ", b"Subject: Not ", 1))


async def test_security_s30_the_headers_for_one_click_are_signed_and_cannot_be_doubled(tmp_path, key, verifies):
    signer = Dkim("example.org", "2026a", pem(key))
    async with sink() as server, post(tmp_path, port=server.port, worker=False, mail={"dkim": signer}) as here:
        here.mail.links = LINKS
        campaigns = Campaigns(here.mail)
        now = moment_now(here.ox.world) - timedelta(days=1)
        with here.engine.begin() as connection:
            add_list(connection, "news", "News", now)
            ada = {"list_id": "news", "address": "ada@example.org", "address_key": "ada@example.org", "name": "Ada"}
            confirmed = {"status": Status.SUBSCRIBED, "asked_at": now, "confirmed_at": now, "changed_at": now}
            connection.execute(insert(subscriptions), {"id": here.ox.world.new_id(), **ada, **confirmed})
            issue = {"headline_text": "What is new", "paragraphs": ["Much is new."]}
            campaigns.start(connection, "news", "newsletter", issue)
        async with here.ox.worker():
            await server.until(lambda: bool(server.mails))
        [raw] = server.mails

    assert verifies(raw)
    signed = tags(raw)["h"].split(":")
    for name in (b"List-Unsubscribe", b"List-Unsubscribe-Post"):
        assert signed.count(name.decode().lower()) == 2
        assert raw.count(b"\r\n" + name + b": ") == 1
        changed = raw.replace(b"\r\n" + name + b": ", b"\r\n" + name + b": x", 1)
        doubled = raw.replace(b"\r\nSubject:", b"\r\n" + name + b": <https://evil.example/>\r\nSubject:", 1)
        assert (verifies(changed), verifies(doubled)) == (False, False)


async def test_an_attempt_of_another_day_has_the_same_signature(tmp_path, key, verifies):
    signer = Dkim("example.org", "2026a", pem(key))
    async with post(tmp_path, worker=False, mail={"dkim": signer}) as here:
        message = await asyncio.to_thread(here.message, await here.asend())
        context = {**here.mail.site, **WELCOME}
        begun = moment_now(here.ox.world).replace(microsecond=0) - timedelta(days=1)

        first, second = (here.mail.composed(message, context, begun) for _ in range(2))

    assert first == second
    assert verifies(second.raw)
    assert int(tags(second.raw)["t"]) == begun.timestamp()
    assert parsedate_to_datetime(message_from_bytes(second.raw)["Date"]) == begun


@pytest.mark.parametrize(
    "changes",
    [
        {"to": "zoë@bücher.example"},
        {"display": "Ж" * 200},
        {"headers": [("X-Empty", ""), ("X-Long", "word " * 300), ("X-Twice", "a"), ("X-Twice", "b")]},
    ],
    ids=["utf-8 in the head", "many encoded-words", "odd headers"],
)
async def test_whatever_a_head_may_hold_the_signature_is_good(tmp_path, key, verifies, changes):
    signer = Dkim("example.org", "2026a", pem(key))
    async with post(tmp_path, worker=False, mail={"dkim": signer}) as here:
        message = await asyncio.to_thread(here.message, await here.asend(**changes))

        composed = here.mail.composed(message, {**here.mail.site, **WELCOME}, message.created_at)

    assert verifies(composed.raw)


def test_what_cannot_sign_is_refused_with_words(key):
    curve = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip

    for text in (pem(curve), public.decode(), "", "secret", pem(key)[:400] + "\n-----END PRIVATE KEY-----"):
        with pytest.raises(OptionError, match="no RSA private key"):
            Dkim("example.org", "2026a", text)
    with pytest.raises(OptionError, match="protected by a password"):
        Dkim("example.org", "2026a", pem(key, password=b"sesame"))
    with pytest.raises(OptionError, match="selector"):
        Dkim("example.org", "20 26", pem(key))
    with pytest.raises(OptionError, match="domain"):
        Dkim("example..org", "2026a", pem(key))
    with pytest.raises(OptionError, match="512 bits"):
        Dkim("example.org", "2026a", short_key())
    assert Dkim("Example.org", "2026a", pem(key)).domain == "example.org"
    assert "PRIVATE" not in repr(Dkim("example.org", "2026a", pem(key)))
