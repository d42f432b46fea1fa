"""Workers that are killed while they make pictures: everything is made in the end, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from muskox import JobState
from muskox.apps.media.limits import Limits
from tests.apps.media.conftest import studio_in
from tests.apps.media.drawing import encoded, scene
from tests.runtime.helpers import until

JOBS, KILLS = 8, 2
WORKER = """
import sys
from pathlib import Path

from muskox import Muskox
from muskox.apps.media.limits import Limits
from muskox.apps.media.media import Media
from muskox.apps.notifier.engine import open_engine

folder = Path(sys.argv[1])
ox = Muskox(f"sqlite:///{folder / 'muskox.db'}")
Media(ox, open_engine(ox.url), folder / "media", limits=Limits(reserve=1, children=2))
ox.run_worker(["images"], concurrency=4, lease=1)
"""

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the children of a dead process in /proc")
async def test_case_f14_fault_f1_workers_are_killed_and_every_picture_is_made_whole(tmp_path, pool):
    """The case names 200 jobs and 20 kills; here there are fewer, and each kill meets pictures half made."""
    script = tmp_path / "work.py"
    script.write_text(WORKER)
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        tmp = studio.media.storage.tmp
        looks = [await studio.upload(encoded(scene(1200 + at, 900))) for at in range(JOBS)]
        for _ in range(KILLS):
            worker = await asyncio.create_subprocess_exec(sys.executable, str(script), str(tmp_path))
            await until(lambda: any(tmp.iterdir()), limit=60)
            worker.kill()
            await worker.wait()
            await until(lambda pid=worker.pid: not children_of(pid), limit=10)
        left = len(studio.partial)

        async with studio.ox.worker(["images"], concurrency=4, lease=5):
            jobs = [await studio.settled(look, 60) for look in looks]
        await studio.media.sweep()

        assert left > 0
        assert [job.state for job in jobs] == [JobState.COMPLETED] * JOBS
        assert sum(job.stalls for job in jobs) > 0
        assert studio.partial == []
        published = sorted((studio.media.storage.root / "derived").rglob("*.jpg"))
        assert len(published) == 2 * JOBS
        for path in published:
            Image.open(BytesIO(path.read_bytes())).load()


def children_of(pid: int) -> list[int]:
    """The processes that decode for a worker, alive or orphaned."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has gone meanwhile
            if any(b"media.images.child" in word for word in words) and str(pid).encode() in words:
                found.append(int(entry.name))
    return found
