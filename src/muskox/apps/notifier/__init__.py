"""A service that registers users and writes to them: HTTP over the mail application, with its worker.

Start it with `python -m muskox.apps.notifier`. It shows how a program uses Muskox,
and uses nothing of it that is not public.
"""

from __future__ import annotations

__all__: list[str] = []
