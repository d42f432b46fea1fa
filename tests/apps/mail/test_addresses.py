"""Addresses: what is taken, what is refused, and that nothing is repaired on the way."""

from __future__ import annotations

import pytest

from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.errors import AddressRefused


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ada@example.org", "ada@example.org"),
        ("Ada.Lovelace+tag@Example.ORG", "Ada.Lovelace+tag@example.org"),
        ("root@localhost", "root@localhost"),
        ("ada@mail.test", "ada@mail.test"),
        ("zoë@example.org", "zoë@example.org"),
    ],
)
def test_an_address_is_taken_as_it_was_typed(text, written):
    assert str(parse_address(text)) == written


def test_case_e17_a_domain_outside_of_ascii_becomes_its_a_label():
    address = parse_address("zoe@bücher.example")

    assert str(address) == "zoe@xn--bcher-kva.example"
    assert not address.needs_smtputf8


def test_the_key_is_one_for_all_spellings():
    assert parse_address("ADA@Example.org").key == parse_address("ada@EXAMPLE.ORG").key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "a@b@c.org",
        '"a@b"@c.org',
        "ada@example.org\n",
        "ada@example.org\r\nBcc: eve@example.org",
        "a@b.c>\r\nRCPT TO:<evil@x",
        "a@b.c>",
        "<ada@example.org>",
        "Ada <ada@example.org>",
        "ada@example.org, eve@example.org",
        "ada\x00@example.org",
        "ada\x7f@example.org",
        "ada\u2028@example.org",
        "ada\x85@example.org",
        "ada @example.org",
        "ada@exa mple.org",
        "ada@example",
        "ada@[127.0.0.1]",
        "ada@-example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 63 + "." + "c" * 63 + "." + "d" * 63 + "." + "e" * 63 + ".org",
        "é" * 33 + "@example.org",
        "(" * 10_000 + "@example.org",
        "\ud800@example.org",
    ],
)
def test_security_s23_what_is_not_clearly_one_address_is_refused(text):
    with pytest.raises(AddressRefused):
        parse_address(text)
