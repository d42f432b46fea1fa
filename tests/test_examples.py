"""The examples and the program in the README run as they stand, in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}


def run(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, env=ENVIRONMENT, check=True, timeout=60, capture_output=True, text=True
    )
    return done.stdout


def muskox(folder: Path, *args: str) -> Any:
    return json.loads(run(folder, "-m", "muskox", *args, "--json").splitlines()[0])


def work_until(folder: Path, program: str, kind: str) -> None:
    """Run a worker until there is an event of that kind; it must stop as it is asked."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "muskox", "worker", program], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE
    )
    follower = subprocess.Popen(
        [sys.executable, "-m", "muskox", "events", program, "--follow", "--last", "100", "--kind", kind],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        assert kind in follower.stdout.readline()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        for process in (worker, follower):
            process.kill()
            process.communicate()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import an example in an empty folder."""
    monkeypatch.chdir(tmp_path)
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        sys.modules.pop(name).ox.sync.close()


@pytest.mark.slow
def test_the_program_in_the_readme_works_as_pasted(tmp_path: Path) -> None:
    source = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert source is not None
    (tmp_path / "jobs.py").write_text(source[1])

    id = run(tmp_path, "jobs.py").strip()
    work_until(tmp_path, "jobs:ox", "completed")

    assert muskox(tmp_path, "jobs", "show", "email", id)["result"] == "Welcome, ada@example.org!"
    assert len([line for line in source[1].splitlines() if line.strip() and not line.startswith("#")]) <= 10


@pytest.mark.slow
def test_the_script_prints_its_results(tmp_path: Path) -> None:
    said = run(tmp_path, str(EXAMPLES / "script.py"))

    assert "3 squared is 9" in said
    assert said.endswith("5 jobs are completed\n")


def test_the_fastapi_service_answers_at_once_and_a_worker_does_the_work(example: Any) -> None:
    pytest.importorskip("httpx")
    client = pytest.importorskip("fastapi.testclient")
    service = example("fastapi_producer")

    with client.TestClient(service.app) as web:
        ordered = web.post("/reports", params={"month": 11})
        assert ordered.status_code == 202
        assert web.get(f"/reports/{ordered.json()['id']}").json()["state"] == "waiting"
        assert web.get("/reports/nothing").status_code == 404


@pytest.mark.slow
def test_the_blocking_service_stores_user_and_job_together(example: Any, tmp_path: Path) -> None:
    service = example("flask_like")
    service.ox.sync.migrate()

    answers = [post(service.app, f"address={who}") for who in ("ada@example.org", "ada@example.org", "")]

    assert [status for status, _ in answers] == ["202 Accepted", "409 Conflict", "400 Bad Request"]
    assert service.emails.sync.counts().total == 1
    (tmp_path / "flask_like.py").write_text((EXAMPLES / "flask_like.py").read_text())
    work_until(tmp_path, "flask_like:ox", "completed")
    assert service.emails.sync.get(answers[0][1].strip()).result == "Welcome, ada@example.org!"


def post(app: Any, form: str) -> tuple[str, str]:
    said: list[str] = []
    environ = {"CONTENT_LENGTH": str(len(form)), "wsgi.input": BytesIO(form.encode())}
    body = b"".join(app(environ, lambda status, _: said.append(status)))
    return said[0], body.decode()
