"""The examples of other frameworks: each is served over HTTP, takes a job, and has it run and shown."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn

from muskox import Muskox

EXAMPLES = Path(__file__).parents[2] / "examples"
SRC = Path(__file__).parents[2] / "src"

pytestmark = pytest.mark.slow


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import an example in an empty folder, with its own on the path; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def load(name: str, folder: str = "") -> ModuleType:
        monkeypatch.syspath_prepend(str(EXAMPLES / folder))
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """An ASGI application behind a real server in a thread, and a client that speaks to it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    began = threading.Event()
    startup = server.startup

    async def told(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        began.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert began.wait(30)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def working(folder: Path, *command: str, **environment: str) -> Iterator[None]:
    """A worker as a process of its own, which must stop well."""
    path = os.pathsep.join([str(SRC), str(folder)])
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, "PYTHONPATH": path, **environment})
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def result(ox: Muskox, queue: str, id: str) -> Any:
    """Wait in blocking code until the job is completed."""
    return ox.queue(queue).sync.result(id, timeout=60)


@pytest.mark.parametrize("name", ["fastapi_site", "litestar_site"])
def test_an_asgi_service_has_worker_and_dashboard_inside(example: Any, name: str) -> None:
    pytest.importorskip(name.partition("_")[0])
    headers = {"x-user": "ada"}

    with served(example(name).app) as http:
        ordered = http.post("/reports", params={"month": 11})
        assert ordered.status_code in {201, 202}
        path = f"/jobs/api/queues/reports/jobs/{ordered.json()['id']}"
        events = "/jobs/api/events?kind=completed"
        with http.stream("GET", events, headers={**headers, "Last-Event-ID": "0"}) as stream:
            assert any("completed" in line for line in stream.iter_lines())
        job = http.get(path, headers=headers).json()
        assert (job["state"], job["result"]) == ("completed", {"month": 11, "pages": 12})
        assert "<title>Muskox" in http.get("/jobs/", headers=headers).text
        assert http.get("/jobs/static/app.js").status_code == 200
        if name == "fastapi_site":  # its own way to know who asks holds for the mounted page
            assert http.get("/jobs/api/overview").status_code == 401


def test_flask_runs_jobs_in_its_context_and_shows_the_dashboard(example: Any, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    serving = pytest.importorskip("werkzeug.serving")
    site = example("flask_site")
    server = serving.make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
            added = http.post("/users", data={"address": "ada@example.org"})
            assert added.status_code == 202
            id = added.json()["id"]
            with working(EXAMPLES, "-m", "flask", "--app", "flask_site", "muskox", "worker"):
                said = result(site.ox, "email", id)
            assert said == "shop@example.org welcomes ada@example.org"
            shown = http.get(f"/jobs/api/queues/email/jobs/{id}").json()
            assert (shown["state"], shown["log"][0]["text"]) == ("completed", "writing to ada@example.org")
            assert "<title>Muskox" in http.get("/jobs/").text
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        site.ox.sync.close()


def test_flask_jobs_need_their_application(example: Any) -> None:
    flask_jobs = pytest.importorskip("muskox.contrib.flask")
    jobs = flask_jobs.Jobs(Muskox("sqlite://:memory:"))

    with pytest.raises(Exception, match="init_app"):
        jobs.in_context(lambda: None)()
