"""What stands before all routes: sizes, headers for browsers, and being mounted in another application."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from muskox import Muskox
from muskox.web import create_app
from muskox.web.policy import HEADERS
from tests.web.conftest import ACCESS, PASSWORD, Dashboard, client, dashboard_on


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/api/overview", "/api/nothing", "/nothing", "/static/nothing"]
)
async def test_security_s12_every_answer_carries_the_headers_for_browsers(board: Dashboard, path: str):
    answer = await board.http.get(path)

    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


async def test_security_s12_an_unforeseen_error_carries_them_too_and_tells_nothing(program: Muskox, monkeypatch):
    async with dashboard_on(program) as board:

        async def broken() -> None:
            raise RuntimeError("postgres://app:pw@db")

        monkeypatch.setattr(board.ox, "workers", broken)
        answer = await board.http.get("/api/workers")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "pw" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


async def test_fault_e6_a_body_that_is_too_large_is_refused_before_it_is_read(board: Dashboard):
    said = await board.http.post("/api/queues/email/jobs", content=b"{}", headers={"Content-Length": str(10**9)})

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    unsaid = await board.http.post("/api/queues/email/jobs", content=endless())

    assert [(one.status_code, one.json()["code"]) for one in (said, unsaid)] == [(413, "too_large")] * 2


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 100_000, b'{"name": "x", "data": ' + b"[" * 5000 + b"]" * 5000 + b"}", b""]
)
async def test_fault_e6_a_body_that_is_no_json_is_refused(board: Dashboard, body: bytes):
    answer = await board.http.post("/api/queues/email/jobs", content=body, headers={"Content-Type": "application/json"})

    assert 400 <= answer.status_code < 500, answer.text


async def test_security_s14_the_password_of_the_store_is_shown_nowhere(tmp_path):
    ox = Muskox(f"sqlite:///{tmp_path / 'jobs.db'}")
    async with dashboard_on(ox) as board:
        ox._url = "postgresql://app:hunter2@db/jobs"
        assert "hunter2" not in (await board.http.get("/api/overview")).text


async def test_security_s06_only_the_names_that_were_allowed_are_answered(program: Muskox):
    async with dashboard_on(program, access=ACCESS, hosts=["jobs.example.org"]) as board:
        status = {}
        for host in (
            "jobs.example.org",
            "jobs.example.org:8321",
            "127.0.0.1",
            "evil.example",
            "evil@jobs.example.org",
            "[",
        ):
            status[host] = (await board.http.get("/health/live", headers={"Host": host})).status_code

    assert status == {
        "jobs.example.org": 200, "jobs.example.org:8321": 200, "127.0.0.1": 200,
        "evil.example": 421, "evil@jobs.example.org": 421, "[": 421,
    }  # fmt: skip


async def test_it_works_mounted_in_another_application(program: Muskox):
    host = FastAPI()
    host.mount("/jobs", create_app(program, access=ACCESS))
    async with program, client(host) as http:
        page = await http.get("/jobs", follow_redirects=True)
        assert 'href="static/base.css"' in page.text
        assert str(page.url).endswith("/jobs/")
        assert (await http.get("/jobs/static/app.js")).headers["content-type"].startswith("text/javascript")
        assert (await http.get("/jobs/api/overview")).status_code == 401
        answer = await http.post("/jobs/api/login", json={"name": "ada-admin", "password": PASSWORD})
        assert "path=/jobs;" in answer.headers["set-cookie"].lower()
        assert (await http.get("/jobs/api/overview")).status_code == 200
        assert isinstance(answer, httpx.Response)
