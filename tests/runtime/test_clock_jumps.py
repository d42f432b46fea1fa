"""The store's clock is moved under a running scheduler: that of a server, or on SQLite that of the worker's process."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest

from muskox import Muskox, Told
from tests.processes import started, until
from tests.runtime.helpers import LIMIT, clean
from tests.servers import postgres, valkey

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed: apt-get install faketime")

HOUR, DAY = 3600, 86_400
STEP = 500_000


class Clock:
    """What the processes that are started under it take for the time; it can be moved while they run."""

    def __init__(self, folder: str) -> None:
        Path(folder).chmod(0o755)  # a server of PostgreSQL is another user
        self._file = Path(folder) / "clock"
        self.set(0)

    def set(self, ahead: int) -> None:
        """Have it so many seconds ahead of the true one."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.chmod(0o644)
        new.rename(self._file)

    @contextmanager
    def over(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Start processes under it."""
        with patch.context() as changed:
            changed.setenv("LD_PRELOAD", str(LIBRARY))
            changed.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
            changed.setenv("FAKETIME_NO_CACHE", "1")
            changed.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            yield


@pytest.fixture
def clock() -> Iterator[Clock]:
    with tempfile.TemporaryDirectory(prefix="muskox-clock-") as folder:
        yield Clock(folder)


@contextmanager
def placed(store: str, clock: Clock, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store whose clock it is."""
    if store == "sqlite":
        yield f"sqlite:///{folder}/jobs.db"
    elif store == "redis":
        binary = valkey.valkey_binary()
        assert binary is not None
        with clock.over(patch):
            server = valkey.Server(binary).start()
        try:
            yield server.url
        finally:
            server.stop()
    else:
        made = postgres.Server(**postgres.FAST)
        try:
            with clock.over(patch):
                made.start()
            yield made.url
        finally:
            made.remove()


async def told_when(ox: Muskox, fact) -> list:
    """The ledger, oldest first, once it is as it shall be; each moment must be told of once and none left out."""
    async with asyncio.timeout(LIMIT):
        while not fact(told := list(reversed(await ox.schedules.ledger("beat")))):  # noqa: ASYNC110 - of others
            await asyncio.sleep(0.05)
    assert [entry.moment_us for entry in told] == sorted({entry.moment_us for entry in told})
    known = sum(entry.missed or 1 for entry in told[1:])
    assert known == (told[-1].moment_us - told[0].moment_us) // STEP
    return told


def jumped(told: list, seconds: int) -> bool:
    """Whether so many seconds were missed at once, all but the two latest moments before those that are on time."""
    for missed, *after in zip(told, told[1:], told[2:], strict=False):
        if seconds - 10 < missed.missed * STEP / 1_000_000 < seconds + LIMIT:
            return [entry.told for entry in after] == [Told.LATE, Told.LATE]
    return False


@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"])
async def test_a_clock_that_jumps_and_a_machine_that_sleeps_leave_what_the_policy_says_and_nothing_else(
    store, clock, tmp_path, monkeypatch
):
    with placed(store, clock, tmp_path, monkeypatch) as url:
        async with Muskox(url) as ox, AsyncExitStack() as stack:
            with clock.over(monkeypatch) if store == "sqlite" else nullcontext():
                process = await stack.enter_async_context(started("tests.runtime.ticking", "beats", url))
            async with asyncio.timeout(3 * LIMIT):
                await told_when(ox, lambda told: len(told) >= 3)

                clock.set(HOUR)
                await told_when(ox, lambda told: jumped(told, HOUR))

                process.send_signal(signal.SIGSTOP)
                clock.set(HOUR + DAY)
                process.send_signal(signal.SIGCONT)
                await told_when(ox, lambda told: jumped(told, DAY))

                clock.set(DAY)
                await probed(process)
                still = await told_when(ox, len)
                await probed(process)
                assert await told_when(ox, len) == still, "a clock that was set back fires nothing again"

                clock.set(HOUR + DAY + 60)
                told = await told_when(ox, lambda told: jumped(told, 60))
            assert await clean(ox)

    assert not {entry.told for entry in told} - {Told.FIRED, Told.LATE, Told.MISSED}


async def probed(process: asyncio.subprocess.Process) -> None:
    """Let another schedule run once, by which it is known that the scheduler has looked at all."""
    process.stdin.write(b"now\n")
    await until(process, "probed")
