"""A release whose steps have other texts, and so other hashes: `python -m tests.store.process_texts VERB URL …`."""

from __future__ import annotations

import asyncio
import sys

from muskox.store.redis import scripts
from tests.store import process

known = scripts._read


def other(name: str) -> str:
    return f"{known(name)}\n-- of another release\n"


if __name__ == "__main__":
    scripts._read = other
    asyncio.run(process.main(*sys.argv[1:]))
