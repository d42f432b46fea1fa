"""The HTTP interface on all three stores: what it tells of jobs, queues, workers and schedules, and its verbs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest

from muskox import Fixed, JobState
from muskox.testing import run_jobs
from muskox.web.app import ROUTERS
from muskox.web.gate import needed, routes_of
from tests.web.conftest import Dashboard


async def ok(answer, status=200):
    answer = await answer
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def test_mission_e2_every_verb_works_over_http(anywhere: Dashboard):
    http = anywhere.http

    added = await ok(http.post("/api/queues/email/jobs", json={"name": "welcome", "data": {"fail": True}}), 201)
    await run_jobs(anywhere.ox)
    job = await ok(http.get(f"/api/queues/email/jobs/{added['id']}"))
    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert job["failure"]["message"] == "no answer from "
    assert "Traceback" in job["failure"]["traceback"]
    assert job["explanation"]["reasons"][0]["kind"] == "failed"
    assert [one["kind"] for one in job["timeline"]] == ["added", "waiting", "active", "failed"]

    where = f"/api/queues/email/jobs/{added['id']}"
    await ok(http.post(f"{where}/retry", json={"data": {"to": "ada@example.org"}}))
    await run_jobs(anywhere.ox)
    job = await ok(http.get(where))
    assert (job["state"], job["result"]) == ("completed", {"sent": "ada@example.org"})

    twin = await ok(http.post(f"{where}/again", json={}), 201)
    assert twin["id"] != added["id"]
    assert twin["preview"] == '{"to":"ada@example.org"}'
    await ok(http.patch(f"/api/queues/email/jobs/{twin['id']}", json={"data": {"to": "bob@example.org"}}))
    await ok(http.post(f"/api/queues/email/jobs/{twin['id']}/cancel"))
    later = await ok(http.post("/api/queues/email/jobs", json={"name": "welcome", "delay": 3600}), 201)
    assert later["state"] == "delayed"
    assert (await ok(http.post(f"/api/queues/email/jobs/{later['id']}/promote")))["state"] == "waiting"
    await ok(http.delete(f"/api/queues/email/jobs/{later['id']}"), 204)

    assert (await ok(http.post("/api/queues/email/pause")))["paused"] is True
    assert (await ok(http.post("/api/queues/email/resume")))["paused"] is False
    await anywhere.ox.queue("email").add_many([("welcome", {})] * 3)
    drained = await ok(http.post("/api/queues/email/drain", json={"delayed": True}))
    assert (drained["state"], drained["done"]) == ("done", 3)


async def test_mission_a16_counts_are_those_of_the_store(anywhere: Dashboard):
    await anywhere.ox.queue("email").add_many([("welcome", {}), ("nobody", {})])
    await anywhere.ox.queue("email").add("welcome", {}, delay=60)

    found = await ok(anywhere.http.get("/api/overview"))

    assert found["states"] | {"waiting": 2, "delayed": 1} == found["states"]
    assert [queue["name"] for queue in found["queues"]] == ["email", "files"]
    assert found["attention"][0]["kind"] == "no-worker"
    names = {one["name"]: one["states"]["waiting"] for one in found["queues"][0]["names"]}
    assert names == {"welcome": 1, "nobody": 1}


async def test_pages_of_jobs_follow_one_another_by_cursor(anywhere: Dashboard):
    await anywhere.ox.queue("email").add_many([("welcome", {"n": n}) for n in range(5)])
    seen, cursor = [], None
    while True:
        where = "/api/queues/email/jobs?state=waiting&limit=2" + (f"&after={quote(cursor)}" if cursor else "")
        page = await ok(anywhere.http.get(where))
        seen += [job["preview"] for job in page["jobs"]]
        cursor = page["cursor"]
        if cursor is None:
            break

    assert seen == [f'{{"n":{n}}}' for n in range(5)]


async def test_mission_e2_many_jobs_are_changed_by_filter_after_a_count(anywhere: Dashboard):
    queue = anywhere.ox.queue("email")
    await queue.add_many([("welcome", {"fail": True})] * 3)
    await run_jobs(anywhere.ox)
    await queue.add("other", {})
    http = anywhere.http

    dry = await ok(http.post("/api/queues/email/bulk", json={"verb": "retry", "name": "welcome", "dry_run": True}))
    assert dry == {"matched": 3, "exact": True, "operation": None}
    assert (await queue.counts()).failed == 3
    done = await ok(http.post("/api/queues/email/bulk", json={"verb": "retry", "state": "failed"}))
    assert (done["operation"]["state"], done["operation"]["done"]) == ("done", 3)
    await ok(http.post("/api/queues/email/bulk", json={"verb": "cancel", "name": "other"}))
    first = (await queue.find(JobState.WAITING)).jobs[0].id
    some = await ok(http.post("/api/queues/email/bulk", json={"verb": "remove", "ids": [first, "nobody"]}))
    assert some["operation"]["done"] == 1
    few = await ok(http.post("/api/queues/email/bulk", json={"verb": "cancel", "state": "waiting", "most": 1}))
    assert few["operation"]["done"] == 1

    counts = await queue.counts()
    assert (counts.waiting, counts.failed, counts.states[JobState.CANCELLED]) == (1, 0, 2)
    assert [one["verb"] for one in await ok(http.get("/api/operations"))] == ["cancel", "remove", "cancel", "retry"]


async def test_schedules_are_added_run_paused_and_deleted_over_http(anywhere: Dashboard):
    http = anywhere.http
    rule = {"name": "a/nightly", "cron": "0 3 * * *", "tz": "Europe/Vienna", "queue": "files", "job": "resize"}

    added = await ok(http.post("/api/schedules", json=rule), 201)
    assert (added["kind"], added["expression"]) == ("cron", "0 3 * * *")
    assert (await ok(http.post("/api/schedules", json=rule), 409))["code"] == "name_taken"
    where = f"/api/schedules/{quote('a/nightly', safe='')}"
    job = await ok(http.post(f"{where}/run"))
    assert (job["queue"], job["name"]) == ("files", "resize")
    await ok(http.post(f"{where}/pause"))
    found = await ok(http.get(where))
    assert found["paused"]
    assert [entry["told"] for entry in found["ledger"]] == ["run"]
    await ok(http.post(f"{where}/resume"))
    edited = await ok(http.patch(where, json={"cron": "30 4 * * *", "data": {"deep": True}, "overlap": "skip"}))
    assert (edited["expression"], edited["tz"], edited["overlap"]) == ("30 4 * * *", "Europe/Vienna", "skip")
    assert (await ok(http.patch(where, json={"every": 60})))["every"] == 60
    assert (await ok(http.get(where)))["data"] == {"deep": True}
    assert (await http.patch(where, json={"every": 60, "cron": "* * * * *"})).status_code == 422
    assert (await http.patch("/api/schedules/nobody", json={"every": 60})).status_code == 404
    assert len((await ok(http.get(where)))["next"]) == 10
    await ok(http.delete(where), 204)
    assert await ok(http.get("/api/schedules")) == []


async def test_mission_e2_ended_jobs_are_cleaned_by_state_and_age(board: Dashboard):
    queue = board.ox.queue("email")
    await queue.add_many([("welcome", {})] * 3)
    await queue.cancel_all()

    young = await ok(board.http.post("/api/queues/email/clean", json={"state": ["cancelled"], "older_than": 3600}))
    assert (young["state"], young["done"]) == ("done", 0)
    assert (await ok(board.http.post("/api/queues/email/clean", json={"state": ["cancelled"]})))["done"] == 3
    assert (await board.http.post("/api/queues/email/clean", json={"state": ["waiting"]})).status_code == 422
    assert (await queue.counts()).total == 0


async def test_workers_are_shown_with_what_they_can_run(anywhere: Dashboard):
    async with anywhere.ox.worker(concurrency=3), asyncio.timeout(20):
        while not (found := await ok(anywhere.http.get("/api/workers"))):
            pass

    assert [(one["slots"], one["wants"]) for one in found] == [(3, {"email": ["welcome"], "files": ["resize"]})]


async def test_fault_e5_a_text_is_found_in_the_data_of_jobs_at_a_bounded_cost(board: Dashboard):
    queue = board.ox.queue("email")
    await queue.add_many([("welcome", {"to": f"user{n}@example.org"}) for n in range(3000)])

    found = await ok(board.http.get("/api/queues/email/jobs?text=USER2999&state=waiting"))
    assert (found["jobs"], found["looked_at"]) == ([], 2000)
    found = await ok(
        board.http.get(f"/api/queues/email/jobs?text=USER2999&state=waiting&after={quote(found['cursor'])}")
    )
    assert [job["preview"] for job in found["jobs"]] == ['{"to":"user2999@example.org"}']


@pytest.mark.parametrize("id", ["a/b", "a/retry", "50%", "ü ? # &", "a//b", "schedule:x:1:2"])
async def test_a_job_is_reached_whatever_its_id(board: Dashboard, id: str):
    await board.ox.queue("email").add("welcome", {}, id=id)
    where = f"/api/queues/email/jobs/{quote(id, safe='')}"

    assert (await ok(board.http.get(where)))["id"] == id
    assert [job["id"] for job in await ok(board.http.get("/api/search", params={"id": id}))] == [id]
    assert (await ok(board.http.post(f"{where}/cancel")))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/queues/nobody", None, 404, "queue_unknown"),
        ("GET", "/api/queues/email/jobs/x", None, 404, "job_unknown"),
        ("POST", "/api/queues/email/jobs/x/retry", None, 404, "job_unknown"),
        ("POST", "/api/queues/email/jobs/done/promote", None, 409, "wrong_state"),
        ("POST", "/api/queues/email/jobs", {"name": ""}, 422, "invalid_option"),
        ("POST", "/api/queues/email/jobs", {"name": "x", "colour": 1}, 422, "invalid_request"),
        ("POST", "/api/queues/email/jobs", {"name": "x", "attempts": 0}, 422, "invalid_option"),
        ("POST", "/api/queues/e%20mail/jobs", {"name": "x"}, 422, "invalid_option"),
        ("POST", "/api/queues/email/bulk", {"verb": "remove"}, 422, "invalid_request"),
        ("POST", "/api/queues/email/bulk", {"verb": "retry", "state": "waiting"}, 422, "invalid_request"),
        ("GET", "/api/queues/email/jobs?after=nonsense", None, 422, "invalid_option"),
        ("GET", "/api/queues/email/jobs?limit=0", None, 422, "invalid_request"),
        ("GET", "/api/schedules/x", None, 404, "schedule_unknown"),
        ("GET", "/api/upcoming?expression=61%20*%20*%20*%20*", None, 422, "invalid_option"),
        ("GET", "/api/events?kind=nothing", None, 422, "invalid_option"),
        ("GET", "/api/nothing", None, 404, "not_found"),
        ("PUT", "/api/queues", None, 405, "method_not_allowed"),
    ],
)
async def test_errors_are_problems_with_a_code(board: Dashboard, method, path, body, status, code):
    await board.ox.queue("email").add("welcome", {}, id="done")

    answer = await board.http.request(method, path, json=body)

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


async def test_every_route_is_described_with_its_answers(board: Dashboard):
    document = (await board.http.get("/api/openapi.json")).json()

    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len(operations) > 30
    assert [one for one in operations if not one.get("summary")] == []
    for path, methods in document["paths"].items():
        if path.startswith("/api/") and "session" not in path:
            assert all("403" in one["responses"] for one in methods.values()), path


def test_every_route_is_in_the_reference():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
    rows = {
        f"| `{method} {route.path.replace(':path', '')}` | {needed(route)} |"
        for router in ROUTERS
        for route in routes_of(router)
        for method in route.methods
    }

    assert [row for row in rows if row not in page] == []


async def test_what_happened_to_a_job_is_found_among_many_events(anywhere: Dashboard):
    queue = anywhere.ox.queue("email")
    await queue.add_many([queue.new("welcome", delay=3600) for _ in range(3000)])
    job = await queue.add("welcome", {"fail": True}, attempts=2, backoff=Fixed(0))
    await run_jobs(anywhere.ox)
    await queue.add_many([queue.new("welcome", delay=3600) for _ in range(3000)])

    found = await ok(anywhere.http.get(f"/api/queues/email/jobs/{job.id}"))

    told = [(one["kind"], one["attempt"]) for one in found["timeline"]]
    assert told[0] == ("added", None)
    assert ("retrying", 1) in told
    assert told[-1] == ("failed", 2)
    [retrying] = [one for one in found["timeline"] if one["kind"] == "retrying"]
    assert "RuntimeError: no answer" in retrying["traceback"]


async def test_a_key_is_given_shown_and_kept_when_a_job_is_run_again(anywhere: Dashboard):
    http = anywhere.http
    added = await ok(http.post("/api/queues/email/jobs", json={"name": "welcome", "key": "example.org"}), 201)

    again = await ok(http.post(f"/api/queues/email/jobs/{added['id']}/again"), 201)

    assert (added["key"], again["key"]) == ("example.org", "example.org")
    job = await anywhere.ox.queue("email").get(again["id"])
    assert job is not None
    assert job.key == "example.org"
