"""A worker that is killed just before, and just after, each of its round trips to the store."""

from __future__ import annotations

import signal

import pytest

from muskox import Fixed, JobState
from tests.end_to_end.conftest import Yard
from tests.end_to_end.program import declare

VERBS = {"claim": 3, "settle": 3, "annotate": 2, "renew": 1, "promote": 1, "recover": 1, "beat": 2}
"""The round trips of a worker in this scenario, and how many of each are tried."""

GATES = [
    f"{verb}:{number}:{when}"
    for verb, most in VERBS.items()
    for number in range(1, most + 1)
    for when in ("before", "after")
]


@pytest.mark.parametrize("gate", GATES)
async def test_fault_w02_a_worker_killed_at_any_round_trip_loses_and_doubles_nothing(yard: Yard, gate: str) -> None:
    await yard.queue.add("quick", id="plain")
    await yard.queue.add("quick", {"fail": 1}, id="retried", attempts=2, backoff=Fixed(0.05))
    await yard.queue.add("quick", id="delayed", delay=0.1)
    await yard.queue.add("long", {"gate": str(yard.gate)}, id="long")
    victim = await yard.start_only(lease=0.6, shutdown_timeout=0.2, concurrency=2, gate=gate)
    if gate.startswith("beat:2"):
        # The second beat is the good-bye of a graceful stop.
        await yard.started("long")
        victim.send(signal.SIGTERM)
    elif not gate.startswith("renew"):
        yard.gate.touch()
    code = await victim.gone()
    yard.gate.touch()

    declare(yard.ox, str(yard.path))
    async with yard.ox.worker(["work"], lease=0.6):
        settled = {id: await yard.ended(id) for id in ("plain", "retried", "delayed", "long")}

    assert code == -signal.SIGKILL, victim.said()
    for id, job in settled.items():
        allowed = 2 if id == "retried" else 1
        starts = yard.facts("start", id)
        fences = [int(line[2]) for line in starts]
        assert job.state is JobState.COMPLETED
        assert job.attempt == allowed
        assert job.stalls <= 1
        # A run may be cut between its claim and its first line, so there may be fewer starts, never more.
        assert len(starts) <= job.attempt + job.stalls + job.releases
        assert fences == sorted(set(fences))
        assert await yard.endings(id) == ["completed"]
