"""The life of a message as a whole: whatever is tried in whatever order, its history tells of legal moves alone."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from muskox.apps.mail import evidence, store
from muskox.apps.mail.errors import IllegalMove, Overtaken
from muskox.apps.mail.evidence import Evidence
from muskox.apps.mail.states import FINAL, MOVES, Cause, MessageState, Reason
from muskox.apps.mail.tables import metadata

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NUMBERS = itertools.count()
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.sampled_from(MessageState), st.booleans()),
        st.tuples(st.just("told"), st.sampled_from(["sent", "delivered", "bounced", "complained", "opened"]),
                  st.integers(0, 3)),
    ),
    max_size=12,
)  # fmt: skip


def message(id: str) -> store.Message:
    text = {"kind": "welcome", "stream": "transactional", "subject": "x", "template": "welcome", "template_hash": ""}
    place = {"to_address": "a@b.org", "address_key": "a@b.org", "to_domain": "b.org", "from_address": "c@d.org"}
    rules = {"queue": "mail", "priority": 0, "max_attempts": 5, "expires_at": NOW, "created_at": NOW, "job_id": id}
    return store.Message(id=id, envelope_from="c@d.org", context="{}", message_id_header=id, **text, **place, **rules)


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_whatever_is_tried_the_history_tells_of_legal_moves_alone(engine, steps):
    id = f"m{next(NUMBERS)}"
    with engine.begin() as connection:
        store.insert_message(connection, stale := message(id))
        path = [MessageState.QUEUED]
        for number, (what, value, extra) in enumerate(steps):
            now, current = NOW + timedelta(seconds=number), store.get(connection, id)
            if what == "move":
                base = stale if extra else current
                try:
                    store.move(connection, base, value, now, reason=Reason.EXPIRED)
                except (IllegalMove, Overtaken):
                    assert store.get(connection, id) == current
            else:
                evidence.take(connection, current, Evidence(value, Cause.WEBHOOK, f"{id}-{extra}", now), now)
                evidence.apply_waiting(connection, store.get(connection, id), now)
            state = store.get(connection, id).state
            if state != path[-1]:
                path.append(state)

        assert all(later in MOVES[earlier] for earlier, later in itertools.pairwise(path))
        events = store.events_after(connection, id, 0)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert store.get(connection, id).last_seq == len(events)
        keys = [event for event in events if event.source == "webhook"]
        assert len(keys) <= 4
        ended = store.get(connection, id)
        assert (ended.terminal_at is not None) == any(state in FINAL for state in path)
