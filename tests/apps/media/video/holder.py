"""A process with an encoder below it that never ends: `python -m tests.apps.media.video.holder FOLDER [watchdog]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from muskox import Muskox
from muskox.apps.media.video.encoder import Encoder, Reins

REINS = Reins(wall=100, memory=2**33, cpu=100, output=2**20)


async def main() -> None:
    """Run it until killed."""
    folder = Path(sys.argv[1])
    ready = f"sleep 100 & echo ready; exec tail -f {folder}/nothing"

    async def hear(data: bytes) -> None:
        sys.stdout.write(data.decode())
        sys.stdout.flush()

    async with Muskox("sqlite://:memory:") as ox:
        encoder = Encoder(ox.world, watchdog=True) if "watchdog" in sys.argv else Encoder(ox.world)
        (folder / "nothing").touch()
        await encoder.run(["/bin/sh", "-c", ready, str(folder)], folder=folder, reins=REINS, hear=hear)


if __name__ == "__main__":
    asyncio.run(main())
