"""A letter as bytes: parts, encodings, line ends, and the same bytes every time."""

from __future__ import annotations

import dataclasses
import email.policy
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser

import pytest

from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.compose import Letter, Sender, boundary_of, compose, message_id_of
from muskox.apps.mail.errors import HeaderRefused

LETTER = Letter(
    message_id="<abc@example.org>",
    sender=Sender(parse_address("no-reply@example.org"), "Muskox"),
    to=parse_address("ada@example.org"),
    to_display="Ada",
    subject="Hello",
    text="Hello Ada\n",
    html="<p>Hello Ada</p>\n",
    date=datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
    boundary="=_b",
)


def letter(**changes: object) -> Letter:
    return dataclasses.replace(LETTER, **changes)


def read(raw: bytes) -> EmailMessage:
    return BytesParser(policy=email.policy.default).parsebytes(raw)


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return part.get_payload(decode=True).decode().replace("\r\n", "\n")


def test_text_comes_first_then_html():
    message = read(compose(LETTER).raw)

    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"] == "Tue, 24 Nov 2026 12:00:00 +0000"


@pytest.mark.parametrize(
    "text",
    [
        "plain\n",
        ".\n..\n.dot\n",
        "no end",
        "tail spaces   \n\n\n",
        "Grüße\n",
        "雪の中の麝香牛\n" * 40,
        "x" * 2000 + "\n",
        "=_b\n--=_b--\n",
        "nul \x00 and bell \x07\n",
        "From here\n",
        "",
        "\n\n",
    ],
)
def test_case_e41_what_a_part_says_comes_back_as_it_was(text):
    composed = compose(letter(text=text, html=text, boundary="=_other"))

    message = read(composed.raw)
    assert body(message, "plain") == text
    assert body(message, "html") == text
    assert all(len(line) <= 998 for line in composed.raw.split(b"\r\n"))
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", composed.raw)
    assert composed.raw.isascii()


def test_bare_line_ends_become_crlf():
    composed = compose(letter(text="a\rb\nc\r\nd", html="x"))

    assert body(read(composed.raw), "plain") == "a\nb\nc\nd"


def test_the_same_letter_is_the_same_bytes():
    assert compose(LETTER).raw == compose(letter()).raw
    assert compose(LETTER).sha256 == compose(letter()).sha256


def test_each_header_is_there_once():
    message = read(compose(letter(extra_headers=(("X-Ticket", "42"),))).raw)

    assert sorted(message.keys()) == sorted({*message.keys()})
    assert message["X-Ticket"] == "42"


def test_no_extra_header_may_replace_ours():
    with pytest.raises(HeaderRefused):
        compose(letter(extra_headers=(("Bcc", "eve@example.org"),)))


def test_ids_and_boundaries_are_derived_and_differ():
    first, again = message_id_of(b"k", "m1", "example.org"), message_id_of(b"k", "m1", "example.org")

    assert first == again
    assert re.fullmatch(r"<[a-z2-7]{26}@example\.org>", first)
    assert message_id_of(b"k", "m2", "example.org") != first
    assert message_id_of(b"other", "m1", "example.org") != first
    assert boundary_of(b"k", "m1") != boundary_of(b"k", "m2")


def test_utf8_in_headers_only_where_the_address_needs_it():
    composed = compose(letter(to=parse_address("zoë@example.org"), to_display=""))

    assert composed.needs_smtputf8
    assert "To: zoë@example.org\r\n".encode() in composed.raw
    assert not compose(LETTER).needs_smtputf8
