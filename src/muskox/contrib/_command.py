"""Runs the command line `muskox` for another one: `flask muskox …`, `manage.py muskox …`.

It knows none of our commands; what follows the word is handed on as it is.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

__all__ = ["run"]


def run(program: str | None, words: Sequence[str]) -> None:
    """Run `muskox WORDS…` in this process, and end it with its exit code; `program` is for where none is named."""
    if program:
        os.environ.setdefault("MUSKOX_PROGRAM", program)
    sys.argv = ["muskox", *words]
    runpy.run_module("muskox", run_name="__main__")
