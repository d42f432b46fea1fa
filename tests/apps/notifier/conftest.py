"""The notifier as a whole: in this process over ASGI, and as a program of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from muskox import World
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.compose import Sender
from muskox.apps.notifier.app import create_app
from muskox.apps.notifier.services import Services
from muskox.apps.notifier.settings import Settings
from tests.servers import postgres, valkey

ADA = {"email": "ada@example.org", "name": "Ada", "password": "correct horse"}
BASE = "http://127.0.0.1:8000"
FINAL = {"sent", "delivered", "bounced", "failed", "suppressed", "cancelled"}


@dataclass
class Notifier:
    """The application and a client of it."""

    services: Services
    http: httpx.AsyncClient

    async def register(self, **changes: str) -> dict[str, Any]:
        answer = await self.http.post("/users", json={**ADA, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def until(
        self, id: str, condition: Callable[[dict[str, Any]], bool], seconds: float = 20.0
    ) -> dict[str, Any]:
        """Wait until a message is as it should be, as the interface tells of it."""
        with self.services.bell.listen(id) as ear:
            async with asyncio.timeout(seconds):
                while True:
                    message = (await self.http.get(f"/messages/{id}")).json()
                    if condition(message):
                        return message
                    await ear.wait(0.2)

    async def ended(self, id: str) -> dict[str, Any]:
        return await self.until(id, lambda message: message["state"] in FINAL)

    async def wait(self, **query: str) -> dict[str, Any]:
        answer = await self.http.get("/dev/inbox/wait", params={"timeout": "15", **query}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def mail(self, **query: str) -> dict[str, Any]:
        summary = await self.wait(**query)
        return (await self.http.get(f"/dev/inbox/messages/{summary['id']}")).json()

    async def subscribe(self, email: str, name: str = "", on: str = "newsletter") -> None:
        """Ask to be on a list and use the link in the mail."""
        asked = await self.http.post(f"/lists/{on}/subscriptions", json={"email": email, "name": name})
        assert asked.status_code == 202, asked.text
        mail = await self.mail(to=email, subject="Confirm")
        found = re.search(r"/lists/confirm\?token=[\w=-]+", mail["text"])
        assert found is not None
        assert (await self.http.post(found[0])).status_code == 200

    async def campaign_ended(self, id: str, seconds: float = 20.0) -> dict[str, Any]:
        with self.services.bell.listen("inbox") as ear:
            async with asyncio.timeout(seconds):
                while True:
                    found = (await self.http.get(f"/campaigns/{id}")).json()
                    if found["state"] in {"finished", "cancelled"}:
                        return found
                    await ear.wait(0.2)

    async def reset_token(self, email: str = "ada@example.org", after: str = "") -> str:
        """Ask for a reset and read the token out of the mail."""
        assert (await self.http.post("/auth/password-reset", json={"email": email})).status_code == 202
        mail = await self.mail(to=email, subject="new password", after=after)
        return token_in(mail["text"])


def token_in(text: str) -> str:
    found = re.search(r"/auth/reset\?token=([\w=-]+)", text)
    assert found is not None, text
    return found[1]


def settings_for(folder: Path, **changes: Any) -> Settings:
    values = {
        "url": sqlite_in(folder),
        "public_url": BASE,
        "sender": Sender(parse_address("no-reply@example.org"), "Muskox"),
        **changes,
    }
    return Settings(**values)


@asynccontextmanager
async def notifier_at(folder: Path, *, world: World | None = None, **changes: Any) -> AsyncIterator[Notifier]:
    """Run the application in this process."""
    alert = {"alert": changes.pop("alert")} if "alert" in changes else {}
    app = create_app(settings_for(folder, **changes), world=world, **alert)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            yield Notifier(app.state.services, http)


@contextmanager
def url_of(store: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store of a kind, for one test."""
    match store:
        case "postgres":
            with postgres.database(postgres.shared_url()) as url:
                yield url
        case "redis":
            yield f"{valkey.shared_server().url}?prefix={valkey.fresh_prefix()}"
        case _:
            yield sqlite_in(folder)


def sqlite_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'muskox.db'}"


@pytest.fixture(params=["sqlite", "postgres", "redis"])
async def notifier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Notifier]:
    database = sqlite_in(tmp_path) if request.param == "redis" else ""
    with url_of(request.param, tmp_path) as url:
        async with notifier_at(tmp_path, url=url, database=database, secret="a secret of the tests") as running:
            yield running


@dataclass
class Program:
    """The notifier as a process of its own."""

    process: asyncio.subprocess.Process
    base: str
    said: list[str]

    async def stop(self, sig: int = signal.SIGINT, seconds: float = 20.0) -> int:
        self.process.send_signal(sig)
        async with asyncio.timeout(seconds):
            rest, _ = await self.process.communicate()
        self.said.append(rest.decode())
        return self.process.returncode or 0


@asynccontextmanager
async def program(folder: Path, *arguments: str, **environment: str) -> AsyncIterator[Program]:
    """Start `python -m muskox.apps.notifier` in `folder` and wait until it says where it is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "muskox.apps.notifier",
        *(arguments or ("--port", "0")),
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(60):
            while not said or "Ctrl-C" not in said[-1]:
                line = await process.stdout.readline()
                assert line, f"it ended with {await process.wait()}: {''.join(said)}"
                said.append(line.decode())
        found = re.search(r"page\s+(\S+)/\n", "".join(said))
        assert found is not None
        yield Program(process, found[1], said)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
