"""A worker whose processor kills its own process in its first runs, as a program of its own."""

from __future__ import annotations

import os
import signal
import sys

from muskox import Muskox, SyncActiveJob

DEATHS = 2


def main(url: str) -> None:
    """Run jobs of the queue "files" until a signal or the processor ends it."""
    ox = Muskox(url)

    @ox.queue("files").processor("resize", max_stalls=DEATHS)
    def resize(job: SyncActiveJob) -> None:
        if job.stalls < DEATHS:
            os.kill(os.getpid(), signal.SIGKILL)

    ox.run_worker(lease=0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
