"""Secrets in job data are hidden in everything that is shown, and lost by nothing that is saved."""

from __future__ import annotations

import json

import msgspec
import pytest

from muskox import Job, JobState, Muskox, Secret, SyncActiveJob
from muskox.testing import run_jobs
from muskox.web.masking import MASK, Masks, restored
from tests.web.conftest import dashboard_on

CANARY = "canary-6f1d0"


class Card(msgspec.Struct):
    number: Secret[str]
    holder: str = ""


@pytest.fixture
def ox(tmp_path) -> Muskox:
    ox = Muskox(f"sqlite:///{tmp_path / 'jobs.db'}")

    @ox.queue("pay").processor("charge", attempts=2)
    def charge(job: SyncActiveJob, card: Card, api_key: str, note: Secret[str]) -> dict[str, str]:
        job.log(f"charging {card.number} with {api_key}")
        job.progress({"token": api_key})
        if note != "fine":
            raise ValueError(f"cannot charge {card.number!r} with key {api_key} ({note})")
        return {"seen": card.number}

    return ox


async def test_security_s13_a_secret_is_in_no_answer(ox: Muskox, caplog):
    async with dashboard_on(ox) as board:
        secret = {"card": {"number": f"{CANARY}-1", "holder": "Ada"}, "api_key": f"{CANARY}-2", "note": f"{CANARY}-3"}
        job = await ox.queue("pay").add("charge", secret)
        await run_jobs(ox)
        good = await ox.queue("pay").add("charge", {**secret, "note": "fine"})
        await run_jobs(ox)
        await board.http.post(f"/api/queues/pay/jobs/{job.id}/again", json={})
        answers = [
            await board.http.get(path)
            for path in (
                f"/api/queues/pay/jobs/{job.id}",
                f"/api/queues/pay/jobs/{good.id}",
                "/api/queues/pay/jobs",
                f"/api/queues/pay/jobs?text={CANARY}",
                f"/api/search?id={job.id}",
                "/api/overview",
                "/api/audit",
            )
        ]
        shown = answers[0].json()

    assert [answer.url for answer in answers if CANARY in answer.text.replace(f"text={CANARY}", "")] == []
    assert all(answer.status_code == 200 for answer in answers)
    assert shown["data"] == {"card": {"number": MASK, "holder": "Ada"}, "api_key": MASK, "note": MASK}
    assert shown["masked"]
    assert MASK in shown["failure"]["message"]
    assert CANARY not in caplog.text


async def test_security_s13_a_search_does_not_feel_for_secrets(ox: Muskox):
    async with dashboard_on(ox) as board:
        await ox.queue("pay").add(
            "charge", {"card": {"number": CANARY, "holder": "Ada"}, "api_key": "k" * 9, "note": "n"}
        )
        found = (await board.http.get(f"/api/queues/pay/jobs?text={CANARY[:5]}")).json()
        by_name = (await board.http.get("/api/queues/pay/jobs?text=ada")).json()

    assert found["jobs"] == []
    assert len(by_name["jobs"]) == 1


async def test_saving_what_was_shown_keeps_the_secrets(ox: Muskox):
    async with dashboard_on(ox) as board:
        data = {"card": {"number": CANARY, "holder": "Ada"}, "api_key": "k" * 9, "note": "n"}
        job = await ox.queue("pay").add("charge", data)
        shown = (await board.http.get(f"/api/queues/pay/jobs/{job.id}")).json()["data"]
        shown["card"]["holder"] = "Bob"
        answer = await board.http.patch(f"/api/queues/pay/jobs/{job.id}", json={"data": shown})

    assert answer.status_code == 200
    assert (await ox.queue("pay").get(job.id)).data == {**data, "card": {"number": CANARY, "holder": "Bob"}}


@pytest.mark.parametrize(
    "name", ["password", "Password", "user_passwd", "apiKey", "api-key", "Authorization", "accessToken", "pin", "CVV"]
)
def test_fields_are_hidden_by_their_names(ox: Muskox, name: str):
    assert Masks(ox).value({name: "x", "to": "y"}) == {name: MASK, "to": "y"}


@pytest.mark.parametrize("name", ["to", "spinner", "shipping", "author", "key", "shopping_list"])
def test_other_fields_are_shown(ox: Muskox, name: str):
    assert Masks(ox).value({name: "x"}) == {name: "x"}


def test_more_names_can_be_hidden(ox: Muskox):
    assert Masks(ox, ["birth_date"]).value({"birthDate": "x"}) == {"birthDate": MASK}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2, next", f"password={MASK}, next"),
        ('{"api_key": "abc def"}', f'{{"api_key": {MASK}}}'),
        ("cannot reach postgres://app:pw@db/x", f"cannot reach postgres://app:{MASK}@db/x"),
        ("Authorization: Bearer abc.def.ghi", f"Authorization: Bearer {MASK}"),
        ("sent with bearer abcdefgh12", f"sent with bearer {MASK}"),
        ("the token bucket is full", "the token bucket is full"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_in_text(ox: Muskox, text: str, shown: str):
    assert Masks(ox).value(text) == shown


@pytest.mark.parametrize(
    ("edited", "stored", "kept"),
    [
        (MASK, "s", "s"),
        ({"a": MASK, "b": 2}, {"a": "s", "b": 1}, {"a": "s", "b": 2}),
        ([MASK, {"t": MASK}], ["s", {"t": "u"}], ["s", {"t": "u"}]),
        ({"new": MASK}, {}, {"new": None}),
    ],
)
def test_masks_are_turned_back_into_what_was_stored(edited, stored, kept):
    assert restored(edited, stored) == kept


def test_data_that_is_nested_too_deeply_is_cut_off(ox: Muskox):
    deep: object = "bottom"
    for _ in range(300):
        deep = [deep]

    assert "too deeply" in str(Masks(ox).value(deep))


@pytest.mark.parametrize(
    "text",
    ["a-" * 500_000, "password" * 100_000, "a." * 500_000, "password=" * 100_000, "bearer " * 100_000, "x" * 1_000_000],
)
def test_security_s46_no_text_takes_long_to_be_hidden(ox: Muskox, text: str):
    # A quadratic pattern would take hours for these.
    assert Masks(ox).value(text)


def test_a_job_with_very_many_secrets_shows_no_text(ox: Muskox):
    job = Job("j", "pay", "charge", JobState.FAILED, 0, json.dumps({"tokens": [f"secret-{n}" for n in range(300)]}))

    assert Masks(ox).of(job).text("secret-299 is wrong") == MASK
