"""`muskox dashboard` as a process: it says where it is, serves, and stops though somebody watches."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

import httpx
import pytest

pytestmark = pytest.mark.slow


async def test_the_command_serves_and_stops_on_a_signal_though_somebody_watches(tmp_path):
    (tmp_path / "jobs.py").write_text(
        "from muskox import Muskox\nox = Muskox('sqlite:///jobs.db')\nox.queue('email')\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "muskox", "dashboard", "jobs:ox", "--port", "0", "--audit", "audit.jsonl",
        cwd=tmp_path, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            assert process.stdout is not None
            said = ""
            while "Ctrl-C" not in said:
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
            found = re.search(r"dashboard\s+(\S+)/\n", said)
            assert found is not None
            async with httpx.AsyncClient(base_url=found[1]) as http:
                assert "<title>Muskox" in (await http.get("/")).text
                assert (await http.post("/api/queues/email/pause")).status_code == 200
                async with http.stream("GET", "/api/live") as live:
                    async for line in live.aiter_lines():
                        if line.startswith("event: overview"):
                            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert '"verb":"pause"' in (tmp_path / "audit.jsonl").read_text()


async def test_a_taken_port_and_a_wrong_access_file_are_said_in_one_line(tmp_path):
    async def run(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "muskox", "dashboard", "--url", "sqlite:///jobs.db", *arguments,
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server, asyncio.timeout(60):
        port = server.sockets[0].getsockname()[1]
        taken, missing = await asyncio.gather(run("--port", str(port)), run("--access", "nowhere.toml"))

    assert taken[0] == 1
    assert "is taken" in taken[1]
    assert missing[0] == 2
    assert "cannot be read" in missing[1]
