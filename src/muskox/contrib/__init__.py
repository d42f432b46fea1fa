"""Muskox beside other libraries: each module needs the library that it is for, and is imported by whoever has that."""

from __future__ import annotations
