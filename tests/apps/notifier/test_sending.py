"""Mail over HTTP: sent now or later, many at once, withdrawn, sent again, listed; suppressed; and who may do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from muskox.apps.mail.catalogue import SHIPPED
from muskox.web import Access, Role, Token, digest_of
from tests.apps.notifier.conftest import BASE, Notifier, notifier_at

MAIL = {"to": "ada@example.org", "template": "welcome", "context": {"name": "Ada", "email": "ada@example.org"}}
ISSUE = {"list": "newsletter", "context": {"headline_text": "News", "paragraphs": ["Much is new."]}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Notifier]:
    async with notifier_at(tmp_path) as running:
        yield running


async def test_mission_c04_a_reminder_waits_and_an_urgent_mail_does_not(here: Notifier):
    later = {**MAIL, "to": "later@example.org", "delay": 3_600}
    reminder = (await here.http.post("/messages", json=later)).json()
    at = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    month = (await here.http.post("/messages", json={**MAIL, "to": "m@example.org", "not_before": at})).json()
    urgent = (await here.http.post("/messages", json={**MAIL, "priority": 100})).json()
    await here.ended(urgent["id"])

    told = (await here.http.get(f"/messages/{reminder['id']}")).json()
    job = await here.services.ox.queue("mail").get(reminder["id"])
    far = (await here.http.get(f"/messages/{month['id']}")).json()

    assert (told["state"], job.state) == ("queued", "delayed")
    assert 3_500 < (job.due_at - datetime.now(UTC)).total_seconds() <= 3_600
    assert far["expires_at"] > at  # it is not over before it may begin
    assert (await here.services.ox.queue("mail").get(urgent["id"])).priority == 100


async def test_what_waits_can_be_withdrawn_and_what_went_cannot(here: Notifier):
    waiting = (await here.http.post("/messages", json={**MAIL, "delay": 3_600})).json()
    sent = (await here.http.post("/messages", json=MAIL)).json()
    await here.ended(sent["id"])

    withdrawn = await here.http.post(f"/messages/{waiting['id']}/cancel")
    too_late = await here.http.post(f"/messages/{sent['id']}/cancel")

    assert (withdrawn.status_code, withdrawn.json()["state"]) == (200, "cancelled")
    assert (too_late.status_code, too_late.json()["code"]) == (409, "not_cancellable")
    assert (await here.services.ox.queue("mail").get(waiting["id"])).state == "cancelled"
    assert (await here.http.post("/messages/nowhere/cancel")).status_code == 404


async def test_many_mails_stand_each_for_itself(here: Notifier):
    good, bad = MAIL, {**MAIL, "to": "nobody"}
    answer = await here.http.post("/messages/batch", json={"messages": [good, bad, {**good, "to": "g@example.org"}]})
    first, second, third = answer.json()["data"]

    assert answer.status_code == 202
    assert (first["state"], third["state"]) == ("queued", "queued")
    assert second["error"]["errors"][0]["pointer"] == "/to"


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"to": "a@b.c>\r\nRCPT TO:<e@x"}, 422, "/to"),
        ({"context": {"email": "x"}}, 422, "/context"),
        ({"headers": {"Bcc": "x@example.org"}}, 422, "/headers"),
        ({"headers": {"X-Note": "a\nb"}}, 422, "/headers"),
        ({"template": "nowhere"}, 404, None),
        ({"kind": "spam"}, 422, "/kind"),
        ({"delay": 5, "not_before": "2030-01-01T00:00:00Z"}, 422, "/delay"),
        ({"surprise": 1}, 422, "/surprise"),
    ],
)
async def test_what_cannot_become_a_mail_is_refused_with_the_place(here: Notifier, change, status, pointer):
    answer = await here.http.post("/messages", json={**MAIL, **change})
    listed = (await here.http.get("/messages")).json()["data"]

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert pointer is None or answer.json()["errors"][0]["pointer"] == pointer
    assert listed == []


async def test_case_e22_the_same_key_fifty_times_is_one_mail(here: Notifier):
    async def post() -> httpx.Response:
        return await here.http.post("/messages", json=MAIL, headers={"Idempotency-Key": "order-7"})

    answers = await asyncio.gather(*(post() for _ in range(50)))
    while any(answer.status_code == 409 for answer in answers):
        answers = [answer if answer.status_code != 409 else await post() for answer in answers]
    other = await here.http.post(
        "/messages", json={**MAIL, "to": "eve@example.org"}, headers={"Idempotency-Key": "order-7"}
    )
    [id] = {answer.json()["id"] for answer in answers}
    await here.ended(id)

    assert {answer.status_code for answer in answers} == {202}
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len((await here.http.get("/dev/inbox/messages")).json()["data"]) == 1


async def test_lists_of_messages_are_filtered_and_paged(here: Notifier):
    batch = {"messages": [{**MAIL, "to": f"p{n}@example.org", "delay": 600} for n in range(55)]}
    await here.http.post("/messages/batch", json=batch)
    sent = (await here.http.post("/messages", json=MAIL)).json()
    await here.ended(sent["id"])

    first = (await here.http.get("/messages", params={"state": "queued"})).json()
    second = (await here.http.get("/messages", params={"state": "queued", "cursor": first["next"]})).json()
    mine = (await here.http.get("/messages", params={"to": "ADA@example.org"})).json()
    wrong = await here.http.get("/messages", params={"cursor": "?"})

    assert (len(first["data"]), len(second["data"]), second["next"]) == (50, 5, None)
    assert len({one["id"] for one in first["data"] + second["data"]}) == 55
    assert [one["id"] for one in mine["data"]] == [sent["id"]]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


async def test_sending_again_is_a_new_message_and_needs_force_when_it_went(here: Notifier):
    sent = (await here.http.post("/messages", json=MAIL)).json()
    await here.ended(sent["id"])

    refused = await here.http.post(f"/messages/{sent['id']}/retry", json={})
    again = await here.http.post(f"/messages/{sent['id']}/retry", json={"force": True})
    await here.ended(again.json()["id"])

    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")
    assert again.json()["id"] != again.json()["again"] == sent["id"]


async def test_a_suppressed_address_is_told_at_once_and_lifted_by_hand(here: Notifier):
    added = await here.http.post("/suppressions", json={"address": "ada@example.org", "note": "asked by phone"})
    twice = await here.http.post("/suppressions", json={"address": "Ada@Example.org"})
    held = (await here.http.post("/messages", json=MAIL)).json()
    listed = (await here.http.get("/suppressions", params={"address": "ada@example.org"})).json()["data"]
    lifted = await here.http.delete("/suppressions", params={"address": "ada@example.org"})
    again = await here.http.delete("/suppressions", params={"address": "ada@example.org"})
    sent = (await here.http.post("/messages", json=MAIL)).json()

    assert (added.status_code, twice.status_code, lifted.status_code, again.status_code) == (201, 409, 204, 404)
    assert (held["state"], sent["state"]) == ("suppressed", "queued")
    assert [(one["reason"], one["source"], one["note"]) for one in listed] == [
        ("manual", "operator local", "asked by phone")
    ]


async def test_suppressions_go_in_and_out_as_csv(here: Notifier):
    lines = "address,scope,reason\r\n" + "".join(f"b{n}@example.org,all,hard_bounce\r\n" for n in range(120))
    told = (await here.http.post("/suppressions/import", content=lines + "nobody,all,manual\r\nx@y.z,moon,\r\n")).json()
    out = (await here.http.get("/suppressions/export")).text
    again = (await here.http.post("/suppressions/import", content=out)).json()

    assert (told["added"], [one["line"] for one in told["wrong"]]) == (120, [122, 123])
    assert len(out.splitlines()) == 121
    assert (again["added"], again["known"]) == (0, 120)


async def test_a_campaign_is_started_watched_and_cancelled_over_http(here: Notifier):
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waiting = (await here.http.post("/campaigns", json={**ISSUE, "scheduled_for": soon})).json()
    id = waiting["id"]
    test = await here.http.post(f"/campaigns/{id}/test", json={"to": ["editor@example.org"]})
    await here.wait(to="editor@example.org", subject="News")
    paused = await here.http.post(f"/campaigns/{id}/pause")
    resumed = await here.http.post(f"/campaigns/{id}/resume")
    cancelled = await here.http.post(f"/campaigns/{id}/cancel")
    again = await here.http.post(f"/campaigns/{id}/cancel")
    listed = (await here.http.get("/campaigns")).json()["data"]

    assert (waiting["state"], test.status_code) == ("scheduled", 202)
    assert [answer.json().get("state") for answer in (paused, resumed, cancelled)] == [
        "paused",
        "scheduled",
        "cancelled",
    ]
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    assert [one["id"] for one in listed] == [id]


async def test_production_refuses_bulk_mail_that_mailbox_providers_would_not_take(tmp_path: Path):
    full = {"public_url": "https://app.example.org", "postal_address": "1 Tundra Road", "signed": True}
    async with notifier_at(tmp_path, production=True) as bare:
        refused = await bare.http.post("/campaigns", json=ISSUE)
        hidden = await bare.http.get("/dev/templates")
    async with notifier_at(tmp_path, production=True, **full) as ready:
        started = await ready.http.post("/campaigns", json=ISSUE)

    assert (refused.status_code, refused.json()["code"]) == (422, "bulk_requirements")
    assert all(word in refused.json()["detail"] for word in ("https", "postal", "DKIM"))
    assert (started.status_code, started.json()["warnings"]) == (201, [])
    assert hidden.status_code == 404


async def test_operators_need_a_key_once_there_is_one_and_else_this_machine(tmp_path: Path):
    keys = Access(
        tokens=(
            Token("looker", digest_of("a key to look with"), Role.VIEW),
            Token("sender", digest_of("a key to send with"), Role.OPERATE),
        )
    )
    async with notifier_at(tmp_path, access=keys) as here:
        asked = {
            key: [
                (await here.http.get("/messages", headers=header)).status_code,
                (await here.http.post("/messages", json=MAIL, headers=header)).status_code,
            ]
            for key, header in (
                ("none", {}),
                ("wrong", {"Authorization": "Bearer nonsense"}),
                ("looker", {"Authorization": "Bearer a key to look with"}),
                ("sender", {"Authorization": "Bearer a key to send with"}),
            )
        }
    async with notifier_at(tmp_path) as near:
        proxied = await near.http.get("/messages", headers={"X-Forwarded-For": "203.0.113.7"})
        named = await near.http.get("/suppressions", headers={"Host": "192.0.2.7:8000"})

    assert asked == {"none": [401, 401], "wrong": [401, 401], "looker": [200, 403], "sender": [200, 202]}
    assert [answer.json()["code"] for answer in (proxied, named)] == ["local_only", "local_only"]


@pytest.mark.parametrize("template", SHIPPED, ids=lambda template: template.name)
async def test_every_template_can_be_looked_at_with_each_sample(here: Notifier, template):
    listed = await here.http.get("/dev/templates")
    for case in template.samples:
        page = await here.http.get(f"/dev/templates/{template.name}", params={"case": case})
        light, dark = [
            await here.http.get(f"/dev/templates/{template.name}/html", params={"case": case, "dark": dark})
            for dark in ("false", "true")
        ]
        assert (page.status_code, light.status_code, dark.status_code) == (200, 200, 200)
        assert "prefers-color-scheme: dark" in light.text
        assert "prefers-color-scheme: dark" not in dark.text
        assert "sandbox" in light.headers["content-security-policy"]

    assert f"/dev/templates/{template.name}" in listed.text
    assert (await here.http.get(f"/dev/templates/{template.name}?case=none")).status_code == 404


async def test_a_campaign_can_be_looked_at_while_it_is_written(here: Notifier):
    form = {"headline_text": "<b>News</b>", "text": "One.\r\n\r\nTwo & three."}
    html = await here.http.post("/campaigns/preview", data=form)
    plain = await here.http.post("/campaigns/preview", data={**form, "plain": "true"})

    assert (html.status_code, plain.status_code) == (200, 200)
    assert "&lt;b&gt;News&lt;/b&gt;" in html.text
    assert html.text.count('class="copy"') == 2
    assert "Two &amp; three." in plain.text
    assert "sandbox" in html.headers["content-security-policy"]
    assert str(here.http.base_url).rstrip("/") == BASE
