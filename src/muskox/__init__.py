"""Muskox: background jobs for Python."""

from __future__ import annotations

__all__: list[str] = []
