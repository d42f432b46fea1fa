"""Runs one of the measured programs in a process of its own, and is that process.

A program is a function in `bench.programs` that takes plain values and returns
plain values. What they mean is not known here.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["command", "run"]

ROOT = Path(__file__).parent.parent
LIMIT = 1800.0


def command(program: str, **options: Any) -> list[str]:
    """The command that runs `program`, given as "module.function"."""
    return [sys.executable, "-m", "bench.child", program, msgspec.json.encode(options).decode()]


def run(program: str, **options: Any) -> Any:
    """Run a program to its end and return what it measured; raises when it fails."""
    done = subprocess.run(command(program, **options), cwd=ROOT, stdout=subprocess.PIPE, timeout=LIMIT, check=True)
    return msgspec.json.decode(done.stdout.splitlines()[-1])


def _main(program: str, options: str) -> None:
    module, _, name = program.rpartition(".")
    function = getattr(importlib.import_module(f"bench.programs.{module}"), name)
    given = msgspec.json.decode(options)
    if inspect.iscoroutinefunction(function):
        factory = importlib.import_module("uvloop").new_event_loop if given.pop("uvloop", False) else None
        with asyncio.Runner(loop_factory=factory) as runner:
            answer = runner.run(function(**given))
    else:
        given.pop("uvloop", None)
        answer = function(**given)
    print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
