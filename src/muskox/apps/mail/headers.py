"""Checks header values and writes them as bytes, each kind of header in its own way.

The standard library's policies are not used: they hide long URLs and message ids
in encoded-words, let NUL through, and write non-ASCII domains that are no addresses.
What comes out is folded at spaces only, with encoded-words of at most 75 characters.
"""

from __future__ import annotations

import base64
import re

from muskox.apps.mail.addresses import Address
from muskox.apps.mail.errors import HeaderRefused

__all__ = ["check_custom_name", "check_text", "mailbox_header", "raw_header", "text_header"]

LONGEST_LINE = 998
"""The most octets of a line on the wire, without its CRLF (RFC 5322, section 2.1.1)."""

_FOLD_AT = 76
_ENCODED_WORD = 75
# C0 controls and DEL, C1 controls (NEL among them) and the Unicode line and paragraph separators:
# a superset of where `str.splitlines` breaks. TAB too: it has no business in a name or a subject.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_RESERVED = frozenset({
    "bcc", "cc", "to", "from", "sender", "reply-to", "return-path", "received", "dkim-signature", "date", "message-id",
    "mime-version", "subject", "auto-submitted", "list-id", "list-unsubscribe", "list-unsubscribe-post", "feedback-id",
    "precedence",
})  # fmt: skip


def check_text(what: str, value: str, *, longest: int = 2_000) -> str:
    """Return `value` if a header may carry it, else raise `HeaderRefused`; `what` names it in the error."""
    if _FORBIDDEN.search(value) or _LONE_SURROGATE.search(value):
        raise HeaderRefused(f"{what} contains a control character or a line break; remove it")
    if len(value) > longest:
        raise HeaderRefused(f"{what} has {len(value)} characters; at most {longest} are allowed")
    return value


def check_custom_name(name: str) -> str:
    """Return `name` if callers may set a header of that name, else raise `HeaderRefused`."""
    if not _NAME.fullmatch(name):
        raise HeaderRefused("a header name consists of letters, digits and hyphens, 64 at most")
    if name.lower() in _RESERVED or name.lower().startswith("content-"):
        raise HeaderRefused(f"the header {name} is written by Muskox itself and cannot be set")
    return name


def text_header(name: str, value: str) -> bytes:
    """Write free text, such as Subject; encoded-words where ASCII does not do."""
    check_text(name, value)
    if _is_plain(value):
        return _fold(name, value.split(" "))
    return _fold(name, _encoded_words(value, first=len(name) + 2))


def raw_header(name: str, value: str) -> bytes:
    """Write ASCII that must arrive as it is: URLs, message ids, dates; folded at spaces or not at all."""
    check_text(name, value)
    if not value.isascii():
        raise HeaderRefused(f"{name} must be ASCII")
    return _fold(name, value.split(" "))


def mailbox_header(name: str, address: Address, display: str = "") -> bytes:
    """Write one mailbox with its display name; the address is never encoded or folded."""
    check_text(name, str(address))
    check_text(f"the display name in {name}", display, longest=300)
    if not display.strip():
        return _fold(name, [str(address)])
    if _ATOM.fullmatch(display) and _is_plain(display):
        words = display.split(" ")
    elif _is_plain(display):
        words = ['"' + display.replace("\\", "\\\\").replace('"', '\\"') + '"']
    else:
        words = _encoded_words(display, first=len(name) + 2)
    return _fold(name, [*words, f"<{address}>"])


def _is_plain(value: str) -> bool:
    """Whether the text can stand unencoded: ASCII, no look-alike of an encoded-word, no endless word, no odd spaces."""
    if not value.isascii() or "=?" in value or value != value.strip() or "  " in value:
        return False
    return all(len(word) < 200 for word in value.split(" "))


def _encoded_words(value: str, *, first: int) -> list[str]:
    """Cut text into base64 encoded-words of whole characters; `first` is the room taken on the first line."""
    frame = len("=?utf-8?B??=")
    words: list[str] = []
    chunk = b""
    for character in value:
        piece = character.encode()
        room = _ENCODED_WORD - frame - (first if not words else 1)
        if chunk and len(chunk) + len(piece) > room // 4 * 3:
            words.append(_encoded_word(chunk))
            chunk = b""
        chunk += piece
    return [*words, _encoded_word(chunk)] if chunk else words


def _encoded_word(chunk: bytes) -> str:
    return f"=?utf-8?B?{base64.b64encode(chunk).decode()}?="


def _fold(name: str, words: list[str]) -> bytes:
    """Put words behind a name, breaking lines between words only."""
    lines = [f"{name}: {words[0]}"]
    for word in words[1:]:
        # A line of nothing but spaces would end the header block for some readers: only fold before a real word.
        if word and len(lines[-1]) + 1 + len(word) > _FOLD_AT and lines[-1].strip():
            lines.append(f" {word}")
        else:
            lines[-1] += f" {word}"
    written = [line.encode() for line in lines]
    longest = max(len(line) for line in written)
    if longest > LONGEST_LINE:
        raise HeaderRefused(f"{name} needs a line of {longest} bytes; at most {LONGEST_LINE} are allowed")
    return b"\r\n".join(written) + b"\r\n"
