"""Flows and batches from a terminal: listed, shown, cancelled, retried, closed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from muskox import Flow, Muskox
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def flow(tmp_path: Path) -> None:
    """A flow of two jobs, and a batch of one that is open."""

    async def work() -> None:
        async with Muskox(f"sqlite:///{tmp_path}/muskox.db") as ox:
            files = ox.queue("files")
            flow = Flow("order-17")
            flow.add(files, "pack", after=flow.add(files, "resize"))
            await ox.flows.add(flow)
            batch = ox.batch("news")
            await batch.add(files.new("mail"))

    asyncio.run(work())


def test_flows_are_listed_latest_first(run: Run) -> None:
    shown = run("flows", "list")
    found = json.loads(run("flows", "list", "--json", "--unended").stdout)

    assert [(one["id"], one["kind"], one["state"], one["total"]) for one in found] == [
        ("news", "batch", "open", 1), ("order-17", "flow", "running", 2),
    ]  # fmt: skip
    assert "order-17" in shown.stdout
    assert "… and more" in run("flows", "list", "--limit", "1").stderr


def test_a_flow_is_shown_with_its_jobs(run: Run) -> None:
    said = run("flows", "show", "order-17").stdout
    found = json.loads(run("flows", "show", "order-17", "--state", "blocked", "--json").stdout)

    assert said.startswith("flow order-17 is running: 0 of 2 jobs have ended, 0 completed, 0 failed, 0 cancelled\n")
    assert "order-17/2" in said
    assert [job["id"] for job in found["jobs"]] == ["order-17/2"]


def test_a_flow_is_cancelled_and_retried(run: Run) -> None:
    assert run("flows", "cancel", "order-17").stdout == "2 jobs of order-17 are cancelled\n"
    assert run("flows", "retry", "order-17").stdout == "2 jobs of order-17 will run again\n"


def test_a_batch_is_closed_by_hand(run: Run) -> None:
    assert run("flows", "close", "news").stdout == "batch news is running\n"


@pytest.mark.parametrize("command", ["show", "cancel", "retry", "close"])
def test_a_flow_that_is_not_there_is_said_so(run: Run, command: str) -> None:
    result = run("flows", command, "nobody")

    assert result.exit_code == 1
    assert "there is no flow or batch 'nobody'" in result.stderr


def test_an_empty_store_has_no_flow(run: Run) -> None:
    assert run("flows", "list", "--url", "sqlite://:memory:").stdout == "sqlite://:memory: has no flow\n"
