"""What an answer of an SMTP server, or its silence, means for the message: one table, read from the top.

The phase decides first: a fault before the end-of-data marker is always safe to
repeat, one after it leaves the outcome unknown. Then the enhanced code, the
text, and the bare code, in this order. A calculation; it sends and stores nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from muskox.apps.mail.states import MessageState, Reason

__all__ = ["Fault", "Phase", "Reply", "Verdict", "judge", "safe_text"]


class Phase(StrEnum):
    """The steps of an attempt. `commit` begins before the first byte of the end-of-data marker is written."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    COMMIT = "commit"
    DONE = "done"


class Fault(StrEnum):
    """What went wrong when there is no answer to read."""

    NETWORK = "network"
    TIMEOUT = "timeout"
    DNS = "dns"
    NO_SUCH_HOST = "no_such_host"
    TLS = "tls"
    PROTOCOL = "protocol"
    AUTH = "auth"
    INVALID_ADDRESS = "invalid_address"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Reply:
    """Where an attempt ended: the phase, and either the server's answer or a fault. `line` names the connection."""

    phase: Phase
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    fault: Fault | None = None
    line: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the next hop has taken the mail."""
        return self.phase is Phase.DONE

    @classmethod
    def of(cls, phase: Phase, code: int, text: str) -> Reply:
        """Read the enhanced code from the text of an answer; a code that is none is a lost connection."""
        if not 200 <= code <= 599:
            return cls(phase, None, None, safe_text(text), Fault.PROTOCOL)
        found = _ENHANCED.match(text)
        enhanced = found.group(1) if found and found.group(1)[0] == str(code)[0] else None
        return cls(phase, code, enhanced, safe_text(text))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the message. `hint` is the delay in seconds that the server asked for.

    `suppress` says that the mailbox is gone for good; `transport_down` that the
    server refuses us and not this message.
    """

    state: MessageState
    reason: Reason
    hint: float | None = None
    replied: bool = False
    suppress: bool = False
    transport_down: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table; what is left open fits everything. Codes and enhanced codes are patterns."""

    phases: frozenset[Phase]
    state: MessageState
    reason: Reason
    code: str = ""
    enhanced: str = ""
    text: str = ""
    suppress: bool = False
    transport_down: bool = False


_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?!\S)")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HINT = re.compile(
    r"(?:again\s+(?:in|after)|retry(?:\s+(?:in|after))?|wait|after)\s*[=:]?\s*(\d{1,6})\s*(s|sec|m|min|h)?",
    re.IGNORECASE,
)
_UNITS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3_600}

_S, _R, _P = MessageState, Reason, Phase
_ANY = frozenset(_P)
_LATE = frozenset({_P.RCPT, _P.DATA, _P.BODY, _P.COMMIT})
_CONTENT = frozenset({_P.DATA, _P.BODY, _P.COMMIT})


def _at(*phases: Phase) -> frozenset[Phase]:
    return frozenset(phases)


_FAULTS: dict[Fault, tuple[MessageState, Reason]] = {
    Fault.NETWORK: (_S.DEFERRED, _R.NETWORK),
    Fault.TIMEOUT: (_S.DEFERRED, _R.TIMEOUT),
    Fault.DNS: (_S.DEFERRED, _R.DNS),
    Fault.NO_SUCH_HOST: (_S.DEFERRED, _R.DNS),
    Fault.TLS: (_S.DEFERRED, _R.TLS),
    Fault.PROTOCOL: (_S.DEFERRED, _R.PROTOCOL),
    Fault.AUTH: (_S.QUEUED, _R.AUTH),
    Fault.INVALID_ADDRESS: (_S.FAILED, _R.INVALID_ADDRESS),
    Fault.TOO_LARGE: (_S.FAILED, _R.TOO_LARGE),
}

_SPAM = r"spam|junk|content rejected|message content"
_BLOCK = r"block|blacklist|denylist|banned|reputation|listed (?:at|by|in|on)"
_RELAY = r"relay(?:ing)?\s+(?:access\s+)?(?:denied|not permitted|not allowed)|unable to relay|not permitted to relay"
_HURRY = r"too quickly|too fast|too many|rate|throttl"

_TABLE: tuple[_Row, ...] = (
    # --- the server refuses us, not the recipient ---
    _Row(_at(_P.GREETING), _S.DEFERRED, _R.RATE_LIMITED, code="4.."),
    _Row(_at(_P.GREETING), _S.DEFERRED, _R.GREETING, code="5..", transport_down=True),
    _Row(_at(_P.EHLO), _S.DEFERRED, _R.PROTOCOL, code="5..", transport_down=True),
    _Row(_at(_P.TLS), _S.DEFERRED, _R.TLS, transport_down=True),
    _Row(_at(_P.AUTH), _S.DEFERRED, _R.AUTH, code="4.."),
    _Row(_at(_P.AUTH), _S.QUEUED, _R.AUTH, code="5..", transport_down=True),
    # --- MAIL ---
    _Row(_at(_P.MAIL), _S.FAILED, _R.TOO_LARGE, code="5..", enhanced=r"5\.3\.4"),
    _Row(_at(_P.MAIL), _S.FAILED, _R.SENDER_REJECTED, code="5..", enhanced=r"5\.7\.\d+|5\.1\.[78]"),
    _Row(_at(_P.MAIL), _S.FAILED, _R.TOO_LARGE, code="552|523"),
    _Row(_at(_P.MAIL), _S.FAILED, _R.SENDER_REJECTED, code="530|550|553"),
    # --- temporary refusals: enhanced code, then text ---
    _Row(_LATE, _S.DEFERRED, _R.GREYLISTED, code="4..", text=r"gr[ea]y-?\s*list"),
    _Row(_LATE, _S.DEFERRED, _R.GREYLISTED, code="4..", enhanced=r"4\.7\.1"),
    _Row(_LATE, _S.DEFERRED, _R.MAILBOX_FULL, code="4..", enhanced=r"4\.2\.2"),
    _Row(_LATE, _S.DEFERRED, _R.RATE_LIMITED, code="4..", enhanced=r"4\.2\.1", text=_HURRY),
    _Row(_LATE, _S.DEFERRED, _R.MAILBOX_DISABLED, code="4..", enhanced=r"4\.2\.1"),
    _Row(_LATE, _S.DEFERRED, _R.RATE_LIMITED, code="4..", enhanced=r"4\.7\.28"),
    _Row(_LATE, _S.DEFERRED, _R.RATE_LIMITED, code="4..", enhanced=r"4\.7\.0", text="rate"),
    _Row(_LATE, _S.DEFERRED, _R.RATE_LIMITED, code="4..", text=r"too quickly|rate limit|throttl|too many"),
    # --- permanent refusals: enhanced code first ---
    _Row(_LATE, _S.FAILED, _R.RELAY_DENIED, code="5..", enhanced=r"5\.7\.\d+", text=_RELAY, transport_down=True),
    _Row(_LATE, _S.BOUNCED, _R.INVALID_ADDRESS, code="5..", enhanced=r"5\.1\.[23]", suppress=True),
    _Row(_LATE, _S.BOUNCED, _R.UNKNOWN_MAILBOX, code="5..", enhanced=r"5\.1\.(?:1|6|10)", suppress=True),
    _Row(_LATE, _S.BOUNCED, _R.MAILBOX_DISABLED, code="5..", enhanced=r"5\.2\.1", suppress=True),
    _Row(_LATE, _S.BOUNCED, _R.MAILBOX_FULL, code="5..", enhanced=r"5\.2\.2"),
    _Row(_LATE, _S.FAILED, _R.TOO_LARGE, code="5..", enhanced=r"5\.3\.4"),
    _Row(_LATE, _S.BOUNCED, _R.SPAM, code="5..", enhanced=r"5\.7\.\d+", text=_SPAM),
    _Row(_at(_P.RCPT), _S.BOUNCED, _R.POLICY, code="5..", enhanced=r"5\.7\.\d+"),
    _Row(_CONTENT, _S.BOUNCED, _R.POLICY, code="5..", enhanced=r"5\.7\.\d+", text=_BLOCK),
    _Row(_CONTENT, _S.BOUNCED, _R.SPAM, code="5..", enhanced=r"5\.6\.\d+", text=_SPAM),
    _Row(_CONTENT, _S.FAILED, _R.CONTENT, code="5..", enhanced=r"5\.[67]\.\d+"),
    _Row(_LATE, _S.FAILED, _R.PROTOCOL, code="50[0-4]|555"),
    # --- then the text ---
    _Row(_LATE, _S.FAILED, _R.RELAY_DENIED, code="5..", text=_RELAY, transport_down=True),
    _Row(_LATE, _S.BOUNCED, _R.SPAM, code="5..", text=_SPAM),
    _Row(_LATE, _S.BOUNCED, _R.POLICY, code="5..", text=_BLOCK),
    # --- then the bare code, unless an enhanced code has said something else ---
    _Row(_at(_P.RCPT), _S.BOUNCED, _R.MAILBOX_FULL, code="552"),
    _Row(_at(_P.RCPT), _S.BOUNCED, _R.INVALID_ADDRESS, code="553", suppress=True),
    _Row(_at(_P.RCPT), _S.BOUNCED, _R.UNKNOWN_MAILBOX, code="550", enhanced="none", suppress=True),
    _Row(_CONTENT, _S.FAILED, _R.TOO_LARGE, code="552|523"),
    _Row(_CONTENT, _S.FAILED, _R.CONTENT, code="554"),
    # --- unlisted codes go by their first digit ---
    _Row(_ANY, _S.DEFERRED, _R.OTHER, code="4.."),
    _Row(_at(_P.RCPT), _S.BOUNCED, _R.OTHER, code="5.."),
    _Row(_ANY, _S.FAILED, _R.OTHER, code="5.."),
)


def judge(reply: Reply) -> Verdict:
    """Say what becomes of a message whose attempt ended with `reply`."""
    if reply.accepted:
        return Verdict(_S.SENT, _R.NONE, replied=True)
    if reply.fault is not None or reply.code is None:
        return _judge_fault(reply.phase, reply.fault or Fault.PROTOCOL)
    for row in _TABLE:
        if _fits(row, reply):
            return Verdict(
                row.state,
                row.reason,
                hint=_hint(reply.text) if row.state is _S.DEFERRED else None,
                replied=True,
                suppress=row.suppress,
                transport_down=row.transport_down,
            )
    # 2xx and 3xx where they have no meaning: the conversation is out of step, as if the line had been cut.
    return _judge_fault(reply.phase, Fault.PROTOCOL)


def _judge_fault(phase: Phase, fault: Fault) -> Verdict:
    if phase is Phase.COMMIT:
        return Verdict(_S.UNKNOWN, _R.AMBIGUOUS)
    state, reason = _FAULTS[fault]
    refused = fault in {Fault.TLS, Fault.AUTH}
    return Verdict(state, reason, replied=refused, transport_down=refused or fault is Fault.NO_SUCH_HOST)


def _fits(row: _Row, reply: Reply) -> bool:
    if reply.phase not in row.phases:
        return False
    if row.code and not re.fullmatch(row.code, str(reply.code)):
        return False
    if row.enhanced and not re.fullmatch(row.enhanced, reply.enhanced or "none"):
        return False
    return not row.text or re.search(row.text, reply.text, re.IGNORECASE) is not None


def _hint(text: str) -> float | None:
    """Find "again in 240 seconds", "retry=300" and the like; ten seconds are added, within 30 s and 6 h."""
    found = _HINT.search(text)
    if found is None:
        return None
    seconds = int(found.group(1)) * _UNITS[(found.group(2) or "").lower()]
    return float(min(max(seconds + 10, 30), 6 * 3_600))


def safe_text(text: str, limit: int = 1_024) -> str:
    """Make a server's text fit to be stored and shown: no controls, at most `limit` bytes."""
    clean = _CONTROLS.sub(" ", text)
    return clean.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
