"""What Prometheus is given by the dashboard."""

from __future__ import annotations

import subprocess
import sys

from muskox.testing import run_jobs
from tests.runtime.helpers import until
from tests.web.conftest import Dashboard


async def test_metrics_are_given_in_prometheus_own_format(anywhere: Dashboard):
    desk = anywhere.app.state.desk
    await until(lambda: desk.hub.counted_after is not None)
    await anywhere.ox.queue("email").add("welcome", {})
    await anywhere.ox.queue("email").add("welcome", {"fail": True})
    await run_jobs(anywhere.ox)
    await until(lambda: len(desk.metrics.tally.totals) == 3)

    answer = await anywhere.http.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'muskox_jobs_completed_total{name="welcome",queue="email"} 1.0' in lines
    assert 'muskox_jobs_failed_total{name="welcome",queue="email"} 1.0' in lines
    assert 'muskox_jobs{queue="email",state="failed"} 1.0' in lines
    assert 'muskox_run_seconds_bucket{le="+Inf",name="welcome",queue="email"} 2.0' in lines


async def test_without_their_library_the_dashboard_says_what_is_missing(board: Dashboard):
    board.app.state.desk.metrics = None

    answer = await board.http.get("/metrics")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_installed")
    assert "muskox[prometheus]" in answer.json()["detail"]


def test_the_dashboard_is_made_without_their_library():
    code = """
import sys
sys.modules["prometheus_client"] = None
from muskox import Muskox
from muskox.web import create_app
assert create_app(Muskox("sqlite://:memory:")).state.desk.metrics is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
