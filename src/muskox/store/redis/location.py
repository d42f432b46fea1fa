"""Reads the URLs of Redis and Valkey: one server, a primary that Sentinels know, or a cluster.

It opens nothing; `dial.py` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from muskox.core.errors import OptionError

__all__ = ["Location", "parse"]

_OPTIONS = (
    "ca", "connections", "durability", "eviction", "prefix", "protocol", "sentinel_password", "sentinel_username",
    "timeout", "verify",
)  # fmt: skip
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SCHEME = re.compile(r"(?:redis|valkey)(s?)(?:\+(sentinel|cluster))?")
_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
_LEVELS = ("default", "fsync", "replicated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a server is and how it is used. `kind` is "" for one server, "sentinel" or "cluster"."""

    kind: str = ""
    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    tls: bool = False
    ca: str | None = None
    verify: bool = True
    prefix: str = "muskox"
    durability: str = "default"
    eviction: bool = False
    protocol: int = 3
    timeout: float = 5.0
    connections: int = 8

    @property
    def shown(self) -> str:
        """Host and port, for people; never a password."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts) + (f"/{self.service}" if self.service else "")


def parse(url: str) -> Location:
    """Read `redis://[user:password@]host[:port][/db]`, `redis+sentinel://host[:port],…/service[/db]` or
    `redis+cluster://host[:port],…`, with `valkey` as well as `redis` and an `s` for TLS, and options after `?`.

    Raises `OptionError`, which does not show the password, for anything else.
    """
    scheme, _, rest = url.partition("://")
    found = _SCHEME.fullmatch(scheme.lower())
    if found is None:
        raise OptionError("the URL of a Redis server looks like redis://host:6379/0; see docs/explanation/redis.md")
    kind = found[2] or ""
    rest, _, query = rest.partition("?")
    where, _, path = rest.partition("/")
    userinfo, _, hosts = where.rpartition("@")
    username, _, password = userinfo.partition(":")
    service, db = _path(kind, [unquote(part) for part in path.split("/") if part])
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = options.keys() - set(_OPTIONS)
    if unknown:
        raise OptionError(f"a Redis URL has no option {min(unknown)!r}; known are {', '.join(_OPTIONS)}")
    return Location(
        kind=kind,
        hosts=tuple(_host(text, _PORTS[kind]) for text in hosts.split(",")),
        service=service,
        db=db,
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        tls=bool(found[1]),
        ca=options.get("ca"),
        verify=_chosen(options, "verify", ("yes", "no")) == "yes",
        prefix=_prefix(options.get("prefix", "muskox")),
        durability=_chosen(options, "durability", _LEVELS),
        eviction=_chosen(options, "eviction", ("refuse", "allow")) == "allow",
        protocol=int(_chosen(options, "protocol", ("3", "2"))),
        timeout=_number(options, "timeout", 5.0, 0.1, 3600.0),
        connections=int(_number(options, "connections", 8, 2, 1000)),
    )


def _path(kind: str, parts: list[str]) -> tuple[str, int]:
    if kind == "sentinel":
        if not 1 <= len(parts) <= 2:
            raise OptionError("a Sentinel URL names the service: redis+sentinel://host:26379,host2/service/0")
        service, number = parts[0], parts[1:]
    else:
        service, number = "", parts
    if len(number) > 1 or (number and not number[0].isdecimal()):
        raise OptionError(f"the database of a Redis URL is a number, not {'/'.join(number)[:40]!r}; 0 is usual")
    db = int(number[0]) if number else 0
    if kind == "cluster" and db:
        raise OptionError(f"a cluster has only database 0, not {db}; use ?prefix= to keep stores apart")
    return service, db


def _host(text: str, port: int) -> tuple[str, int]:
    host, _, number = text.rpartition(":") if re.search(r":\d*$", text) and not text.endswith("]") else (text, "", "")
    if number and not 0 < int(number) < 65536:
        raise OptionError(f"port {number} is not a port; 1 to 65535 are")
    return host.strip("[]") or "localhost", int(number) if number else port


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise OptionError(f"prefix {text[:60]!r} is not allowed; use 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def _chosen(options: dict[str, str], name: str, values: tuple[str, ...]) -> str:
    value = options.get(name, values[0])
    if value not in values:
        raise OptionError(f"{name} must be {' or '.join(values)}, not {value[:40]!r}")
    return value


def _number(options: dict[str, str], name: str, usual: float, least: float, most: float) -> float:
    try:
        value = float(options.get(name, usual))
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise OptionError(f"{name} must be between {least:g} and {most:g}, not {options[name][:40]!r}")
    return value
