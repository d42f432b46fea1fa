"""Rows of the list of faults and of the list of dangers, each staged against a dashboard as it is served."""

from __future__ import annotations

import asyncio
import gzip
import re
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from muskox import JobState, Muskox
from muskox.web import Role, create_app
from muskox.web.app import ROUTERS
from muskox.web.gate import routes_of
from tests.apps.notifier.conftest import url_of
from tests.web.conftest import PASSWORD, Dashboard, dashboard_on, program_at, served

HOSTILE = [
    "a:b", "a{b}", "*", "a*?[x]", "'; DROP TABLE muskox.jobs; --", '"', "\\", "%s %(x)s :id $1", "a b", "../x", "ключ",
    "NULL", "0", "-1", "__proto__", "}{", "x" * 255,
]  # fmt: skip
UNPRINTABLE = ["a\nb", "a\x1b[2Jb", "a\u202eb", "", "x" * 256]


# --- other sites -------------------------------------------------------------------------------


async def signed_in(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/login", json={"name": "ada-admin", "password": PASSWORD})).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", "name=welcome"),
        (
            "multipart/form-data; boundary=x",
            '--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nwelcome\r\n--x--',
        ),
        ("text/plain", '{"name": "welcome"}'),
    ],
)
async def test_security_s07_a_form_of_another_site_changes_nothing(guarded: Dashboard, kind: str, body: str):
    await signed_in(guarded.http)

    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, {}):
        answer = await guarded.http.post(
            "/api/queues/email/jobs", content=body, headers={"Content-Type": kind, **headers}
        )
        assert answer.status_code == 403, headers
    assert (await guarded.ox.queue("email").counts()).total == 0


async def test_security_s07_looking_changes_nothing(guarded: Dashboard):
    """An image or a link of another site is a GET: no route that changes something is one."""
    await guarded.ox.queue("email").add("welcome", id="x")
    await signed_in(guarded.http)
    [before] = await (await guarded.ox.store()).events(after=-1)

    for router in ROUTERS:
        for route in routes_of(router):
            if "GET" in route.methods and route.path not in {"/api/events", "/api/live"}:
                path = re.sub(r"\{\w+(:path)?\}", "x", route.path).replace("/queues/x", "/queues/email")
                await guarded.http.get(path, headers={"Sec-Fetch-Site": "cross-site"})

    [after] = await (await guarded.ox.store()).events(after=-1)
    assert after.offset == before.offset


@pytest.mark.parametrize("path", ["/api/events", "/api/live"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8321.evil.example"])
async def test_security_s08_a_stream_is_not_given_to_a_page_of_another_site(guarded: Dashboard, path: str, origin: str):
    await signed_in(guarded.http)

    answer = await guarded.http.get(path, headers={"Origin": origin, "Accept": "text/event-stream"})

    assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")


async def test_security_s08_a_token_in_an_address_is_nobody(guarded: Dashboard):
    for name in ("token", "access_token", "authorization", "api_key"):
        answer = await guarded.http.get("/api/overview", params={name: "mx_token-of-admin"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "name", ["ada-admin ", " ada-admin", "ADA-ADMIN", "ada-admin.evil", "ada-admin\0", "ada-admin@x", "аda-admin", ""]
)
async def test_security_s06_who_looks_like_somebody_is_nobody(guarded: Dashboard, name: str):
    answer = await guarded.http.post("/api/login", json={"name": name, "password": PASSWORD})

    assert answer.status_code in {401, 422}


# --- names -------------------------------------------------------------------------------------


async def test_security_s17_a_name_is_a_value_whatever_is_in_it(anywhere: Dashboard):
    """Names, ids and keys of every sort go through every route that takes one; what stands beside them stays."""
    http, queue = anywhere.http, anywhere.ox.queue("email")
    await queue.add("kept", id="kept", key="kept")
    for number, text in enumerate(HOSTILE):
        job = await queue.add(text, {"n": number}, id=text, key=text)
        found = await http.get("/api/queues/email/jobs", params={"name": text})
        assert [one["id"] for one in found.json()["jobs"]] == [job.id], text
        path = f"/api/queues/email/jobs/{quote(text, safe='')}"
        assert (await http.get(path)).json()["data"] == {"n": number}, text
        assert (await http.get("/api/search", params={"id": text})).json()[0]["name"] == text
        # A glob or a statement in a filter matches its letters and nothing else.
        narrow = await http.post("/api/queues/email/bulk", json={"verb": "cancel", "name": text})
        assert narrow.json()["operation"]["done"] == 1, text
        gone = await http.delete(path)
        assert gone.status_code == 204, text

    assert (await http.get("/api/queues", params={})).status_code == 200
    for text in HOSTILE:
        answer = await http.get(f"/api/queues/{quote(text, safe='')}")
        assert answer.status_code in {404, 422}, text
    for text in UNPRINTABLE:
        for field in ("name", "id", "key"):
            answer = await http.post("/api/queues/email/jobs", json={"name": "x", field: text})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option"), (field, text)
    assert [job.id for job in (await queue.find()).jobs] == ["kept"]
    assert await anywhere.ox.audit() == []


async def test_security_s18_queues_whose_names_would_run_together_stay_apart(anywhere: Dashboard):
    names = ["a", "a.b", "a-b", "a_b", "a.b.c", "A", "jobs", "meta", "a.waiting", "waiting"]
    for name in names:
        await anywhere.ox.queue(name).add(name, {"in": name}, id="same", key="same")

    for name in names:
        found = (await anywhere.http.get(f"/api/queues/{name}/jobs")).json()["jobs"]
        assert [(one["id"], one["name"]) for one in found] == [("same", name)]
        await anywhere.http.post(f"/api/queues/{name}/pause")
        assert (await anywhere.ox.queue(name).remove_all(JobState.WAITING)) == 1
    assert await anywhere.ox.audit() == []


@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_security_s49_two_programs_on_one_server_see_nothing_of_each_other(store: str, tmp_path: Path):
    """Every answer of one dashboard is the same whether the other program is busy or not there at all."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(url_of(store, tmp_path))
        ours, theirs = (
            (f"{url}{'&' if '?' in url else '?'}schema=ours", f"{url}{'&' if '?' in url else '?'}schema=theirs")
            if store == "postgres"
            else (url, f"{url}-theirs")
        )
        board = await stack.enter_async_context(dashboard_on(program_at(ours)))
        other = await stack.enter_async_context(Muskox(theirs))
        await board.ox.queue("email").add("welcome", {"ours": 1}, id="ours")
        before = await answers(board)
        canary = "canary-of-theirs"
        await other.queue("email").add(canary, {"secret": canary}, id=canary, key=canary)
        await other.queue(canary).add("welcome")
        await other.schedules.add_every(canary, 60, queue="email", job="welcome")
        await other.queue("email").pause()
        after = await answers(board)

        assert canary not in "".join(after.values())
        assert after == before
        assert (await board.http.get(f"/api/search?id={canary}")).json() == []
        assert (await board.ox.queue("email").counts()).paused is False


async def answers(board: Dashboard) -> dict[str, str]:
    """What the routes that look give, but for moments and for rates, which follow events by a moment."""
    given = {}
    for path in ("overview", "queues", "queues/email", "queues/email/jobs", "queues/email/keys", "queues/email/limits",
                 "workers", "schedules", "flows", "search?id=ours", "queues/email/jobs/ours"):  # fmt: skip
        text = (await board.http.get(f"/api/{path}")).text
        moving = r'"\d{4}-\d\d-\d\dT[^"]*"|"oldest_waiting":[\d.e-]+|[\d.e-]+ s(econds)?\b|"rates":{[^}]*}'
        given[path] = re.sub(moving, "T", text)
    return given


# --- what destroys -----------------------------------------------------------------------------


async def test_security_s51_what_destroys_needs_an_admin_says_how_many_and_is_recorded(guarded: Dashboard):
    queue = guarded.ox.queue("email")
    await queue.add_many([("welcome", {})] * 3)
    remove = {"verb": "remove", "state": "waiting"}
    asked = [("/api/queues/email/drain", {}), ("/api/queues/email/clean", {}), ("/api/queues/email/bulk", remove)]
    async with guarded.as_(Role.OPERATE) as http:
        assert [(await http.post(path, json=body)).status_code for path, body in asked] == [403] * 3
    async with guarded.as_(Role.ADMIN) as http:
        dry = (await http.post("/api/queues/email/bulk", json={**remove, "dry_run": True})).json()
        assert (dry["matched"], (await queue.counts()).total) == (3, 3)
        done = (await http.post("/api/queues/email/bulk", json=remove)).json()
        assert (done["operation"]["done"], (await queue.counts()).total) == (3, 0)
        [latest, *_] = (await http.get("/api/audit")).json()
        assert (latest["verb"], latest["who"], latest["detail"]["jobs"]) == ("remove many", "ci-admin", 3)
        # The record can be read, and there is no way to change it.
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await http.request(method, "/api/audit", json=[])).status_code in {404, 405}


# --- what is sent to break it ------------------------------------------------------------------


async def test_fault_e6_requests_made_to_break_a_server_are_refused_and_others_are_answered(tmp_path: Path):
    """On a real port: slow clients, too many headers, a bomb, ranges, pipelining, bytes that are no text."""
    ox = program_at(f"sqlite:///{tmp_path / 'jobs.db'}")
    async with ox, served(create_app(ox)) as base:
        host, port = base.removeprefix("http://").split(":")

        async def sent(raw: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(raw)
                await writer.drain()
                return await reader.read(65_536)
            except ConnectionError:
                return b""
            finally:
                writer.close()

        async with AsyncExitStack() as stack, httpx.AsyncClient(base_url=base, timeout=30) as http:
            for _ in range(100):  # they begin a request and never end it
                _, writer = await asyncio.open_connection(host, int(port))
                stack.callback(writer.close)
                writer.write(b"POST /api/queues/email/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")

            many = b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n"
            assert not (await sent(many)).startswith(b"HTTP/1.1 2")
            bytes_only = b"GET /api/queues/\xff\xfe\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert (await sent(bytes_only)).startswith(b"HTTP/1.1 4")
            two = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2
            assert (await sent(two)).startswith(b"HTTP/1.1 200")

            bomb = gzip.compress(b'{"name": "' + b"x" * 10_000_000 + b'"}')
            packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
            assert 400 <= (await http.post("/api/queues/email/jobs", content=bomb, headers=packed)).status_code < 500
            for ranges in ("bytes=" + ",".join(f"{at}-" for at in range(2000)), "bytes=5-1", "bytes=-0", "lines=1"):
                answer = await http.get("/static/app.js", headers={"Range": ranges})
                assert answer.status_code < 500
                assert len(answer.content) < 1_000_000
            assert (await http.get("/api/overview")).status_code == 200
            job = await http.post("/api/queues/email/jobs", json={"name": "welcome"})
            assert job.status_code == 201
        assert (await ox.queue("email").counts()).total == 1
