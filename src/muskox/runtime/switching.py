"""Has the interpreter change threads sooner while a worker shares it with its store.

A store that writes in a thread of its own asks for the interpreter lock after
each statement. A burst of short runs holds that lock for up to Python's switch
interval, 5 ms unless somebody sets it, which is longer than the statements
take: the two would work in turns. See docs/decisions/switch-interval.md.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quick_switching"]

QUICK = 0.00005
"""Seconds. Four threads that only calculate in Python were not measurably slower with it."""

_lock = threading.Lock()
_inside: list[float] = []
"""One entry for each block that is under way: what the interval was before the first, which belongs to the process."""


@contextmanager
def quick_switching() -> Iterator[None]:
    """Shorten the switch interval in the block; the last to leave puts back what was there before the first."""
    with _lock:
        _inside.append(_inside[0] if _inside else sys.getswitchinterval())
        if len(_inside) == 1 and _inside[0] > QUICK:
            sys.setswitchinterval(QUICK)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                sys.setswitchinterval(before)
