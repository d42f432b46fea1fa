"""`python -m muskox`: the command line, for where the `muskox` command is not on the path."""

from __future__ import annotations

from muskox.cli import main

if __name__ == "__main__":
    main(prog_name="muskox")
