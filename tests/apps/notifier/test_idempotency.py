"""The same request twice is the same request once, when it has a key."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from muskox.apps.mail import tables as mail_tables
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier import tables
from tests.apps.notifier.conftest import ADA

KEY = {"Idempotency-Key": "register-ada-1"}


def count(notifier, table) -> int:
    with notifier.services.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


async def test_case_e22_a_repeated_registration_is_answered_as_the_first_time(notifier):
    first = await notifier.http.post("/users", json=ADA, headers=KEY)
    again = await notifier.http.post("/users", json=ADA, headers=KEY)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotency-replay" not in first.headers
    assert again.headers["idempotency-replay"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert count(notifier, mail_tables.messages) == 1


async def test_case_e22_of_many_at_once_one_does_the_work(notifier):
    answers = await asyncio.gather(*(notifier.http.post("/users", json=ADA, headers=KEY) for _ in range(50)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_running"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert count(notifier, mail_tables.messages) == 1
    last = await notifier.http.post("/users", json=ADA, headers=KEY)
    assert last.status_code == 201


async def test_case_e22_a_key_belongs_to_one_body(notifier):
    await notifier.http.post("/users", json=ADA, headers=KEY)

    other = await notifier.http.post("/users", json={**ADA, "email": "bob@example.org"}, headers=KEY)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_a_refusal_is_repeated_too(notifier):
    first = await notifier.http.post("/users", json={**ADA, "email": "x"}, headers=KEY)
    again = await notifier.http.post("/users", json={**ADA, "email": "x"}, headers=KEY)

    assert (first.status_code, again.status_code) == (422, 422)
    assert first.content == again.content


async def test_an_error_of_ours_is_not_kept(notifier, monkeypatch):
    real = notifier.services.mail.send

    def fail(*_args, **_options):
        raise RuntimeError("no")

    monkeypatch.setattr(notifier.services.mail, "send", fail)
    assert (await notifier.http.post("/users", json=ADA, headers=KEY)).status_code == 500
    monkeypatch.setattr(notifier.services.mail, "send", real)

    assert (await notifier.http.post("/users", json=ADA, headers=KEY)).status_code == 201


async def test_a_request_whose_process_is_gone_may_run_again(notifier):
    long_ago = moment_now(notifier.services.ox.world) - timedelta(minutes=2)
    await notifier.http.post("/users", json=ADA, headers=KEY)
    with notifier.services.engine.begin() as connection:
        connection.execute(update(tables.idempotency).values(state="running", created_at=long_ago))

    answer = await notifier.http.post("/users", json=ADA, headers=KEY)

    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
async def test_a_key_that_is_none_is_refused(notifier, key):
    answer = await notifier.http.post("/users", json=ADA, headers={"Idempotency-Key": key.encode()})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")


async def test_security_s13_no_password_can_be_guessed_from_what_is_kept(notifier):
    await notifier.http.post("/users", json=ADA, headers=KEY)

    with notifier.services.engine.connect() as connection:
        row = connection.execute(select(tables.idempotency)).one()
    assert ADA["password"] not in repr(row)
    assert len(row.request_hash) == 64
