"""Pictures: a child process with limits decodes them, and nothing in the worker does.

`craft.py` is what the rest of the application knows of it.
"""

from __future__ import annotations

__all__: list[str] = []
