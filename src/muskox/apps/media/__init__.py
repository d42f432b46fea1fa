"""Pictures and clips: takes files in, makes smaller ones of them in background jobs, and keeps both.

It stands on the public names of Muskox. What a browser sees of it is in `web/`,
and it sends no mail.
"""

from __future__ import annotations

__all__: list[str] = []
