"""Who may do what: tokens, passwords, roles, other sites, other machines, and the record of changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muskox import Muskox, OptionError
from muskox.testing import FakeWorld
from muskox.web import Access, Principal, Role, Token, User, create_app, digest_of, hash_password, read_access
from muskox.web.app import ROUTERS
from muskox.web.gate import needed, routes_of
from tests.web.conftest import ACCESS, BASE, HASHED, PASSWORD, TOKENS, Dashboard, client, dashboard_on

MATRIX = {
    "open": {
        "GET /", "GET /api/session", "POST /api/login", "POST /api/logout", "GET /health/live", "GET /health/ready",
    },
    "view": {
        "GET /api/overview", "GET /api/chart", "GET /api/workers", "GET /api/queues", "GET /api/queues/{queue}",
        "GET /api/queues/{queue}/jobs", "GET /api/search", "GET /api/queues/{queue}/jobs/{id:path}",
        "GET /api/operations", "GET /api/operations/{id}", "GET /api/schedules", "GET /api/schedules/{name:path}",
        "GET /api/upcoming", "GET /api/events", "GET /api/live",
        "GET /metrics", "GET /api/metrics/history",
        "GET /autoscale", "GET /api/queues/{queue}/limits", "GET /api/queues/{queue}/keys",
        "GET /api/queues/{queue}/keys/{key:path}", "GET /api/flows", "GET /api/flows/{id:path}",
    },
    "operate": {
        "POST /api/queues/{queue}/pause", "POST /api/queues/{queue}/resume", "POST /api/queues/{queue}/jobs",
        "POST /api/queues/{queue}/jobs/{id:path}/retry", "POST /api/queues/{queue}/jobs/{id:path}/promote",
        "POST /api/queues/{queue}/jobs/{id:path}/cancel", "POST /api/queues/{queue}/jobs/{id:path}/again",
        "PATCH /api/queues/{queue}/jobs/{id:path}", "POST /api/queues/{queue}/bulk", "POST /api/schedules",
        "POST /api/schedules/{name:path}/pause", "POST /api/schedules/{name:path}/resume",
        "POST /api/schedules/{name:path}/run", "PUT /api/queues/{queue}/limits", "POST /api/queues/{queue}/hold",
        "PUT /api/queues/{queue}/keys/{key:path}", "PATCH /api/queues/{queue}/limits",
        "PATCH /api/schedules/{name:path}", "POST /api/flows/{id:path}/cancel",
        "POST /api/flows/{id:path}/retry", "POST /api/flows/{id:path}/close",
    },
    "admin": {
        "POST /api/queues/{queue}/drain", "POST /api/queues/{queue}/clean", "DELETE /api/queues/{queue}/jobs/{id:path}",
        "DELETE /api/schedules/{name:path}", "GET /api/audit",
    },
}  # fmt: skip
STREAMS = {"GET /api/events", "GET /api/live"}


def test_security_s05_every_route_stands_in_the_matrix_with_its_role():
    there = {
        f"{method} {route.path}": needed(route)
        for router in ROUTERS
        for route in routes_of(router)
        for method in route.methods
    }

    assert there == {route: role for role, routes in MATRIX.items() for route in routes}


@pytest.mark.parametrize("who", [None, *Role])
async def test_security_s05_each_role_may_do_what_the_matrix_says_and_no_more(guarded: Dashboard, who: Role | None):
    http = guarded.http if who is None else guarded.as_(who)
    for role, routes in MATRIX.items():
        for route in sorted(routes - STREAMS):
            method, path = route.split(" ")
            for part in ("{queue}", "{id:path}", "{id}", "{name:path}", "{key:path}"):
                path = path.replace(part, "nobody")
            answer = await http.request(method, path, json={})
            if role == "open":
                assert answer.status_code not in ({403} if "login" in route else {401, 403}), route
            elif who is None:
                assert answer.status_code == 401, route
                assert answer.headers["www-authenticate"] == "Bearer"
            elif who.allows(Role(role)):
                assert answer.status_code not in {401, 403}, route
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), route


async def test_security_s05_without_credentials_only_this_machine_is_answered(board: Dashboard):
    async def status(**options: object) -> int:
        async with client(board.app, **options) as http:
            return (await http.get("/api/overview")).status_code

    assert await status() == 200
    assert await status(near=("10.0.0.7", 5000)) == 403
    assert await status(headers={"X-Forwarded-For": "203.0.113.9"}) == 403
    assert await status(base_url="http://jobs.example.org") == 403  # DNS rebinding: our address under a strange name


async def test_security_s05_the_command_refuses_to_listen_to_others_without_credentials(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from muskox.cli import main

    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(main, ["dashboard", "--url", "sqlite:///x.db", "--host", "0.0.0.0", "--port", "0"])

    assert refused.exit_code == 2
    assert "nobody has been given access" in refused.output


async def test_security_s05_bulk_removing_and_secrets_need_an_admin(guarded: Dashboard):
    job = await guarded.ox.queue("email").add("welcome", {"password": "hunter2hunter2"})
    async with guarded.as_(Role.OPERATE) as http:
        removing = await http.post("/api/queues/email/bulk", json={"verb": "remove", "state": "waiting"})
        seeing = await http.get(f"/api/queues/email/jobs/{job.id}?reveal=true")
    async with guarded.as_(Role.ADMIN) as http:
        seen = await http.get(f"/api/queues/email/jobs/{job.id}?reveal=true")

    assert (removing.status_code, seeing.status_code) == (403, 403)
    assert seen.json()["data"] == {"password": "hunter2hunter2"}


async def test_read_only_makes_everybody_a_viewer(program: Muskox):
    async with dashboard_on(program, access=ACCESS, read_only=True) as board, board.as_(Role.ADMIN) as http:
        assert (await http.get("/api/overview")).status_code == 200
        refused = await http.post("/api/queues/email/pause")

    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert "read-only" in refused.json()["detail"]


# --- browsers ----------------------------------------------------------------------------


async def sign_in(http, name="ada-operate", password=PASSWORD):
    return await http.post("/api/login", json={"name": name, "password": password})


async def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(guarded: Dashboard):
    answer = await sign_in(guarded.http)

    assert answer.json()["role"] == "operate"
    cookie = answer.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "max-age=43200"))
    assert (await guarded.http.get("/api/overview")).status_code == 200
    assert (await guarded.http.post("/api/logout")).status_code == 204
    assert (await guarded.http.get("/api/overview")).status_code == 401


async def test_security_s07_a_change_by_a_browser_needs_our_header_and_no_other_site(guarded: Dashboard):
    await sign_in(guarded.http)
    ours = {"Muskox-Request": "1"}

    async def pause(**headers: str) -> tuple[int, str]:
        answer = await guarded.http.post("/api/queues/email/pause", headers=headers)
        return answer.status_code, answer.json().get("code", "")

    assert await pause() == (403, "csrf")
    assert await pause(**ours, Origin="https://evil.example") == (403, "cross_origin")
    assert await pause(**ours, **{"Sec-Fetch-Site": "cross-site"}) == (403, "cross_origin")
    assert (await pause(**ours, Origin=BASE))[0] == 200


async def test_a_forged_or_old_session_is_nobody(program: Muskox):
    world = FakeWorld()
    ox = Muskox("sqlite://:memory:", world=world)
    async with dashboard_on(ox, access=ACCESS, secret=b"s" * 32) as board:
        good = (await sign_in(board.http)).cookies["muskox_session"]
        body, _, seal = good.partition(".")
        for cookie in ("", "x", "a.b", f"{body}.{seal[:-8]}AAAAAAA=", "é.é", f"{body}x.{seal}"):
            async with client(board.app, headers={"Cookie": f"muskox_session={cookie}".encode()}) as http:
                assert (await http.get("/api/overview")).status_code == 401, cookie
        other = Access(
            users=tuple(User(u.name, hash_password("another one", salt=b"s" * 16), u.role) for u in ACCESS.users)
        )
        async with client(create_app(ox, access=other, secret=b"s" * 32), cookies={"muskox_session": good}) as http:
            assert (await http.get("/api/overview")).status_code == 401
        world.advance(12 * 3600 + 1)
        assert (await board.http.get("/api/overview")).status_code == 401


async def test_security_s05_guessing_passwords_is_slowed_down_and_ends(monkeypatch):
    ox = Muskox("sqlite://:memory:", world=(world := FakeWorld()))
    monkeypatch.setattr("muskox.web.routes.session.fits", lambda password, _: password == PASSWORD)
    async with dashboard_on(ox, access=ACCESS) as board:
        tried = [(await sign_in(board.http, password="wrong")).status_code for _ in range(6)]
        blocked = await sign_in(board.http)
        assert tried == [401] * 5 + [429]
        assert (blocked.status_code, blocked.headers["retry-after"]) == (429, "1")
        assert (await sign_in(board.http, name="ada-admin")).status_code == 200
        world.advance(2)
        assert (await sign_in(board.http)).status_code == 200
        # Names are guessed too: the address is slowed down as well.
        many = [(await sign_in(board.http, name=f"n{n}")).status_code for n in range(30)]
        assert 429 in many


async def test_security_s45_a_token_expires_and_only_its_digest_is_known():
    ox = Muskox("sqlite://:memory:", world=(world := FakeWorld()))
    from datetime import UTC, datetime, timedelta

    until = datetime.fromtimestamp(world.now(), UTC) + timedelta(days=1)
    access = Access(tokens=(Token("ci", digest_of("mx_x"), Role.VIEW, until),))
    async with dashboard_on(ox, access=access) as board:
        board.http.headers["Authorization"] = "Bearer mx_x"
        assert (await board.http.get("/api/overview")).status_code == 200
        assert (await board.http.get("/api/overview", headers={"Authorization": "Bearer mx_y"})).status_code == 401
        world.advance(86_401)
        assert (await board.http.get("/api/overview")).status_code == 401
    assert "mx_x" not in repr(access)


async def test_a_host_says_who_asks(program: Muskox):
    def authorize(request):
        name = request.headers.get("x-user")
        return Principal(name, Role.OPERATE, "host") if name else None

    async with dashboard_on(program, access=Access(authorize=authorize)) as board:
        assert (await board.http.get("/api/overview")).status_code == 401
        board.http.headers["x-user"] = "grace"
        assert (await board.http.get("/api/session")).json()["name"] == "grace"
        assert (await board.http.post("/api/queues/email/pause")).json()["code"] == "csrf"


# --- files --------------------------------------------------------------------------------


def test_access_is_read_from_the_lines_that_the_command_makes(tmp_path: Path):
    from click.testing import CliRunner

    from muskox.cli import main

    runner = CliRunner()
    file = tmp_path / "access.toml"
    user = ["access", "user", "ada", "--role", "admin", "--file", str(file)]
    runner.invoke(main, user, input=f"{PASSWORD}\n{PASSWORD}\n")
    token = runner.invoke(main, ["access", "token", "ci", "--days", "3", "--file", str(file)])
    assert file.stat().st_mode & 0o777 == 0o600

    access = read_access(file)

    assert [(one.name, one.role) for one in access.users] == [("ada", Role.ADMIN)]
    said = token.stderr.strip()
    assert said not in file.read_text()
    found = access.of_token(said, 0)
    assert found is not None
    assert (found.name, found.role) == ("ci", Role.VIEW)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[users", "no TOML"),
        ("[people.ada]\n", "'people'"),
        ("[users.ada]\npassword = 'plain'\n", "not hashed"),
        (f"[users.ada]\npassword = '{HASHED}'\nrole = 'king'\n", "king"),
        ("[tokens.ci]\nsha256 = 'x'\n", "64 hexadecimal"),
        ("[users]\nada = 1\n", "ada"),
    ],
)
def test_a_wrong_access_file_is_refused_with_the_reason(tmp_path: Path, text: str, why: str):
    file = tmp_path / "access.toml"
    file.write_text(text)

    with pytest.raises(OptionError, match=why):
        read_access(file)


# --- the record of changes ------------------------------------------------------------------


async def test_security_s52_each_change_is_recorded_who_when_what(program: Muskox, tmp_path: Path):
    file = tmp_path / "audit.jsonl"
    async with dashboard_on(program, access=ACCESS, audit=file) as board:
        async with board.as_(Role.OPERATE) as http:
            added = (await http.post("/api/queues/email/jobs", json={"name": "welcome", "data": {"to": "x"}})).json()
            await http.post("/api/queues/email/jobs/nobody/retry")
        async with board.as_(Role.ADMIN) as http:
            await http.delete(f"/api/queues/email/jobs/{added['id']}")
            told = (await http.get("/api/audit")).json()

    assert [(one["who"], one["verb"], one["queue"], one["outcome"]) for one in told] == [
        ("ci-admin", "remove", "email", "done"),
        ("ci-operate", "retry", "email", "JobNotFound"),
        ("ci-operate", "add", "email", "done"),
    ]
    assert told[0]["job"] == added["id"]
    assert told[0]["address"] == "127.0.0.1"
    assert [json.loads(line)["verb"] for line in file.read_text().splitlines()] == ["add", "retry", "remove"]
    assert file.stat().st_mode & 0o777 == 0o600


async def test_fault_e4_two_who_retry_the_same_jobs_run_each_once_and_are_both_recorded(guarded: Dashboard):
    import asyncio

    from muskox.testing import run_jobs

    queue = guarded.ox.queue("email")
    await queue.add_many([("welcome", {"fail": True})] * 200)
    await run_jobs(guarded.ox)
    body = {"verb": "retry", "state": "failed"}
    async with guarded.as_(Role.OPERATE) as one, guarded.as_(Role.ADMIN) as other:
        answers = await asyncio.gather(*(http.post("/api/queues/email/bulk", json=body) for http in (one, other)))
        deeds = (await other.get("/api/audit")).json()

    assert sum(answer.json()["operation"]["done"] for answer in answers) == 200
    assert (await queue.counts()).waiting == 200
    assert {deed["who"] for deed in deeds} == {"ci-operate", "ci-admin"}
    assert set(TOKENS) == set(Role)


async def test_security_s47_a_line_of_the_record_is_one_line_whatever_was_given(program: Muskox, tmp_path, caplog):
    file = tmp_path / "audit.jsonl"
    texts = ["a\r\nGET /", "\x1b[2J\x1b]0;owned\x07", "\x9b2J", "\u2028\u202e", "x" * 5000, '","who":"root']
    caplog.set_level("INFO", logger="muskox.web.audit")
    async with dashboard_on(program, audit=file) as board:
        for text in texts:
            rule = {"name": text, "queue": "email", "job": "welcome", "every": 60}
            assert (await board.http.post("/api/schedules", json=rule)).status_code == 422
        told = (await board.http.get("/api/audit")).json()

    lines = file.read_text().splitlines()
    assert len(lines) == len(texts)
    assert all(line.isascii() and line.isprintable() and len(line) < 1000 for line in [*lines, *caplog.messages])
    assert [deed["schedule"] for deed in told[::-1]] == [text[:300] for text in texts]
    assert {deed["who"] for deed in told} == {"local"}
