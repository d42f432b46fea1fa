"""Starts helper programs of the tests as real processes, and never leaves one behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    """The environment of this process, with sources and tests on the path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@asynccontextmanager
async def started(module: str, *words: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m module words…` with its input and output on pipes; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, words), cwd=ROOT, env=environment(), limit=2**24,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(module: str, *words: object) -> list[list[str]]:
    """Run a program to its end and give its lines as words; what it complained of fails the test."""
    async with started(module, *words) as process:
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [line.split() for line in out.decode().splitlines()]


async def until(process: asyncio.subprocess.Process, word: str) -> list[list[str]]:
    """Read lines until one begins with the word; gives all that were read."""
    assert process.stdout is not None
    lines: list[list[str]] = []
    while not lines or lines[-1][0] != word:
        line = await process.stdout.readline()
        if not line:
            assert process.stderr is not None
            raise AssertionError(f"ended before {word!r}: {(await process.stderr.read()).decode()}")
        lines.append(line.decode().split() or [""])
    return lines


def gone(pid: int) -> bool:
    """Whether a process executes nothing any more: it is not there, or only waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return not Path("/proc/self").exists()
