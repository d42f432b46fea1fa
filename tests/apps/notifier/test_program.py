"""`python -m muskox.apps.notifier` as a process: what it says, how it stops, what a restart finds."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

import httpx
import pytest

from tests.apps.notifier.conftest import ADA, program
from tests.apps.sink import sink

pytestmark = pytest.mark.slow


async def test_mission_c09_one_command_shows_a_mail(tmp_path):
    async with program(tmp_path) as running, httpx.AsyncClient(base_url=running.base, timeout=30) as http:
        said = "".join(running.said)
        for place in ("/", "/dev/inbox", "/docs", "/health/queue"):
            assert f"{running.base}{place}\n" in said
            assert (await http.get(place)).status_code == 200

        assert (await http.post("/users", json=ADA)).status_code == 201
        mail = await http.get("/dev/inbox/wait", params={"to": ADA["email"], "timeout": "10"})
        assert mail.json()["subject"] == "Welcome to Muskox, Ada"
        assert await running.stop() == 0


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_it_cleanly(tmp_path, sig):
    async with program(tmp_path) as running:
        assert await running.stop(sig) == 0
        assert "Traceback" not in "".join(running.said)


async def test_jobs_that_were_queued_are_done_after_a_restart(tmp_path):
    async with program(tmp_path, WORKER="0") as first:
        async with httpx.AsyncClient(base_url=first.base, timeout=30) as http:
            id = (await http.post("/users", json=ADA)).json()["welcome_message_id"]
            assert (await http.get(f"/messages/{id}")).json()["state"] == "queued"
        assert await first.stop() == 0

    async with program(tmp_path) as second, httpx.AsyncClient(base_url=second.base, timeout=30) as http:
        mail = await http.get("/dev/inbox/wait", params={"to": ADA["email"], "timeout": "15"})
        assert mail.json()["message_id"] == id


async def test_a_killed_service_sends_what_it_had_accepted(tmp_path):
    async with sink() as server:
        relay = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(server.port),
            "SMTP_TLS": "none",
            "SMTP_FROM": "a@example.org",
            "LEASE": "2",
        }
        server.answers(MAIL="silence")
        async with program(tmp_path, **relay) as first:
            async with httpx.AsyncClient(base_url=first.base, timeout=30) as http:
                id = (await http.post("/users", json=ADA)).json()["welcome_message_id"]
            await server.until(lambda: any(line.startswith("MAIL") for line in server.commands))
            first.process.kill()
            await first.process.communicate()

        server.script = lambda _step, _connection: None
        async with program(tmp_path, **relay) as second, httpx.AsyncClient(base_url=second.base, timeout=60) as http:
            await server.until(lambda: bool(server.mails), seconds=60)
            path = f"/messages/{id}/events"
            heard = ""
            async with http.stream("GET", path, headers={"accept": "text/event-stream"}) as stream:
                async for line in stream.aiter_lines():
                    heard += line
            assert "event: end" in heard
            assert len(server.mails) == 1


async def test_a_port_that_is_taken_is_told_with_a_remedy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = await failing(tmp_path, "--port", str(port))

    assert code == 1
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert f"--port {port + 1}" in said
    assert "Traceback" not in said


async def test_security_s05_an_open_inbox_is_not_shown_to_the_network(tmp_path):
    code, said = await failing(tmp_path, "--host", "0.0.0.0", "--port", "0")

    assert code == 1
    assert "INBOX=open" in said


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis://127.0.0.1:1", "the Redis server at 127.0.0.1:1"),
        ("sqlite:///none/muskox.db", "SECRET"),
        ("sqlite:///text.db", "not a SQLite database"),
        ("sqlite:///muskox.db?speed=high", "speed"),
    ],
)
async def test_a_database_that_cannot_be_used_stops_the_start_with_one_line(tmp_path, url, word):
    (tmp_path / "text.db").write_text("this is a text and no database " * 20)

    code, said = await failing(tmp_path, "--port", "0", MUSKOX_URL=url)

    assert code == 1
    assert word in said
    assert "Traceback" not in said


async def test_answers_do_not_wait_for_acknowledgements(tmp_path):
    async with program(tmp_path) as running, httpx.AsyncClient(base_url=running.base, timeout=30) as http:
        quickest = min([(await http.get("/static/form.js")).elapsed.total_seconds() for _ in range(20)])

    assert quickest < 0.035


async def failing(folder, *arguments: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "muskox.apps.notifier", *arguments,
        cwd=folder, env={**environment_of(), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def environment_of() -> dict[str, str]:
    import os

    return dict(os.environ)


async def test_a_second_signal_gives_running_jobs_back_at_once(tmp_path):
    async with sink() as server:
        relay = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.port), "SMTP_TLS": "none", "SMTP_FROM": "a@b.org"}
        server.answers(DATA="silence")
        async with program(tmp_path, **relay) as first:
            async with httpx.AsyncClient(base_url=first.base, timeout=30) as http:
                assert (await http.post("/users", json=ADA)).status_code == 201
            await server.until(lambda: "DATA" in server.commands)
            first.process.send_signal(signal.SIGINT)
            assert first.process.stdout is not None
            async with asyncio.timeout(10):
                while b"Stopping" not in await first.process.stdout.readline():
                    pass
            assert await first.stop(seconds=10) == 0

        server.script = lambda _step, _connection: None
        async with program(tmp_path, **relay):
            # Given back and not merely left: no lease has to run out first.
            await server.until(lambda: bool(server.mails), seconds=15)
            assert len(server.mails) == 1


async def test_it_stops_well_when_its_terminal_is_gone(tmp_path):
    async with program(tmp_path) as running:
        running.process._transport.get_pipe_transport(1).close()

        running.process.send_signal(signal.SIGTERM)

        async with asyncio.timeout(20):
            assert await running.process.wait() == 0
