"""What a browser and other programs see of the media application: routes, and a page to try them on.

`routes.py` makes a router for one `Media`; `problems.py` tells what went wrong.
"""

from __future__ import annotations

__all__: list[str] = []
