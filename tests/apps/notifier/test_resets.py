"""Password resets: one hour, once, and no trace of the token outside of the mail."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, func, select

from muskox.apps.mail import tables as mail_tables
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.kinds import HIGH
from muskox.apps.notifier import tables, users
from muskox.apps.notifier.keys import Keyring
from muskox.apps.notifier.resets import Resets, TokenExpired, TokenUnknown, TokenUsed
from muskox.apps.notifier.services import build_services
from muskox.apps.notifier.users import new_user
from muskox.testing import FakeWorld, run_jobs
from tests.apps.notifier.conftest import ADA, notifier_at, settings_for, token_in

ADDRESS = parse_address("ada@example.org")


class Resetting:
    """Resets on a clock that is moved by hand, without a worker."""

    def __init__(self, services, world):
        self.services, self.world = services, world
        self.resets: Resets = services.resets
        self.made = 0

    async def token(self, address=ADDRESS) -> str:
        """Ask for a reset, let its jobs run, and read the mail."""
        await self.resets.request(address)
        await run_jobs(self.services.ox)
        [mail, *_] = await asyncio.to_thread(self.services.inbox.find, to=str(address), subject="new password")
        _, raw = await asyncio.to_thread(self.services.inbox.get, mail.id)
        return token_in(raw.decode().replace("=\r\n", "").replace("=3D", "="))

    async def finish(self, token: str, password: str = "another horse") -> None:
        await asyncio.to_thread(self.resets.finish, token, password)


@pytest.fixture
async def resetting(tmp_path):
    world = FakeWorld()
    async with notifier_at(tmp_path, world=world, worker=False) as notifier:
        await asyncio.to_thread(notifier.services.register, new_user(**ADA))
        yield Resetting(notifier.services, world)


async def test_mission_c02_a_reset_goes_through_the_urgent_queue_with_five_attempts(resetting):
    await resetting.resets.request(ADDRESS)

    queue = resetting.services.ox.queue(HIGH)
    [begin] = (await queue.find()).jobs
    assert (begin.name, begin.priority) == ("begin-reset", 10)
    await asyncio.to_thread(
        resetting.resets.begin, begin.id, ADDRESS, datetime.fromtimestamp(resetting.world.now(), UTC)
    )
    [deliver] = (await queue.find(name="deliver")).jobs
    assert (deliver.priority, deliver.options.attempts) == (10, 5)


async def test_mission_c02_the_link_of_a_reset_mail_works_once(notifier):
    await notifier.register()
    token = await notifier.reset_token()

    for _ in range(10):  # case E24: looking at the page uses nothing up
        page = await notifier.http.get("/auth/reset", params={"token": token})
        assert page.status_code == 200
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert token not in page.text
    change = {"token": token, "password": "another horse", "password2": "another horse"}
    first = await notifier.http.post("/auth/reset", json=change)
    again = await notifier.http.post("/auth/reset", json=change)
    assert (first.status_code, first.content) == (204, b"")
    assert (again.status_code, again.json()["code"]) == (410, "token_used")
    assert (await notifier.http.get("/auth/reset", params={"token": token})).status_code == 410
    with notifier.services.engine.connect() as connection:
        hashed = connection.execute(select(tables.users.c.password_hash)).scalar_one()
    assert await asyncio.to_thread(users.password_fits, "another horse", hashed)
    told = await notifier.mail(to="ada@example.org", subject="password was changed")
    assert "/auth/reset" not in told["text"] + told["html"]


async def test_case_e24_a_link_works_for_an_hour_and_not_a_second_longer(resetting):
    token = await resetting.token()

    resetting.world.advance(3_599)
    await asyncio.to_thread(resetting.resets.check, token)
    resetting.world.advance(2)
    with pytest.raises(TokenExpired):
        await resetting.finish(token)


async def test_case_e24_a_link_can_be_used_until_its_last_second(resetting):
    token = await resetting.token()
    resetting.world.advance(3_599)

    await resetting.finish(token)

    with pytest.raises(TokenUsed):
        await resetting.finish(token)


async def test_case_e24_a_newer_link_kills_the_older_one(resetting):
    older = await resetting.token()
    resetting.world.advance(1)
    newer = await resetting.token()

    assert older != newer
    with pytest.raises(TokenUsed):
        await resetting.finish(older)
    await resetting.finish(newer)


async def test_case_e24_a_new_password_kills_the_link(resetting):
    token = await resetting.token()
    engine = resetting.services.engine
    with engine.begin() as connection:
        user = users.find_by_address(connection, ADDRESS)
        users.change_password(connection, user, "$argon2id$other", datetime.now(UTC))

    with pytest.raises(TokenUsed):
        await resetting.finish(token)


async def test_case_e24_a_password_changed_behind_our_back_kills_the_link_too(resetting):
    token = await resetting.token()
    with resetting.services.engine.begin() as connection:
        connection.execute(tables.users.update().values(password_hash="$argon2id$other"))

    with pytest.raises(TokenUsed):
        await resetting.finish(token)


async def test_security_s27_of_many_at_once_one_uses_the_link(notifier):
    await notifier.register()
    token = await notifier.reset_token()
    change = {"token": token, "password": "another horse", "password2": "another horse"}

    answers = await asyncio.gather(*(notifier.http.post("/auth/reset", json=change) for _ in range(16)))

    assert sorted(answer.status_code for answer in answers) == [204] + [410] * 15


@pytest.mark.parametrize("forged", ["", "x", "A" * 64, "ä" * 64, "A" * 63 + "\x00", "A" * 1_000, "../../etc/passwd"])
async def test_security_s27_a_forged_token_is_unknown(resetting, forged):
    with pytest.raises(TokenUnknown):
        await resetting.finish(forged)


async def test_security_s27_a_token_with_one_other_bit_is_unknown(resetting):
    token = await resetting.token()
    last = "A" if token[-1] != "A" else "B"

    with pytest.raises(TokenUnknown):
        await resetting.finish(token[:-1] + last)
    await resetting.finish(token)


async def test_security_s28_the_answer_is_the_same_for_every_address(notifier):
    await notifier.register()

    known = await notifier.http.post("/auth/password-reset", json={"email": "ada@example.org"})
    unknown = await notifier.http.post("/auth/password-reset", json={"email": "nobody@example.org"})

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (202, b"{}")
    assert known.headers == unknown.headers


async def test_case_e23_the_request_does_the_same_work_for_every_address(tmp_path):
    """Who has no account is not told apart by time either: the same statements, the same jobs, all else is later."""
    async with notifier_at(tmp_path, worker=False) as notifier:
        await notifier.register()
        # The first of an hour begins a count for the machine that asks, whoever it asks for.
        await notifier.http.post("/auth/password-reset", json={"email": "first@example.org"})
        queue, engine = notifier.services.ox.queue(HIGH), notifier.services.engine
        seen: list[list[str]] = []
        event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: seen[-1].append(statement))
        answers = []
        for email in ("ada@example.org", "nobody@example.org", "eve@example.org", "ada@example.org"):
            seen.append([])
            answers.append(await notifier.http.post("/auth/password-reset", json={"email": email}))
        jobs = (await queue.find()).jobs

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, b"{}")}
    assert seen[0]
    assert seen[1:] == [seen[0]] * 3
    assert not any("users" in statement for statement in seen[0])
    assert [(job.name, sorted(job.data)) for job in jobs] == [(jobs[0].name, sorted(jobs[0].data))] * 5


async def test_security_s28_an_unknown_address_gets_no_mail(resetting):
    await resetting.resets.request(parse_address("nobody@example.org"))
    await run_jobs(resetting.services.ox)

    assert resetting.services.inbox.find(to="nobody@example.org") == []


async def test_security_s29_a_flood_of_requests_sends_three_mails_an_hour_and_ten_a_day(resetting):
    async def flood(times: int) -> int:
        for _ in range(times):
            await resetting.resets.request(ADDRESS)
        await run_jobs(resetting.services.ox)
        with resetting.services.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(tables.reset_tokens)).scalar_one()

    assert await flood(20) == 3
    for _ in range(5):
        resetting.world.advance(3_601)
        await flood(4)
    assert await flood(1) == 10
    resetting.world.advance(86_400)
    assert await flood(1) == 11


async def test_a_request_that_runs_again_sends_nothing_more(resetting):
    now = datetime.fromtimestamp(resetting.world.now(), UTC)
    for _ in range(3):
        await asyncio.to_thread(resetting.resets.begin, "job-1", ADDRESS, now)

    with resetting.services.engine.connect() as connection:
        query = (
            select(func.count())
            .select_from(mail_tables.messages)
            .where(mail_tables.messages.c.kind == "password_reset")
        )
        assert connection.execute(query).scalar_one() == 1


async def test_a_reset_mail_is_not_sent_when_its_link_is_dead(resetting):
    await resetting.resets.request(ADDRESS)
    now = datetime.fromtimestamp(resetting.world.now(), UTC)
    await asyncio.to_thread(resetting.resets.begin, "first", ADDRESS, now)
    await asyncio.to_thread(resetting.resets.begin, "second", ADDRESS, now)

    await run_jobs(resetting.services.ox)

    with resetting.services.engine.connect() as connection:
        table = mail_tables.messages.c
        states = connection.execute(select(table.state).where(table.kind == "password_reset")).scalars().all()
    assert sorted(states) == ["cancelled", "cancelled", "delivered"]


async def test_case_e25_the_token_stands_nowhere_outside_of_the_mail(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with notifier_at(tmp_path) as notifier:
        body = await notifier.register()
        token = await notifier.reset_token()
        change = {"token": token, "password": "another horse", "password2": "another horse"}
        assert (await notifier.http.post("/auth/reset", json=change)).status_code == 204
        used = await notifier.http.post("/auth/reset", json=change)
        inbox = notifier.services.inbox
        [mail] = inbox.find(subject="new password")
        message, events = [
            (await notifier.http.get(f"/messages/{mail.message_id}{path}")).text for path in ("", "/events")
        ]
        jobs = [job for name in ("mail", "mail-high") for job in (await notifier.services.ox.queue(name).find()).jobs]
        logs = [line.text for job in jobs for line in await notifier.services.ox.queue(job.queue).logs(job.id)]
        assert body
        inbox.remove()
        with notifier.services.engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1")
        dumped = "\n".join(dump(notifier.services.engine))

    assert len(jobs) >= 3
    for place in (used.text, message, events, dumped, caplog.text, *logs, *(repr(job) for job in jobs)):
        assert token not in place
        assert token[22:] not in place


def dump(engine):
    """Everything in every table, as text."""
    with engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        for name in names:
            for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"'):
                yield " ".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row)


async def test_security_s26_links_come_from_the_settings_and_not_from_the_request(tmp_path):
    async with notifier_at(tmp_path, public_url="https://app.example.org") as notifier:
        await notifier.register()
        answer = await notifier.http.post(
            "/auth/password-reset",
            json={"email": "ada@example.org"},
            headers={"x-forwarded-host": "evil.example", "host": "127.0.0.1:9", "forwarded": "host=evil.example"},
        )

        assert answer.status_code == 202
        mail = await notifier.mail(to="ada@example.org", subject="new password")
        assert "https://app.example.org/auth/reset?token=" in mail["text"]
        assert "evil" not in mail["text"] + mail["html"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"token": "A" * 64}, 404, "token_unknown"),
        ({"password2": "different horse"}, 422, "passwords_differ"),
        ({"password": "short", "password2": "short"}, 422, "weak_password"),
    ],
)
async def test_a_refused_change_uses_nothing_up(notifier, change, status, code):
    await notifier.register()
    token = await notifier.reset_token()
    good = {"token": token, "password": "another horse", "password2": "another horse"}

    refused = await notifier.http.post("/auth/reset", json={**good, **change})

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await notifier.http.post("/auth/reset", json=good)).status_code == 204


async def test_an_address_that_is_none_is_refused(notifier):
    answer = await notifier.http.post("/auth/password-reset", json={"email": "nobody"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_address")


async def test_after_a_change_of_the_secret_links_on_their_way_still_work(tmp_path):
    old = settings_for(tmp_path, secret="the first secret, long enough")
    new = settings_for(tmp_path, secret="the second secret, long enough", previous_secret=old.secret)
    keys = [build_services(settings).mail for settings in (old, new)]

    assert keys
    first, both = Keyring([b"a" * 32]), Keyring([b"b" * 32, b"a" * 32])
    assert both.derive(first.current_id, b"x") == first.derive(first.current_id, b"x")
    assert both.current_id != first.current_id
    assert first.derive(both.current_id, b"x") is None
