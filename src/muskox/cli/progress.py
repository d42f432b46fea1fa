"""A bar for work that takes long: how much of it is left is asked while it goes on.

It is drawn where somebody looks, on a terminal's stderr; programs that read our output never see it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from muskox import Muskox

__all__ = ["watched"]

T = TypeVar("T")

_BEAT = 0.25


async def watched(
    ox: Muskox, title: str, work: Coroutine[Any, Any, T], left: Callable[[], Awaitable[int]] | None = None
) -> T:
    """Do the work and give what it gave; meanwhile draw how far it is, by how much is `left` (None: nobody knows)."""
    if not sys.stderr.isatty():
        return await work
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    figures = () if left is None else (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = ox.world.spawn(work, name="muskox command")
    try:
        total = None if left is None else await left()
        with Progress(*columns, *figures, console=Console(stderr=True), transient=True) as drawn:
            line = drawn.add_task(title, total=total)
            while not task.done():
                await asyncio.wait([task], timeout=_BEAT)
                if left is not None and total is not None and not task.done():
                    drawn.update(line, completed=max(0, total - await left()))
        done: T = await task
        return done
    finally:
        task.cancel()
