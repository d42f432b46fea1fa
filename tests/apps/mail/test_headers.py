"""Headers as bytes: the traps of the standard library, and that nothing can be smuggled in."""

from __future__ import annotations

import email.policy
import re
from email.header import decode_header, make_header
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.errors import HeaderRefused
from muskox.apps.mail.headers import check_custom_name, mailbox_header, raw_header, text_header

BREAKS = ["\r", "\n", "\r\n", "\x00", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\x7f", "\t"]
ADA = parse_address("ada@example.org")


def parsed(raw: bytes, name: str) -> str:
    message = BytesParser(policy=email.policy.compat32).parsebytes(raw + b"\r\n")
    assert message.keys() == [name]
    value = message[name].replace("\r\n", "").replace("\n", "")
    return str(make_header(decode_header(value)))


@pytest.mark.parametrize("character", BREAKS)
def test_security_s21_no_header_carries_a_control_or_a_line_break(character):
    value = f"A{character}Bcc: x@y.z"

    for write in (
        lambda: text_header("Subject", value),
        lambda: raw_header("List-Unsubscribe", value),
        lambda: mailbox_header("To", ADA, value),
    ):
        with pytest.raises(HeaderRefused):
            write()


@pytest.mark.parametrize(
    "name", ["Bcc", "return-path", "Received", "DKIM-Signature", "Content-Type", "To", "A:b", "", "X Y"]
)
def test_a_caller_may_not_set_the_headers_of_the_composer(name):
    with pytest.raises(HeaderRefused):
        check_custom_name(name)


def test_trap_t1_a_long_url_stays_readable():
    url = f"<https://news.example.org/u/{'a' * 90}>"

    raw = raw_header("List-Unsubscribe", url)

    assert raw == f"List-Unsubscribe: {url}\r\n".encode()


def test_trap_t2_encoded_words_are_at_most_75_long():
    raw = text_header("Subject", "Grüße aus der Tundra " * 20)

    words = re.findall(rb"=\?[^ \r\n]*\?=", raw)
    assert len(words) > 5
    assert max(map(len, words)) <= 75
    assert all(len(line) <= 76 for line in raw.split(b"\r\n"))


def test_trap_t3_a_domain_is_written_as_an_address():
    assert mailbox_header("To", parse_address("zoe@bücher.example")) == b"To: zoe@xn--bcher-kva.example\r\n"


def test_trap_t4_nul_is_refused():
    with pytest.raises(HeaderRefused, match="control character"):
        text_header("Subject", "a\x00b")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=300))
def test_any_subject_comes_back_as_it_was(text):
    expected = text if text.strip() else text.strip()

    assert parsed(text_header("Subject", text), "Subject").strip() == expected.strip()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=120))
def test_any_display_name_leaves_one_header_with_one_address(name):
    raw = mailbox_header("To", ADA, name)

    message = BytesParser(policy=email.policy.default).parsebytes(raw + b"\r\n")
    assert message.keys() == ["To"]
    assert [address.addr_spec for address in message["To"].addresses] == ["ada@example.org"]
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


def test_a_subject_that_looks_encoded_arrives_literally():
    assert parsed(text_header("Subject", "=?utf-8?B?SGk=?="), "Subject") == "=?utf-8?B?SGk=?="
