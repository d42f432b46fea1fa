"""A dashboard on a real port and what asks it: single calls, and pages that stay open. By the public API alone."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from muskox import Muskox
from muskox.web import create_app

__all__ = ["ask", "watch"]

_WARM = 5


class _Server(uvicorn.Server):
    def __init__(self, ox: Muskox) -> None:
        self.app = create_app(ox)
        super().__init__(uvicorn.Config(self.app, log_config=None, access_log=False))
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def _served(ox: Muskox) -> AsyncIterator[str]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = _Server(ox)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.app.state.desk.let_go()
        server.should_exit = True
        await serving


async def ask(url: str, samples: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each call that a page makes, over HTTP: half of the times and nineteen of twenty."""
    found: dict[str, dict[str, float]] = {}
    async with Muskox(url) as ox, _served(ox) as base, httpx.AsyncClient(base_url=base, timeout=60) as http:
        page = (await http.get("/api/queues/bench/jobs", params={"limit": 50})).json()
        job = page["jobs"][0]["id"]
        calls = {
            "counts": "/api/queues",
            "counts of a queue": "/api/queues/bench",
            "list": "/api/queues/bench/jobs?limit=50",
            "list by state": "/api/queues/bench/jobs?limit=50&state=waiting",
            "list by name": "/api/queues/bench/jobs?limit=50&name=noop",
            "list, next page": f"/api/queues/bench/jobs?limit=50&after={page['cursor']}",
            "find by id": f"/api/search?id={job}",
            "workers": "/api/workers",
            "overview": "/api/overview",
            "job": f"/api/queues/bench/jobs/{job}",
        }
        for name, path in calls.items():
            took = []
            for turn in range(_WARM + samples):
                begun = time.perf_counter()
                (await http.get(path)).raise_for_status()
                if turn >= _WARM:
                    took.append((time.perf_counter() - begun) * 1000)
            took.sort()
            found[name] = {"median": statistics.median(took), "p95": took[len(took) * 95 // 100]}
    return found


async def watch(url: str, watchers: int, seconds: float) -> dict[str, int]:
    """Keep so many pages open, each with both of its streams, and count what they are told."""
    paths = ["/api/live", "/api/events?queue=bench"] * watchers
    told, opened = 0, 0
    limits = httpx.Limits(max_connections=None)
    async with (
        Muskox(url) as ox, _served(ox) as base,
        httpx.AsyncClient(base_url=base, timeout=None, limits=limits) as http,
    ):  # fmt: skip

        async def follow(path: str) -> None:
            nonlocal told, opened
            async with http.stream("GET", path) as stream:
                opened += 1
                if opened == len(paths):
                    print("watching", flush=True)  # whoever has started us may begin
                async for line in stream.aiter_lines():
                    told += line.startswith("event:")

        await asyncio.wait([asyncio.create_task(follow(path)) for path in paths], timeout=seconds)
    return {"told": told}
