"""What is measured of one side: how its program is started and what its answers and its process say.

Each measure takes a fresh store, so that nothing of one is in the way of another. A side that fails or
does not answer raises `Unavailable` with its last words.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from bench import servers
from bench.child import ROOT
from bench.peers import environments
from bench.peers.environments import Unavailable
from bench.peers.field import Peer
from bench.peers.sizes import size

__all__ = ["Idle", "Side", "open_store"]

SIDES = Path(__file__).parent / "sides"
LIMIT = 240.0
REST = 1.0
"""Seconds after the first job in which a worker comes to rest, before it is watched."""


class Idle(msgspec.Struct):
    """What was seen of a worker without work: milliseconds, MiB, percent of a core."""

    startup: float
    latency: float
    memory: float
    idle: float


class Side:
    """A system that is ready to be measured on stores of one kind."""

    def __init__(self, peer: Peer, store: str, server: Mapping[str, str] | None = None) -> None:
        self.peer = peer
        self.store = store
        self._server = server or {}
        self.slots = peer.slots[0]
        program = str(SIDES / peer.program)
        self._cwd, self._environment = SIDES, dict(os.environ)
        if peer.node:
            self._cwd = environments.node(peer.pins)
            self._command = ["node", program]
        elif peer.pins:
            self._command = [str(environments.python(peer.pins)), program]
        else:
            self._command = [sys.executable, program]
            self._environment["PYTHONPATH"] = str(ROOT / "src")

    def add(self, jobs: int) -> float:
        """Jobs added per second, one by one, each awaited."""
        with open_store(self.store, **self._server) as url:
            return float(self._run("add", url, jobs=jobs)["rate"])

    def bulk(self, jobs: int) -> float:
        """Jobs added per second in its best way to add many."""
        with open_store(self.store, **self._server) as url:
            return float(self._run("bulk", url, jobs=jobs)["rate"])

    def drain(self, jobs: int) -> float:
        """No-op jobs run per second by one process, from the begin of the first to that of the last."""
        with open_store(self.store, **self._server) as url:
            self._run("bulk", url, jobs=jobs)
            return float(self._run("drain", url, jobs=jobs, slots=self.slots)["rate"])

    def bytes_each(self, jobs: int) -> float:
        """What a waiting job takes in the store."""
        with open_store(self.store, **self._server) as url:
            self._run("bulk", url, jobs=1)  # so that tables, scripts and settings are there before
            before = size(self.store, url)
            self._run("bulk", url, jobs=jobs)
            return (size(self.store, url) - before) / jobs

    def idle(self, samples: int, calm: float) -> Idle:
        """Start a worker with one job waiting, watch it idle, then add jobs from another process, one now and then."""
        with open_store(self.store, **self._server) as url:
            self._run("bulk", url, jobs=1)
            with tempfile.TemporaryFile() as words:
                started = time.perf_counter_ns()
                options = self._options(url, jobs=samples + 1, slots=self.slots)
                with subprocess.Popen(
                    [*self._command, "idle", options],
                    cwd=self._cwd, env=self._environment, stdout=subprocess.PIPE, stderr=words,
                ) as worker:  # fmt: skip
                    try:
                        return self._watch(worker, url, samples, started, calm)
                    except StopIteration as error:
                        raise Unavailable(f"idle: {_last(words)}") from error
                    finally:
                        worker.kill()

    def returns(self, limit: float) -> float | None:
        """Seconds from the kill of a worker in mid-job to the job's next run by another; None when over `limit`."""
        with open_store(self.store, **self._server) as url:
            self._run("bulk", url, jobs=1)
            command = [*self._command, "die", self._options(url, jobs=1, slots=self.slots)]
            died = subprocess.run(
                command, cwd=self._cwd, env=self._environment, capture_output=True, timeout=LIMIT, check=False
            )
            if died.returncode != -signal.SIGKILL:
                raise Unavailable(f"die: {_last(io.BytesIO(died.stderr))}")
            killed = time.monotonic()
            # Two jobs are awaited and there is one, so that it stays until it is stopped here.
            options = self._options(url, jobs=2, slots=self.slots, patience=limit + 60)
            with subprocess.Popen(
                [*self._command, "idle", options],
                cwd=self._cwd, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            ) as worker:  # fmt: skip
                assert worker.stdout is not None
                # At the limit the worker is killed, and what it says comes to its end.
                end = threading.Timer(limit, worker.kill)
                end.start()
                try:
                    ran = next(_told(worker.stdout), None)
                    return None if ran is None else time.monotonic() - killed
                finally:
                    end.cancel()
                    worker.kill()

    def _watch(self, worker: subprocess.Popen[bytes], url: str, samples: int, started: int, calm: float) -> Idle:
        assert worker.stdout is not None
        told = _told(worker.stdout)
        startup = next(told)["first"] - started
        time.sleep(REST)
        used, since = _used(worker.pid), time.monotonic()
        time.sleep(calm)
        idle = (_used(worker.pid) - used) / (time.monotonic() - since)
        memory = sum(_resident(process) for process in _family(worker.pid))
        before = self._run("produce", url, first=1, jobs=samples)["before"]
        begun = next(told)["begun"][1:]
        latency = statistics.median(end - start for start, end in zip(before, begun, strict=True))
        return Idle(startup / 1e6, latency / 1e6, memory / 2**20, idle * 100)

    def _run(self, verb: str, url: str, **options: Any) -> dict[str, Any]:
        command = [*self._command, verb, self._options(url, **options)]
        try:
            done = subprocess.run(
                command, cwd=self._cwd, env=self._environment, capture_output=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{verb}: no answer in {LIMIT:g} s") from error
        told = list(_told(io.BytesIO(done.stdout)))
        if done.returncode or not told:
            raise Unavailable(f"{verb}: {_last(io.BytesIO(done.stderr))}")
        return told[-1]

    def _options(self, url: str, **options: Any) -> str:
        return msgspec.json.encode({"url": url + self.peer.query, **options}).decode()


@contextlib.contextmanager
def open_store(store: str, **settings: str) -> Iterator[str]:
    """A fresh, empty store of a kind; its URL. `settings` are the server's."""
    kinds: dict[str, Callable[..., contextlib.AbstractContextManager[str]]] = {
        "redis": servers.valkey, "postgres": servers.postgres, "sqlite": _sqlite,
    }  # fmt: skip
    with kinds[store](**settings) as url:
        yield url


@contextlib.contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="muskox-bench-", ignore_cleanup_errors=True) as folder:
        yield f"sqlite:///{folder}/bench.db"


def _told(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """What a program says of itself, among whatever its system may print."""
    for line in stream:
        if line.startswith(b"{"):
            yield msgspec.json.decode(line)


def _last(words: IO[bytes]) -> str:
    """The last line, or the last that names an error: Node ends with its version, not with the reason."""
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
    return next((line.strip() for line in reversed(lines) if "Error" in line), lines[-1])


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found, parents = [pid], {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _used(pid: int) -> float:
    """Seconds of processor time of a process and all that it has started."""
    ticks = 0
    for process in _family(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
