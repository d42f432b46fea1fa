"""Puts what a comparison found into a page, between the two marks of its store, and leaves the rest alone."""

from __future__ import annotations

__all__ = ["fill"]


def fill(page: str, store: str, text: str) -> str:
    """The page with `text` between `<!-- STORE -->` and `<!-- /STORE -->`; raises ValueError without these marks."""
    first, last = f"<!-- {store} -->\n", f"<!-- /{store} -->"
    start, end = page.find(first), page.find(last)
    if start < 0 or end < start:
        raise ValueError(f"the page has no marks {first.strip()} and {last}; put them where the tables shall stand")
    return f"{page[: start + len(first)]}\n{text}\n\n{page[end:]}"
