"""The HTTP interface, one module per subject."""

from __future__ import annotations

__all__: list[str] = []
