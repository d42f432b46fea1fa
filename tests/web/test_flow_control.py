"""Limits, keys and flows over HTTP, on all three stores."""

from __future__ import annotations

from urllib.parse import quote

from muskox import Flow, JobState, Rate
from muskox.testing import run_jobs
from tests.web.conftest import Dashboard
from tests.web.test_api import ok


async def test_mission_a18_limits_are_seen_and_put_over_http(anywhere: Dashboard):
    http, queue = anywhere.http, anywhere.ox.queue("email")
    await queue.set_limits(rate=Rate(2, per=3600), max_waiting=1000)
    before = await ok(http.get("/api/queues/email/limits"))
    assert (before["rate"], before["tokens"], before["next_at"]) == ({"limit": 2, "per": 3600, "burst": None}, 1, None)
    await queue.add_many([("welcome", {})] * 3)
    await run_jobs(anywhere.ox)
    after = await ok(http.get("/api/queues/email/limits"))
    assert after["tokens"] == 0
    assert after["next_at"] > after["at"]

    put = await ok(http.put("/api/queues/email/limits", json={"concurrency": 4, "key_rate": {"limit": 5, "burst": 2}}))

    assert (put["rate"], put["concurrency"], put["max_waiting"]) == (None, 4, None)
    state = await queue.limits()
    assert (state.limits.concurrency, state.limits.key_rate) == (4, Rate(5, burst=2))
    some = await ok(http.patch("/api/queues/email/limits", json={"concurrency": None, "rate": {"limit": 7}}))
    assert (some["rate"]["limit"], some["concurrency"], some["key_rate"]["limit"]) == (7, None, 5)
    refused = await http.put("/api/queues/email/limits", json={"concurrency": 0})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")
    assert anywhere.app.state.desk.trail.latest(10)[2].verb == "limit"


async def test_a_queue_and_a_key_are_held_and_let_go(anywhere: Dashboard):
    http = anywhere.http
    await anywhere.ox.queue("email").add("welcome", {}, key="a")

    held = await ok(http.post("/api/queues/email/hold", json={"seconds": 3600}))
    assert held["held_until"] > held["at"]
    assert (await ok(http.post("/api/queues/email/hold", json={"seconds": 0})))["held_until"] is None
    await ok(http.post("/api/queues/email/hold", json={"seconds": 3600, "key": "a"}))

    assert (await ok(http.get("/api/queues/email/keys/a")))["held_until"] is not None
    assert (await http.post("/api/queues/email/hold", json={"seconds": -1})).status_code == 422


async def test_keys_are_paged_and_have_limits_of_their_own(anywhere: Dashboard):
    http, queue = anywhere.http, anywhere.ox.queue("email")
    names = ["a/b", "c", "d"]
    await queue.add_many([queue.new("welcome", {}, key=name) for name in names])

    first = await ok(http.get("/api/queues/email/keys?limit=2"))
    rest = await ok(http.get("/api/queues/email/keys", params={"limit": 2, "after": first["cursor"]}))
    where = f"/api/queues/email/keys/{quote('a/b', safe='')}"
    put = await ok(http.put(where, json={"concurrency": "unlimited", "rate": {"limit": 3}, "weight": 2}))

    assert [one["key"] for one in first["keys"] + rest["keys"]] == names
    assert rest["cursor"] is None
    assert (first["keys"][0]["waiting"], first["keys"][0]["weight"]) == (1, 1)
    assert (put["own_concurrency"], put["own_rate"]["limit"], put["weight"]) == ("unlimited", 3, 2)
    assert (await queue.key("a/b")).own.rate == Rate(3)
    assert (await ok(http.put(where, json={})))["own_rate"] is None


async def test_flows_are_seen_with_their_jobs_and_what_these_wait_for(anywhere: Dashboard):
    http, queue = anywhere.http, anywhere.ox.queue("email")
    flow = Flow("order/17", settled=queue.new("welcome", {}, id="told"))
    text = flow.add(queue, "welcome", {"fail": True}, label="text")
    flow.add(queue, "welcome", {"password": "hunter2hunter2"}, after=text)
    await anywhere.ox.flows.add(flow)
    where = f"/api/flows/{quote('order/17', safe='')}"

    [one] = (await ok(http.get("/api/flows?unended=true")))["flows"]
    assert (one["id"], one["kind"], one["state"], one["total"]) == ("order/17", "flow", "running", 2)
    assert one["settled_job"] == {"queue": "email", "id": "told", "added": False}
    detail = await ok(http.get(f"{where}?parents=true"))
    assert [job["state"] for job in detail["jobs"]] == ["waiting", "blocked"]
    assert detail["jobs"][1]["parents"] == [
        {"name": "text", "queue": "email", "id": "order/17/1", "state": "waiting", "on_failure": "fail"}
    ]
    assert "hunter2" not in detail["jobs"][1]["preview"]
    assert (await ok(http.get(where)))["jobs"][0]["parents"] is None

    await run_jobs(anywhere.ox)
    assert (await ok(http.get(where)))["state"] == "failed"
    assert len((await ok(http.get(f"{where}?state=failed")))["jobs"]) == 2
    retried = await ok(http.post(f"{where}/retry"))
    assert (retried["state"], retried["done"]) == ("done", 2)
    cancelled = await ok(http.post(f"{where}/cancel"))
    assert (cancelled["state"], cancelled["done"]) == ("done", 2)
    assert (await queue.counts()).states[JobState.CANCELLED] == 2
    assert (await http.get("/api/flows/nobody")).json()["code"] == "flow_unknown"
    assert (await http.post("/api/flows/nobody/cancel")).status_code == 404


async def test_a_batch_whose_producer_is_gone_is_closed(anywhere: Dashboard):
    batch = anywhere.ox.batch("letters")
    await batch.add(anywhere.ox.queue("email").new("welcome", {}))
    assert (await ok(anywhere.http.get("/api/flows/letters")))["state"] == "open"

    closed = await ok(anywhere.http.post("/api/flows/letters/close"))

    assert (closed["state"], closed["open"]) == ("running", False)
