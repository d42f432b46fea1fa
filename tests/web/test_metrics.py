"""What Prometheus is given by the dashboard."""

from __future__ import annotations

from muskox.testing import run_jobs
from tests.runtime.helpers import until
from tests.web.conftest import Dashboard


async def test_metrics_are_given_in_prometheus_own_format(anywhere: Dashboard):
    await anywhere.ox.queue("email").add("welcome", {})
    await anywhere.ox.queue("email").add("welcome", {"fail": True})
    await run_jobs(anywhere.ox)
    metrics = anywhere.app.state.desk.metrics
    await until(lambda: len(metrics.tally.totals) == 3)

    answer = await anywhere.http.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'muskox_jobs_completed_total{name="welcome",queue="email"} 1.0' in lines
    assert 'muskox_jobs_failed_total{name="welcome",queue="email"} 1.0' in lines
    assert 'muskox_jobs{queue="email",state="failed"} 1.0' in lines
    assert 'muskox_run_seconds_bucket{le="+Inf",queue="email"} 2.0' in lines


async def test_without_their_library_the_dashboard_says_what_is_missing(board: Dashboard):
    board.app.state.desk.metrics = None

    answer = await board.http.get("/metrics")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_installed")
    assert "muskox[prometheus]" in answer.json()["detail"]
