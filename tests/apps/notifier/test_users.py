"""Registering: what is taken, what is refused, and that user, message and job are one."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from muskox.apps.mail import tables as mail_tables
from muskox.apps.notifier import tables
from tests.apps.notifier.conftest import ADA, notifier_at


def counted(services, table) -> int:
    with services.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


async def test_mission_c01_registering_answers_at_once_and_sends_the_welcome_mail(notifier):
    answer = await notifier.http.post("/users", json=ADA)

    assert answer.status_code == 201
    body = answer.json()
    assert body["email"] == "ada@example.org"
    message = await notifier.ended(body["welcome_message_id"])
    assert (message["kind"], message["to"]) == ("welcome", "ada@example.org")
    mail = await notifier.mail(to="ada@example.org")
    assert mail["subject"] == "Welcome to Muskox, Ada"


async def test_mission_c09_without_any_settings_a_mail_lies_in_the_inbox(notifier):
    body = await notifier.register()

    mail = await notifier.mail(to="ADA@example.org", subject="welcome")
    assert mail["message_id"] == body["welcome_message_id"]
    message = await notifier.until(mail["message_id"], lambda message: message["state"] == "delivered")
    assert message["links"]["inbox"] == f"/dev/inbox/{mail['id']}"
    assert (await notifier.http.get("/dev/inbox")).status_code == 200


async def test_case_e03_a_mail_that_cannot_be_accepted_takes_the_user_with_it(tmp_path, monkeypatch):
    async with notifier_at(tmp_path) as notifier:

        def refuse(*_args, **_options):
            raise RuntimeError("no room for a message")

        monkeypatch.setattr(notifier.services.mail, "send", refuse)
        answer = await notifier.http.post("/users", json=ADA)

        assert answer.status_code == 500
        assert "room" not in answer.text
        assert counted(notifier.services, tables.users) == 0
        assert counted(notifier.services, mail_tables.messages) == 0
        assert not any(counts.total or counts.added for counts in await notifier.services.ox.counts())


async def test_an_address_is_taken_once_however_it_is_spelled(notifier):
    await notifier.register()

    answer = await notifier.http.post("/users", json={**ADA, "email": "ADA@EXAMPLE.org"})

    assert answer.status_code == 409
    problem = answer.json()
    assert (problem["code"], problem["status"]) == ("email_taken", 409)
    assert answer.headers["content-type"] == "application/problem+json"
    assert counted(notifier.services, mail_tables.messages) == 1


async def test_of_many_at_once_with_one_address_one_is_registered(notifier):
    answers = await asyncio.gather(*(notifier.http.post("/users", json=ADA) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert counted(notifier.services, mail_tables.messages) == 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "A\r\nBcc: x@y.z"}, "/name"),
        ({"name": "a\u2028b"}, "/name"),
        ({"name": "  "}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"email": "a@b.c>\r\nRCPT TO:<e@x"}, "/email"),
        ({"email": "nobody"}, "/email"),
        ({"email": 7}, "/email"),
        ({"password": "short"}, "/password"),
        ({"password": "aaaaaaaaaaaa"}, "/password"),
        ({"password": "ada@example.org"}, "/password"),
        ({"tz": "Mars/Olympus"}, "/tz"),
        ({"locale": "<b>"}, "/locale"),
        ({"admin": True}, "/admin"),
    ],
)
async def test_case_e16_what_cannot_be_accepted_is_named_and_nothing_is_stored(notifier, change, pointer):
    answer = await notifier.http.post("/users", json={**ADA, **change})

    assert answer.status_code == 422
    problem = answer.json()
    assert problem["errors"][0]["pointer"] == pointer
    assert {"type", "title", "status", "code", "detail", "errors"} == set(problem)
    assert counted(notifier.services, tables.users) == 0
    assert not any(counts.total or counts.added for counts in await notifier.services.ox.counts())


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '"x"', '{"email": "a@b.org", "name": "\\ud800", "password": "12345abcde"}']
)
async def test_a_body_that_is_no_request_is_refused(notifier, body):
    answer = await notifier.http.post("/users", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_case_e18_markup_in_a_name_is_inert_in_the_mail(notifier):
    name = '<script>alert(1)</script>&"'
    await notifier.register(name=name)

    mail = await notifier.mail(to="ada@example.org")
    assert "&lt;script&gt;" in mail["html"]
    assert "<script" not in mail["html"]
    assert name in mail["text"]
    assert name in mail["subject"]


async def test_a_password_is_kept_as_argon2id_only(notifier):
    await notifier.register()

    with notifier.services.engine.connect() as connection:
        hashed = connection.execute(select(tables.users.c.password_hash)).scalar_one()
    assert hashed.startswith("$argon2id$")
