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
    "add", "add+", "add_bounded", "add_once", "adopt", "annotate", "beat", "branch", "cancel", "cancel_flow", "claim",
    "claim+", "clear", "close_flow", "counts", "events", "expire", "find", "fire", "flow_jobs", "flows", "grow",
    "history", "hold", "keys", "limit", "limit_key", "limits", "listen", "pack", "parents", "pause", "promote",
    "promote_due", "publish", "put_schedules", "record", "recover", "remove", "renew", "retry", "retry_flow",
    "schedules", "settle", "settle+", "standing", "update",
)  # fmt: skip
"""All steps there are."""

_MAY_GROW = "\n-- May run without memory to spare"
_NEEDS = re.compile(r"^-- (needs|may need)(?:, (tied|untied))?  (\w+)$", re.MULTILINE)
_GIVES = re.compile(r"^-- gives  ([\w, ]+)$", re.MULTILINE)
"""What other parts may use of one; all else is its own, since a script has no more than 200 local names."""


class Script(msgspec.Struct, frozen=True):
    """One step: its text and the SHA-1 of it."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str, flags: bool) -> Script:
    """The step of that name; `flags` where the server reads the first line of a script (from 7.0 on).

    A name that ends with + is the step for jobs that have to do with others, which has parts that it has not alone.
    """
    body, ties = _read(name.removesuffix("+")), "tied" if name.endswith("+") else "untied"
    needed = [(how, part) for how, where, part in _NEEDS.findall(body) if where in {"", ties}]
    tied = f"local TIED = {str(ties == 'tied').lower()}"
    parts = [_read("base"), tied, *(_part(*each) for each in needed), body]
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


def _part(how: str, name: str) -> str:
    """A part of a step; one that says what it gives is made by a function, which is called at once where it is needed.

    A step that may need it calls that function when it does. A server makes all functions of a script anew whenever
    it runs it, each the dearer the more names are around: all parts at once take longer than to settle forty jobs.
    """
    text = _read(name)
    given = ", ".join(_GIVES.findall(text))
    if not given:
        return text
    first = given.partition(",")[0]
    made = f"local {given}\nlocal function with_{name}()\nif {first} then return end\n{text}\nend"
    return f"{made}\nwith_{name}()" if how == "needs" else made


def _read(name: str) -> str:
    return files("muskox.store.redis").joinpath("lua", f"{name}.lua").read_text()
