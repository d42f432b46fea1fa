"""Starts helper programs of the tests as real processes, and never leaves one behind."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Process:
    """A program started by the fork server; to be used like a process of asyncio's."""

    stdin: asyncio.StreamWriter | None = None
    stdout: asyncio.StreamReader | None = None
    stderr: asyncio.StreamReader | None = None

    def __init__(self, pid: int, status: asyncio.StreamReader) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._end(status))

    async def _end(self, status: asyncio.StreamReader) -> int:
        line = await status.readline()
        # Without an answer the server itself is gone, and nobody will ever know.
        self.returncode = int(line) if line else -signal.SIGKILL
        # To its end, at which the pipe is closed: a loop that ends with an open one complains in a later test.
        await status.read()
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Close its input, and give all that it still says when it has ended."""
        if self.stdin is not None:
            self.stdin.close()
        said = await asyncio.gather(*(stream.read() if stream else _nothing() for stream in (self.stdout, self.stderr)))
        await self.wait()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _nothing() -> bytes:
    return b""


@functools.cache
def _fork_server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.forkserver", str(theirs.fileno())]
    with theirs:
        server = subprocess.Popen(command, cwd=ROOT, env=environment(), pass_fds=[theirs.fileno()])

    def close() -> None:
        ours.close()
        server.wait()

    atexit.register(close)
    return ours


async def forked(
    module: str,
    *words: object,
    output: int | None = None,
    folder: Path = ROOT,
    variables: Mapping[str, str] | None = None,
    session: bool = False,
    loaded: Sequence[str] = (),
) -> Process:
    """Run `python -m module words…`, with its input and output on pipes, or with both outputs in the file `output`.

    `loaded` are modules that it finds imported already, for a program that is started again and again.
    """
    with contextlib.ExitStack() as given:  # of what is here only until it has been handed on

        def hand(file: int) -> int:
            given.callback(os.close, file)
            return file

        ours, files = [], []
        for writes in (True, False, False):
            if output is not None:
                files.append(output if not writes else hand(os.open(os.devnull, os.O_RDONLY)))
                continue
            read, write = os.pipe()
            files.append(hand(read if writes else write))
            ours.append(write if writes else read)
        status, told = os.pipe()
        asked = {"words": [module, *map(str, words)], "folder": str(folder), "session": session}
        asked["loaded"] = list(loaded)
        asked["environment"] = dict(variables) if variables is not None else environment()
        socket.send_fds(_fork_server(), [json.dumps(asked).encode()], [*files, hand(told)])
    answers = await _reading(status)
    process = Process(int(await answers.readline()), answers)
    if ours:
        process.stdin = await _writing(ours[0])
        process.stdout, process.stderr = [await _reading(file) for file in ours[1:]]
    return process


async def _reading(file: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=2**24)
    pipe = os.fdopen(file, "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _writing(file: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(file, "wb", 0)
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop=loop), pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def environment() -> dict[str, str]:
    """The environment of this process, with sources and tests on the path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@asynccontextmanager
async def started(module: str, *words: object) -> AsyncIterator[Process]:
    """Run `python -m module words…` with its input and output on pipes; killed at the end if it still runs."""
    process = await forked(module, *words)
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def finished(module: str, *words: object) -> list[list[str]]:
    """Run a program to its end and give its lines as words; what it complained of fails the test."""
    async with started(module, *words) as process:
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [line.split() for line in out.decode().splitlines()]


async def until(process: Process, word: str) -> list[list[str]]:
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
