"""The reply table: what a server says, or does not say, and what becomes of the message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muskox.apps.mail.errors import IllegalMove
from muskox.apps.mail.kinds import KINDS, delay_after
from muskox.apps.mail.replies import Fault, Phase, Reply, judge
from muskox.apps.mail.states import MOVES, MessageState, Reason, check_move

P = Phase

TABLE = [
    (P.GREETING, 421, "4.3.2 busy", "deferred", "rate_limited"),
    (P.GREETING, 554, "go away", "deferred", "greeting"),
    (P.EHLO, 550, "no", "deferred", "protocol"),
    (P.AUTH, 454, "4.7.0 later", "deferred", "auth"),
    (P.AUTH, 535, "5.7.8 bad password", "queued", "auth"),
    (P.AUTH, 530, "5.7.0 log in first", "queued", "auth"),
    (P.MAIL, 451, "4.3.0 later", "deferred", "other"),
    (P.MAIL, 552, "5.3.4 too big", "failed", "too_large"),
    (P.MAIL, 550, "5.7.1 not you", "failed", "sender_rejected"),
    (P.MAIL, 553, "bad sender", "failed", "sender_rejected"),
    (P.MAIL, 501, "5.1.8 bad sender", "failed", "sender_rejected"),
    (P.RCPT, 450, "4.2.0 later", "deferred", "other"),
    (P.RCPT, 451, "4.7.1 Greylisted, try again in 240 seconds", "deferred", "greylisted"),
    (P.RCPT, 450, "please wait, graylisting in action", "deferred", "greylisted"),
    (P.RCPT, 452, "4.2.2 over quota", "deferred", "mailbox_full"),
    (P.RCPT, 450, "4.2.1 receiving mail too quickly", "deferred", "rate_limited"),
    (P.RCPT, 421, "4.7.28 rate", "deferred", "rate_limited"),
    (P.RCPT, 421, "4.7.0 rate limit", "deferred", "rate_limited"),
    (P.RCPT, 550, "5.1.1 no such user", "bounced", "unknown_mailbox"),
    (P.RCPT, 550, "5.1.10 null mx", "bounced", "unknown_mailbox"),
    (P.RCPT, 550, "5.1.2 bad domain", "bounced", "invalid_address"),
    (P.RCPT, 550, "No such user here", "bounced", "unknown_mailbox"),
    (P.RCPT, 553, "mailbox name not allowed", "bounced", "invalid_address"),
    (P.RCPT, 550, "5.2.1 disabled", "bounced", "mailbox_disabled"),
    (P.RCPT, 552, "5.2.2 full", "bounced", "mailbox_full"),
    (P.RCPT, 552, "full", "bounced", "mailbox_full"),
    (P.RCPT, 550, "5.7.1 blocked", "bounced", "policy"),
    (P.RCPT, 550, "blocked by our list", "bounced", "policy"),
    (P.RCPT, 554, "5.7.1 looks like spam", "bounced", "spam"),
    (P.RCPT, 550, "5.7.1 relaying denied", "failed", "relay_denied"),
    (P.RCPT, 554, "Relay access denied", "failed", "relay_denied"),
    (P.RCPT, 501, "syntax", "failed", "protocol"),
    (P.RCPT, 555, "unknown parameter", "failed", "protocol"),
    (P.RCPT, 571, "odd", "bounced", "other"),
    (P.COMMIT, 451, "4.3.0 later", "deferred", "other"),
    (P.COMMIT, 421, "closing", "deferred", "other"),
    (P.COMMIT, 552, "5.3.4 too big", "failed", "too_large"),
    (P.COMMIT, 523, "too big", "failed", "too_large"),
    (P.COMMIT, 554, "5.6.0 bad content", "failed", "content"),
    (P.COMMIT, 554, "5.7.1 spam detected", "bounced", "spam"),
    (P.COMMIT, 550, "5.1.1 unknown", "bounced", "unknown_mailbox"),
    (P.COMMIT, 599, "odd", "failed", "other"),
]


@pytest.mark.parametrize(("phase", "code", "text", "state", "reason"), TABLE)
def test_a_reply_decides_by_enhanced_code_then_text_then_code(phase, code, text, state, reason):
    verdict = judge(Reply.of(phase, code, text))

    assert (verdict.state, verdict.reason) == (state, reason)


@pytest.mark.parametrize("fault", [Fault.NETWORK, Fault.TIMEOUT, Fault.PROTOCOL])
def test_only_a_fault_after_the_end_marker_is_ambiguous(fault):
    for phase in Phase:
        verdict = judge(Reply(phase, fault=fault))
        expected = {P.COMMIT: MessageState.UNKNOWN, P.DONE: MessageState.SENT}.get(phase, MessageState.DEFERRED)
        assert verdict.state is expected


@pytest.mark.parametrize("code", [0, 99, 199, 600, 999, -1])
def test_a_code_that_is_none_counts_as_a_lost_line(code):
    assert judge(Reply.of(P.COMMIT, code, "?")).state is MessageState.UNKNOWN
    assert judge(Reply.of(P.RCPT, code, "?")).state is MessageState.DEFERRED


@pytest.mark.parametrize("text", ["5.1.1 no", "5.1.10 no", "5.2.1 off"])
def test_only_a_mailbox_that_is_gone_is_to_be_suppressed(text):
    assert judge(Reply.of(P.RCPT, 550, text)).suppress
    assert not judge(Reply.of(P.RCPT, 550, "5.7.1 blocked")).suppress
    assert not judge(Reply.of(P.RCPT, 552, "5.2.2 full")).suppress


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, try again in 240 seconds", 250),
        ("4.7.1 greylisted, retry=300", 310),
        ("4.7.1 try again in 5 minutes", 310),
        ("4.7.1 wait 1 s", 30),
        ("4.7.1 try again after 99 hours", 21_600),
        ("4.7.1 later", None),
    ],
)
def test_a_hint_of_the_server_becomes_the_delay(text, seconds):
    assert judge(Reply.of(P.RCPT, 451, text)).hint == seconds


@given(st.sampled_from(Phase), st.integers(200, 599), st.text(max_size=200))
def test_every_answer_has_a_legal_verdict(phase, code, text):
    reply = Reply.of(phase, code, text)

    verdict = judge(reply)

    check_move(MessageState.SENDING, verdict.state, verdict.reason)
    assert len(reply.text.encode()) <= 1024
    assert reply.text.isprintable() or not any(character in reply.text for character in "\r\n\x00\x1b")


@pytest.mark.parametrize("source", MessageState)
@pytest.mark.parametrize("target", MessageState)
def test_a_move_outside_the_table_is_refused(source, target):
    if target in MOVES[source]:
        check_move(source, target, Reason.EXPIRED)
    else:
        with pytest.raises(IllegalMove):
            check_move(source, target)


def test_a_message_without_an_attempt_fails_only_for_its_own_reasons():
    with pytest.raises(IllegalMove):
        check_move(MessageState.QUEUED, MessageState.FAILED, Reason.NETWORK)


def test_mission_c02_delays_of_a_reset_mail_grow_from_two_seconds():
    kind = KINDS["password_reset"]

    delays = [delay_after(kind, k, replied=False, greylisted=False, hint=None, chance=0.5) for k in range(1, 5)]

    assert delays == [2.0, 4.0, 8.0, 16.0]
    assert (kind.attempts, kind.priority, kind.queue) == (5, 10, "mail-high")
    assert KINDS["welcome"].priority == 5


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 8), st.sampled_from(sorted(KINDS)))
def test_jitter_never_undercuts_what_a_server_asked_for(chance, attempt, name):
    kind = KINDS[name]

    asked = delay_after(kind, attempt, replied=True, greylisted=True, hint=250.0, chance=chance)
    own = delay_after(kind, attempt, replied=True, greylisted=False, hint=None, chance=chance)

    assert 250.0 <= asked <= 300.0
    assert 0.8 * kind.reply.after(attempt) <= own <= 1.2 * kind.reply.after(attempt)
