"""A worker for videos in a process of its own: `python -m tests.apps.media.video.hand FOLDER SCRIPT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from muskox.apps.media.video.tools import find_tools
from tests.apps.media.video.conftest import rig


async def main() -> None:
    """Work until killed."""
    folder, script = Path(sys.argv[1]), sys.argv[2]
    async with rig(folder, find_tools(), encoder=script or None, lease=2):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
