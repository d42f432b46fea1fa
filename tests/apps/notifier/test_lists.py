"""Lists over HTTP: asked for, confirmed, left by one click, chosen among; and that nobody learns who is on one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.apps.notifier.conftest import Notifier, notifier_at

ONE_CLICK = {"List-Unsubscribe": "One-Click"}
ISSUE = {"list": "newsletter", "context": {"headline_text": "News", "paragraphs": ["Much is new."]}}


@pytest.fixture
async def here(tmp_path: Path):
    async with notifier_at(tmp_path) as running:
        yield running


async def send_issue(here: Notifier) -> dict:
    started = await here.http.post("/campaigns", json=ISSUE)
    assert started.status_code == 201, started.text
    return await here.campaign_ended(started.json()["id"])


async def leave_link(here: Notifier, email: str) -> str:
    mail = await here.mail(to=email, subject="News")
    [value] = [one["value"] for one in mail["headers"] if one["name"] == "List-Unsubscribe"]
    found = re.fullmatch(r"<http://127\.0\.0\.1:8000(/u/[\w=-]{60})>", value)
    assert found is not None, value
    return found[1]


async def status_of(here: Notifier, email: str) -> str:
    members = (await here.http.get("/lists/newsletter/subscriptions")).json()["data"]
    return {one["address"]: one["status"] for one in members}[email]


async def test_only_who_has_confirmed_is_written_to(here: Notifier):
    await here.http.post("/lists/newsletter/subscriptions", json={"email": "pending@example.org"})
    mail = await here.mail(to="pending@example.org", subject="Confirm")
    link = re.search(r"/lists/confirm\?token=[\w=-]+", mail["text"])[0]
    for _ in range(3):  # what fetches links confirms nothing
        assert (await here.http.get(link)).status_code == 200

    first = await send_issue(here)
    assert (await here.http.post(link)).status_code == 200
    second = await send_issue(here)

    assert (first["planned"], second["planned"]) == (0, 1)


async def test_the_answer_is_the_same_for_who_is_on_the_list_and_who_is_not(here: Notifier):
    await here.subscribe("ada@example.org")
    known = await here.http.post("/lists/newsletter/subscriptions", json={"email": "ada@example.org"})
    unknown = await here.http.post("/lists/newsletter/subscriptions", json={"email": "eve@example.org"})
    await here.wait(to="eve@example.org")

    assert (known.status_code, known.content, dict(known.headers)) == (202, unknown.content, dict(unknown.headers))
    assert len((await here.http.get("/dev/inbox/messages", params={"to": "ada@example.org"})).json()["data"]) == 1


async def test_case_e20_one_click_ends_the_newsletter_and_nothing_else(here: Notifier):
    await here.register()
    await here.subscribe("ada@example.org")
    await here.subscribe("grace@example.org")
    await send_issue(here)
    ada, grace = await leave_link(here, "ada@example.org"), await leave_link(here, "grace@example.org")

    for _ in range(20):
        looked = await here.http.get(grace)
    answers = [await here.http.post(ada, data=ONE_CLICK) for _ in range(2)]
    second = await send_issue(here)

    assert looked.status_code == 200
    assert "grace@example.org" in looked.text
    assert [answer.status_code for answer in answers] == [200, 200]
    assert not any("set-cookie" in answer.headers or "location" in answer.headers for answer in answers)
    assert (await status_of(here, "ada@example.org"), await status_of(here, "grace@example.org")) == (
        "unsubscribed",
        "subscribed",
    )
    assert second["counts"]["delivered"] == second["planned"] == 1
    assert await here.reset_token()  # what she asks for herself still comes


async def test_security_s30_nothing_but_the_one_click_takes_anybody_off(here: Notifier):
    await here.subscribe("ada@example.org")
    await send_issue(here)
    link = await leave_link(here, "ada@example.org")

    for method in ("GET", "HEAD", "OPTIONS"):
        for _ in range(30):
            await here.http.request(method, link)
    wrong = [
        await here.http.post(link),
        await here.http.post(link, data={"List-Unsubscribe": "Yes"}),
        await here.http.post(link[:-1] + ("A" if link[-1] != "A" else "B"), data=ONE_CLICK),
        await here.http.post("/u/" + "A" * 60, data=ONE_CLICK),
    ]
    assert [answer.status_code for answer in wrong] == [422, 422, 404, 404]
    assert await status_of(here, "ada@example.org") == "subscribed"

    multipart = await here.http.post(link, files={"List-Unsubscribe": (None, "One-Click")})
    assert multipart.status_code == 200
    assert await status_of(here, "ada@example.org") == "unsubscribed"


async def test_a_link_to_confirm_takes_nobody_off_and_one_to_leave_puts_nobody_on(here: Notifier):
    await here.subscribe("ada@example.org")
    await send_issue(here)
    leave = (await leave_link(here, "ada@example.org")).removeprefix("/u/")
    await here.http.post(f"/u/{leave}", data=ONE_CLICK)

    assert (await here.http.post("/lists/confirm", params={"token": leave})).status_code == 404
    assert await status_of(here, "ada@example.org") == "unsubscribed"


async def test_one_page_keeps_some_lists_and_leaves_the_others(here: Notifier):
    made = await here.http.post("/lists", json={"id": "offers", "name": "Offers"})
    await here.subscribe("ada@example.org")
    await send_issue(here)
    link = await leave_link(here, "ada@example.org")
    asked = await here.http.post("/lists/offers/subscriptions", json={"email": "ada@example.org"})
    mail = await here.mail(to="ada@example.org", subject="Confirm: Offers")
    await here.http.post(re.search(r"/lists/confirm\?token=[\w=-]+", mail["text"])[0])

    page = await here.http.post(link, data={"choose": "1", "keep": "offers"})
    lists = {one["id"]: one for one in (await here.http.get("/lists")).json()["data"]}

    assert (made.status_code, asked.status_code, page.status_code) == (201, 202, 200)
    assert (lists["newsletter"]["unsubscribed"], lists["offers"]["subscribed"]) == (1, 1)


async def test_security_s29_a_machine_that_asks_too_often_is_told_so_and_mails_stay_few(tmp_path: Path):
    async with notifier_at(tmp_path, asks_per_hour=5) as here:
        asked = [
            await here.http.post("/lists/newsletter/subscriptions", json={"email": f"v{n}@example.org"})
            for n in range(8)
        ]
        resets = [await here.http.post("/auth/password-reset", json={"email": "a@example.org"}) for _ in range(7)]

    assert [answer.status_code for answer in asked] == [202] * 5 + [429] * 3
    assert [answer.status_code for answer in resets] == [202] * 5 + [429] * 2
    assert 0 < int(asked[-1].headers["retry-after"]) <= 3_601


async def test_a_list_that_is_not_there_is_told_so(here: Notifier):
    answer = await here.http.post("/lists/nowhere/subscriptions", json={"email": "ada@example.org"})

    assert (answer.status_code, answer.json()["code"]) == (404, "list_unknown")
