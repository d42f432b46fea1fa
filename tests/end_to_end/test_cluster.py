"""Two machines on one server, and one of them is cut off in the middle of its work.

Each is a worker process that reaches the server by an address of its own, through a proxy that can cut it off; whoever
looks on reaches the server directly.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from muskox import JobState
from muskox.runtime.world import RealWorld
from tests.end_to_end.conftest import MAIN, Yard, fenced
from tests.proxy import Proxy

SERVERS = {name: made for name, made in MAIN.items() if name != "sqlite"}
"""A file has no network."""

LEASE = 3.0


@pytest.fixture(params=SERVERS)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    async with SERVERS[request.param](tmp_path, RealWorld()) as (url, _), fenced(Yard(tmp_path, url)) as made:
        yield made


def way(url: str, proxy: Proxy) -> str:
    """The URL of the same store by the address of a proxy; its verbs are patient for a second."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    patience = "patience=1" if parts.scheme.startswith("postgres") else "timeout=1"
    query = f"{parts.query}&{patience}" if parts.query else patience
    return urlunsplit(parts._replace(netloc=f"{user}{at}{proxy.address}", query=query))


@pytest.fixture
def ways(yard: Yard) -> Iterator[tuple[Proxy, Proxy]]:
    """The ways of two machines to the server."""
    parts = urlsplit(yard.url)
    assert parts.hostname is not None
    assert parts.port is not None
    with (
        Proxy(parts.hostname, parts.port, here="127.0.0.2") as one,
        Proxy(parts.hostname, parts.port, here="127.0.0.3") as other,
    ):
        yield one, other


def cut_off(proxy: Proxy, how: str) -> None:
    if how == "refused":
        proxy.refuse()
        proxy.cut()
    else:
        proxy.black_hole()


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_fault_n07_a_machine_that_is_cut_off_loses_its_jobs_and_comes_back_by_itself(
    yard: Yard, ways: tuple[Proxy, Proxy], how: str
) -> None:
    cut, whole = ways
    lost = await yard.start(lease=LEASE, url=way(yard.url, cut))
    told = [await yard.queue.add("long", {"gate": str(yard.gate)}) for _ in range(2)]
    deaf = await yard.queue.add("deaf", {"gate": str(yard.gate)})
    for job in (*told, deaf):
        await yard.started(job)
    cut_off(cut, how)
    other = await yard.start(lease=LEASE, url=way(yard.url, whole))

    # Whoever is cut off stops its runs when their leases are over, and the other runs them again.
    for job in told:
        await yard.started(job, 2)
    await yard.until(lambda: all([str(lost.pid)] == _told_in(yard, job.id) for job in (*told, deaf)))
    settled = await yard.ended(deaf)
    yard.gate.touch()
    ends = [await yard.ended(job) for job in told]
    # The run that heard nothing ends while nobody can be told of it.
    await yard.until(lambda: len(yard.facts("end", deaf)) == 2)
    endings = await yard.all_endings()

    # Healed, it is refused with what it comes with, and works as before.
    cut.heal()
    other.send(signal.SIGTERM)
    assert await other.gone() == 0
    again = await yard.ended(await yard.queue.add("quick"))
    lost.send(signal.SIGTERM)
    code = await lost.gone()

    for job in (*told, deaf):
        starts = yard.facts("start", job)
        assert [line[3] for line in starts] == [str(lost.pid), str(other.pid)]
        assert int(starts[1][2]) > int(starts[0][2])
    assert [(job.state, job.result, job.stalls, job.attempt) for job in ends] == [
        (JobState.COMPLETED, "done", 1, 1)
    ] * 2
    assert (settled.state, settled.result, settled.stalls) == (JobState.COMPLETED, "after 1 stalls", 1)
    assert [await yard.get(job) for job in (*told, deaf)] == [*ends, settled]
    assert sorted(endings) == sorted(("completed", job.id) for job in (*told, deaf))
    assert [ending for ending in await yard.all_endings() if ending not in endings] == [("completed", again.id)]
    assert again.result == lost.pid
    assert "no longer ours" in lost.said()
    assert code == 0


def _told_in(yard: Yard, id: str) -> list[str]:
    """The processes in which runs of a job were told to stop."""
    return sorted({line[3] for line in yard.facts("told", id)})
