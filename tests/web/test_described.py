"""Whatever a route is given, it answers with what it is described to answer, and never with an error of ours."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.web.conftest import Dashboard

VALUES = ["email", "j1", "a/b", "..", "%", "é\u2028", "x" * 300, "' OR 1=1 --", "*", "null", "\x1b[2J", "-1"]
BODIES = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b"\xff",
    b'{"data": 1e999}',
    b'{"name": "x", "data": "\\ud800"}',
    json.dumps({"name": "x" * 300, "queue": 1, "job": None, "cron": "@", "every": -1}).encode(),
    json.dumps({"verb": "retry", "state": "waiting", "most": 10**30, "ids": [""]}).encode(),
    json.dumps({"name": "w", "delay": 1e300, "at": "0001-01-01T00:00:00Z", "priority": 2**63, "attempts": -1}).encode(),
    json.dumps({"name": "n", "queue": "email", "job": "w", "every": 1e308, "data": {"a": [1, {"b": "\x00"}]}}).encode(),
    json.dumps({"rate": {"limit": 0}, "seconds": -1, "key": "", "weight": 10**30, "concurrency": "x"}).encode(),
    b'{"seconds": 1e999}',
    b'{"seconds": 1e300, "key": "\\u0000"}',
    json.dumps({"rate": {"limit": 1, "per": 1e-300, "burst": 10**30}}).encode(),
    json.dumps({"rate": {"limit": 10**9, "per": 1e-300}}).encode(),
    json.dumps({"concurrency": 10**30, "max_waiting": -1, "when_full": "x"}).encode(),
    json.dumps({"name": "o", "queue": "email", "job": "w", "at": "9999-12-31T23:59:59+00:00"}).encode(),
]
QUERIES = [
    {},
    {"after": "x", "limit": "7", "state": "failed", "text": "\\"},
    {"after": "e30", "limit": "0", "state": "x", "span": "x", "expression": "* * * * * * *", "id": "x" * 255},
    {"expression": "0 0 30 2 *", "tz": "Mars/Phobos", "id": "\u2028", "after": "-1", "name": "", "reveal": "maybe"},
]
STREAMS = {"/api/events", "/api/live"}


async def test_fault_e7_no_route_breaks_whatever_it_is_given(board: Dashboard):
    await board.ox.queue("email").add("welcome", {}, id="j1")
    paths = (await board.http.get("/api/openapi.json")).json()["paths"]
    for path, methods in paths.items():
        if path in STREAMS:
            continue
        for method, described in methods.items():
            for given in VALUES if "{" in path else [""]:
                where = path
                for part in ("{queue}", "{id}", "{name}", "{key}"):
                    where = where.replace(
                        part, quote("email" if part == "{queue}" and "jobs" in path else given, safe="")
                    )
                for query in QUERIES if method == "get" else [{}]:
                    for body in [None] if method in {"get", "delete"} else BODIES:
                        headers = {} if body is None else {"Content-Type": "application/json"}
                        answer = await board.http.request(
                            method, where, content=body, params=query or None, headers=headers
                        )
                        said = f"{method} {where} {query} {body!r}: {answer.status_code} {answer.text[:300]}"
                        assert answer.status_code < 500, said
                        # "." and ".." lead elsewhere before they are asked for.
                        assert str(answer.status_code) in described["responses"] or given == "..", said
                        if answer.status_code >= 400:
                            assert answer.headers["content-type"] == "application/problem+json", said


@pytest.mark.parametrize(
    "name", ["Drain", "EditedData", "Bulk", "NewJobShape", "NewSchedule", "Credentials", "SaidLimits"]
)
async def test_a_mistyped_field_of_a_request_is_refused(board: Dashboard, name: str):
    document = (await board.http.get("/api/openapi.json")).json()

    assert document["components"]["schemas"][name]["additionalProperties"] is False
