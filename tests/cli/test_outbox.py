"""`muskox outbox`: a process that relays until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from muskox import Muskox
from muskox.contrib.outbox import Outbox
from tests.cli.conftest import Run, Start

LIMIT = 30
PROGRAM = """
import sqlalchemy

from muskox import Muskox
from muskox.contrib.outbox import Outbox

ox = Muskox("sqlite:///jobs.db")
outbox = Outbox(ox, sqlalchemy.create_engine("sqlite:///shop.db"), poll=0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_jobs_are_relayed_until_a_signal_comes(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    engine = sa.create_engine("sqlite:///shop.db")
    async with Muskox("sqlite:///jobs.db") as ox:
        outbox = Outbox(ox, engine)
        await outbox.create_tables()
        process = start("outbox", "shop:outbox")
        with engine.begin() as tx:
            new = outbox.sync.add(tx, ox.queue("email"), "welcome")

        async with asyncio.timeout(LIMIT):
            while await ox.queue("email").get(new.id) is None:
                assert process.poll() is None, process.stderr.read()
                await asyncio.sleep(0)
        process.send_signal(number)
        _, said = await asyncio.to_thread(process.communicate, timeout=LIMIT)

    engine.dispose()
    assert (process.returncode, said) == (0, "relaying\nstopped\n")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("jobs:ox", "'jobs:ox' is no outbox but Muskox; give the name of a muskox.contrib.outbox.Outbox"),
        ("jobs:nothing", "module 'jobs' has no object 'nothing'"),
        ("nowhere:outbox", "there is no module 'nowhere'"),
    ],
)
def test_what_is_no_outbox_is_refused(run: Run, named: str, said: str) -> None:
    result = run("outbox", named)

    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
