"""What a process and a store take at one moment; read from outside, so that neither does anything for it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.peers.sizes import size

__all__ = ["Sample", "sample"]


class Sample(msgspec.Struct, frozen=True):
    """Seconds since the beginning, bytes of resident memory, open descriptors, threads, bytes of the store."""

    at: float
    memory: int
    descriptors: int
    threads: int
    size: int


def sample(pid: int, store: str, url: str, at: float) -> Sample:
    """Look at a process (on Linux) and at a store."""
    folder = Path(f"/proc/{pid}")
    lines = (line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    said = {name: value.strip() for name, value in lines}
    return Sample(
        at=at,
        memory=int(said["VmRSS"].split()[0]) * 1024,
        descriptors=sum(1 for _ in (folder / "fd").iterdir()),
        threads=int(said["Threads"]),
        size=size(store, url),
    )
