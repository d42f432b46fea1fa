"""Renews the leases of a worker, from a thread of its own that no processor can block.

Each beat is one call for everything held longer than a beat, so short runs cost
nothing. The answer also tells which jobs were cancelled or given to others;
stopping their runs is done in the worker's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

from muskox.core.errors import StoreError
from muskox.core.job import Lease
from muskox.core.seam import World
from muskox.runtime.run import Run
from muskox.store.protocol import Store

__all__ = ["LeaseKeeper"]

log = logging.getLogger("muskox.worker")


class LeaseKeeper:
    """Keeps alive what `held` gives. `lost` is called in the worker's loop with leases that are worth nothing.

    `store` gives the store for the event loop that asks, which here is the thread's own.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        world: World,
        *,
        lease: float,
        held: Callable[[], Sequence[Run]],
        lost: Callable[[Sequence[Lease]], None],
    ) -> None:
        self._store_here = store
        self._world = world
        self._lease = lease
        self._beat = min(1.0, lease / 3)
        self._held = held
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._own: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="muskox-leases", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Stop renewing."""
        self._closed = True  # for a thread that has not come so far as to be cancelled
        if self._own is not None and self._main is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._own.call_soon_threadsafe(self._main.cancel)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        try:
            asyncio.run(self._keep())
        except asyncio.CancelledError:
            return

    async def _keep(self) -> None:
        self._main = asyncio.current_task()
        self._own = asyncio.get_running_loop()
        store = self._store_here()
        try:
            while not self._closed:
                await self._world.sleep(self._beat)
                try:
                    await self.turn(store)
                except Exception:  # without this thread every lease would be lost, so it ends for nothing
                    log.exception("leases were not renewed; the next beat tries again")
        finally:
            if store.traits.loop_bound:
                await store.close()

    async def turn(self, store: Store) -> None:
        """Renew once. A run is lost when the store says so, or when it gives no answer until the lease is over."""
        now = self._world.monotonic()
        runs = [run for run in self._held() if now - run.since >= self._beat]
        if not runs:
            return
        try:
            await store.open()
            lost = await store.renew([run.lease for run in runs], lease=self._lease)
        except StoreError as error:
            log.warning("leases of %d jobs were not renewed: %s", len(runs), error)
            lost = [run.lease for run in runs if self._world.monotonic() > run.until]
        else:
            for run in runs:
                run.until = now + self._lease
        if lost:
            self._loop.call_soon_threadsafe(self._lost, lost)
