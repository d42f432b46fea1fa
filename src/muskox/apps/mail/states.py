"""The states of a message, the moves between them, and the reasons: one table, and its check.

A calculation; `store.py` writes the moves down. `sent` means that the next hop
has taken the mail, `delivered` needs evidence.
"""

from __future__ import annotations

from enum import StrEnum

from muskox.apps.mail.errors import IllegalMove

__all__ = ["FINAL", "MOVES", "Cause", "MessageState", "Reason", "check_move"]


class MessageState(StrEnum):
    """Where a message is in its life."""

    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a message is where it is."""

    NONE = "none"
    INVALID_ADDRESS = "invalid_address"
    UNKNOWN_MAILBOX = "unknown_mailbox"
    MAILBOX_DISABLED = "mailbox_disabled"
    MAILBOX_FULL = "mailbox_full"
    POLICY = "policy"
    SPAM = "spam"
    CONTENT = "content"
    TOO_LARGE = "too_large"
    SENDER_REJECTED = "sender_rejected"
    RELAY_DENIED = "relay_denied"
    GREYLISTED = "greylisted"
    RATE_LIMITED = "rate_limited"
    GREETING = "greeting"
    TLS = "tls"
    AUTH = "auth"
    NETWORK = "network"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    DNS = "dns"
    EXPIRED = "expired"
    ATTEMPTS = "attempts"
    RENDER = "render"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINT = "complaint"
    PRIOR_BOUNCE = "prior_bounce"
    MANUAL = "manual"
    AMBIGUOUS = "ambiguous"
    OTHER = "other"


class Cause(StrEnum):
    """Who says that a message moved."""

    APP = "app"
    SMTP = "smtp"
    DSN = "dsn"
    ARF = "arf"
    WEBHOOK = "webhook"
    UNSUBSCRIBE = "unsubscribe"
    OPERATOR = "operator"


_S = MessageState

MOVES: dict[MessageState, frozenset[MessageState]] = {
    _S.QUEUED: frozenset({_S.SENDING, _S.SUPPRESSED, _S.CANCELLED, _S.FAILED}),
    _S.SENDING: frozenset({_S.SENT, _S.DEFERRED, _S.BOUNCED, _S.FAILED, _S.UNKNOWN, _S.QUEUED}),
    _S.DEFERRED: frozenset({_S.SENDING, _S.SUPPRESSED, _S.CANCELLED, _S.FAILED}),
    _S.UNKNOWN: frozenset({_S.SENDING, _S.SENT, _S.BOUNCED, _S.DELIVERED}),
    _S.SENT: frozenset({_S.DELIVERED, _S.BOUNCED, _S.COMPLAINED}),
    _S.DELIVERED: frozenset({_S.BOUNCED, _S.COMPLAINED}),
    _S.BOUNCED: frozenset({_S.COMPLAINED}),
    _S.COMPLAINED: frozenset(),
    _S.FAILED: frozenset(),
    _S.SUPPRESSED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""From which state to which; anything else is refused."""

_FAILS_BEFORE_AN_ATTEMPT = {
    _S.QUEUED: frozenset({Reason.EXPIRED, Reason.RENDER, Reason.ATTEMPTS}),
    _S.DEFERRED: frozenset({Reason.EXPIRED, Reason.ATTEMPTS}),
}

FINAL = frozenset({
    _S.SENT, _S.DELIVERED, _S.BOUNCED, _S.COMPLAINED, _S.FAILED, _S.SUPPRESSED, _S.CANCELLED,
})  # fmt: skip
"""States in which there is nothing left to send; later evidence may still refine some of them."""


def check_move(source: MessageState, target: MessageState, reason: Reason = Reason.NONE) -> None:
    """Raise `IllegalMove` unless a message may go from `source` to `target` for that reason."""
    if target not in MOVES[source]:
        raise IllegalMove(f"a message that is {source} cannot become {target}")
    allowed = _FAILS_BEFORE_AN_ATTEMPT.get(source)
    if target is _S.FAILED and allowed is not None and reason not in allowed:
        raise IllegalMove(f"a message that is {source} fails only for {', '.join(sorted(allowed))}, not for {reason}")
