"""Reads reports about mail that was sent: RFC 3464 delivery status, RFC 5965 complaints, automatic replies.

Only what is structured is read; the words of a text are never guessed at. What
comes in may be hostile: size and depth are bounded, and nothing is executed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from email.errors import MessageError
from email.message import Message
from email.parser import BytesParser
from enum import StrEnum

from muskox.apps.mail.errors import Refused
from muskox.apps.mail.replies import Phase, Reply, safe_text
from muskox.apps.mail.verp import token_in

__all__ = ["LARGEST_REPORT", "Action", "Recipient", "Report", "ReportKind", "read_report"]

LARGEST_REPORT = 10 * 1024 * 1024
"""No report may have more bytes; what a server sends back of a mail is cut by itself long before."""

_MOST_PARTS = 200
_MOST_RECIPIENTS = 100
_STATUS = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})")
_CODE = re.compile(r"\b([245]\d\d)\b[ -]?(.*)", re.DOTALL)
_MESSAGE_ID = re.compile(r"<[^<>\s]{3,310}>")
_COMPLAINTS = frozenset({"abuse", "fraud", "virus", "other", "miscategorized"})


class ReportKind(StrEnum):
    """What a report is."""

    DELIVERY = "delivery"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"
    OTHER = "other"


class Action(StrEnum):
    """What became of a recipient (RFC 3464, section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Recipient:
    """What a report says of one recipient. `reply` is the answer of the server that had the last word."""

    action: Action
    status: str
    address: str
    reply: Reply
    remote_mta: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A report, and all by which the mail may be found that it speaks of: best first."""

    kind: ReportKind
    key: str
    tokens: tuple[str, ...] = ()
    envelope_id: str = ""
    message_ids: tuple[str, ...] = ()
    recipients: tuple[Recipient, ...] = field(default=())


def read_report(raw: bytes, *, sent_to: str = "") -> Report:
    """Read a report; `sent_to` is the envelope recipient where it is known. Raises `Refused` when it is too large."""
    if len(raw) > LARGEST_REPORT:
        raise Refused(f"the report has {len(raw)} bytes; at most {LARGEST_REPORT} are read")
    key = hashlib.sha256(raw).hexdigest()
    try:
        message = BytesParser().parsebytes(raw)
        parts = _parts(message)
    except (MessageError, RecursionError, ValueError, LookupError, AssertionError):
        return Report(ReportKind.OTHER, key, _tokens(sent_to))
    own = _text(message, "Message-ID")
    key = hashlib.sha256(own.encode()).hexdigest() if own else key
    sent = [sent_to, *(_text(message, name) for name in ("X-Original-To", "Delivered-To", "To"))]
    statuses = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    feedback = [part for part in parts if part.get_content_type() == "message/feedback-report"]
    returned = _returned_ids(parts)
    if feedback:
        fields = _fields(feedback[0])
        tokens = _tokens(*sent, *(_text(fields, name) for name in ("Original-Mail-From", "Original-Rcpt-To")))
        complaint = _text(fields, "Feedback-Type").lower() in _COMPLAINTS
        return Report(ReportKind.COMPLAINT if complaint else ReportKind.OTHER, key, tokens, "", returned)
    if statuses:
        envelope_id, recipients = _delivery(statuses[0])
        kind = ReportKind.DELIVERY if recipients else ReportKind.OTHER
        return Report(kind, key, _tokens(*sent), envelope_id, returned, recipients)
    answered = tuple(_MESSAGE_ID.findall(f"{_text(message, 'In-Reply-To')} {_text(message, 'References')}"))
    automatic = _text(message, "Auto-Submitted").lower().startswith(("auto-replied", "auto-generated"))
    return Report(ReportKind.AUTO_REPLY if automatic else ReportKind.OTHER, key, _tokens(*sent), "", answered[:20])


def _parts(message: Message) -> list[Message]:
    """Give the parts of a report that may matter: its own and those of its first levels, not of what it returns."""
    found: list[Message] = []
    waiting = [(message, 0)]
    while waiting and len(found) < _MOST_PARTS:
        part, depth = waiting.pop(0)
        found.append(part)
        content = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(content, list) and depth < 5:
            waiting += [(child, depth + 1) for child in content if isinstance(child, Message)]
    return found


def _delivery(part: Message) -> tuple[str, tuple[Recipient, ...]]:
    """Read the blocks of a delivery status: the first is of the mail, the others are of one recipient each."""
    content = part.get_payload()
    blocks = [block for block in content if isinstance(block, Message)] if isinstance(content, list) else []
    if not blocks:
        return "", ()
    envelope_id = _text(blocks[0], "Original-Envelope-Id")
    # Some servers forget the empty line between the two kinds of blocks.
    recipients = [_recipient(block) for block in blocks[: _MOST_RECIPIENTS + 1] if block.get("Action")]
    return envelope_id, tuple(recipient for recipient in recipients if recipient is not None)


def _recipient(block: Message) -> Recipient | None:
    try:
        action = Action(_text(block, "Action").lower())
    except ValueError:
        return None
    found = _STATUS.match(_text(block, "Status"))
    status = ".".join(found.groups()) if found else ""
    address = _text(block, "Original-Recipient") or _text(block, "Final-Recipient")
    diagnostic = _text(block, "Diagnostic-Code").partition(";")[2].strip()
    return Recipient(
        action,
        status,
        address.partition(";")[2].strip(),
        _reply(action, status, diagnostic),
        _text(block, "Remote-MTA").partition(";")[2].strip()[:255],
    )


def _reply(action: Action, status: str, diagnostic: str) -> Reply:
    """Put a report into the form of an answer at RCPT, so that one table judges both."""
    found = _CODE.search(diagnostic)
    code = int(found[1]) if found else {"2": 250, "4": 450}.get(status[:1], 550 if action is Action.FAILED else 250)
    told = Reply.of(Phase.RCPT, code, found[2].strip() if found else diagnostic)
    # The status of the report is the reporter's judgement; one that says nothing leaves the server's own.
    enhanced = status if status and not status.endswith(".0.0") and status[0] == str(code)[0] else told.enhanced
    return Reply(Phase.RCPT, code, enhanced or (status or None), safe_text(diagnostic), told.fault)


def _returned_ids(parts: list[Message]) -> tuple[str, ...]:
    """Find the Message-ID of the mail that a report sends back, whole or its headers."""
    found: list[str] = []
    for part in parts:
        match part.get_content_type():
            case "message/rfc822":
                content = part.get_payload()
                inner = content[0] if isinstance(content, list) and content else None
                text = _text(inner, "Message-ID") if isinstance(inner, Message) else ""
            case "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers":
                text = _header_in_text(part)
            case _:
                continue
        found += _MESSAGE_ID.findall(text)
    return tuple(found[:5])


def _header_in_text(part: Message) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    return _text(BytesParser().parsebytes(content[:200_000], headersonly=True), "Message-ID")


def _fields(part: Message) -> Message:
    """Give the fields of a feedback report, which the parser takes for a mail of its own or for text."""
    content = part.get_payload()
    if isinstance(content, list) and content and isinstance(content[0], Message):
        return content[0]
    decoded = part.get_payload(decode=True)
    return BytesParser().parsebytes(decoded if isinstance(decoded, bytes) else b"", headersonly=True)


def _tokens(*addresses: str) -> tuple[str, ...]:
    found = [token_in(address) for address in addresses]
    return tuple(dict.fromkeys(token for token in found if token is not None))


def _text(message: Message, name: str) -> str:
    """Give a header as one line of plain text; empty when it is not there."""
    return safe_text(" ".join(str(message.get(name, "")).split()), 2_000)
