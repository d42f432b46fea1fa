"""The steps of the store, read from `lua/`: their texts, as the server wants them, and the hashes it knows them by.

It sends nothing.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

import msgspec

__all__ = ["NAMES", "Script", "script"]

NAMES = (
    "add", "add_once", "adopt", "annotate", "beat", "cancel", "claim", "clear", "counts", "events", "find", "fire",
    "hold", "keys", "limit", "limit_key", "limits",
    "listen", "pack", "pause", "promote", "promote_due", "publish", "put_schedules", "recover", "remove", "renew",
    "retry", "schedules", "settle", "standing", "update",
)  # fmt: skip
"""All steps there are."""

_MAY_GROW = "\n-- May run without memory to spare"
_NEEDS = re.compile(r"^-- needs  (\w+)$", re.MULTILINE)


class Script(msgspec.Struct, frozen=True):
    """One step: its text and the SHA-1 of it."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str, flags: bool) -> Script:
    """The step of that name; `flags` where the server reads the first line of a script (from 7.0 on)."""
    body = _read(name)
    parts = [_read("base"), *(_read(needed) for needed in _NEEDS.findall(body)), body]
    may_grow, only_looks = _MAY_GROW in body, "\n-- Writes nothing" in body
    first = ""
    if flags:
        said = ["allow-oom"] * may_grow + ["no-writes"] * only_looks
        first = f"#!lua flags={','.join(said)}\n"
    elif may_grow:
        # A full server of that age stops a script only before its first write, and this one it always lets through.
        first = "redis.call('DEL', KEYS[1] .. '-nothing')\n"
    text = (first + "\n".join(parts)).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _read(name: str) -> str:
    return files("muskox.store.redis").joinpath("lua", f"{name}.lua").read_text()
