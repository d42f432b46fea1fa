"""A dashboard over ASGI, on a store of its own, with somebody for each role."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from muskox import Muskox
from muskox.web import Access, Role, Token, User, create_app, digest_of, hash_password
from tests.apps.notifier.conftest import url_of

PASSWORD = "correct horse battery"
HASHED = hash_password(PASSWORD, salt=b"salt of the test")
TOKENS = {role: f"mx_token-of-{role}" for role in Role}
ACCESS = Access(
    users=tuple(User(f"ada-{role}", HASHED, role) for role in Role),
    tokens=tuple(Token(f"ci-{role}", digest_of(token), role) for role, token in TOKENS.items()),
)
BASE = "http://127.0.0.1:8321"


@dataclass
class Dashboard:
    """An application, the program behind it, and a client that has no name yet."""

    ox: Muskox
    app: FastAPI
    http: httpx.AsyncClient

    def as_(self, role: Role) -> httpx.AsyncClient:
        return client(self.app, headers={"Authorization": f"Bearer {TOKENS[role]}"})


def client(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    near = options.pop("near", ("127.0.0.1", 5000))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=near)
    return httpx.AsyncClient(transport=transport, base_url=options.pop("base_url", BASE), **options)


@asynccontextmanager
async def dashboard_on(ox: Muskox, **options: Any) -> AsyncIterator[Dashboard]:
    app = create_app(ox, **options)
    async with app.router.lifespan_context(app), client(app) as http:
        yield Dashboard(ox, app, http)


class _Server(uvicorn.Server):
    """A server in the loop of the test, which leaves signals alone and says when it listens."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        self.listening = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application on a port of this machine, for streams and browsers; gives its address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = _Server(app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        app.state.desk.let_go()
        server.should_exit = True
        await serving


@pytest.fixture
def program(tmp_path: Path) -> Muskox:
    """A program with two queues on a file of its own."""
    return program_at(f"sqlite:///{tmp_path / 'jobs.db'}")


def program_at(url: str) -> Muskox:
    ox = Muskox(url)

    @ox.queue("email").processor("welcome", attempts=1)
    async def welcome(to: str = "", fail: bool = False) -> dict[str, str]:
        if fail:
            raise RuntimeError(f"no answer from {to}")
        return {"sent": to}

    @ox.queue("files").processor("resize")
    async def resize() -> None: ...

    return ox


@pytest.fixture
async def board(program: Muskox) -> AsyncIterator[Dashboard]:
    """Open to this machine, without names."""
    async with dashboard_on(program) as running:
        yield running


@pytest.fixture
async def guarded(program: Muskox) -> AsyncIterator[Dashboard]:
    """With users and tokens."""
    async with dashboard_on(program, access=ACCESS) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres", "redis"])
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Dashboard]:
    """Open to this machine, on each store."""
    with url_of(request.param, tmp_path) as url:
        async with dashboard_on(program_at(url)) as running:
            yield running
