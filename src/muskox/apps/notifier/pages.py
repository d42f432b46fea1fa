"""Renders our own pages from `html/`: escaped, and with nothing from elsewhere in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from muskox.apps.notifier.services import Services

__all__ = ["STATIC", "page"]

STATIC = Path(__file__).parent / "static"

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "html"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    name: str, services: Services, *, status: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """Render a page with the name of the product, and whether there is an inbox to link to."""
    text = _environment.get_template(name).render(
        product=services.settings.product,
        has_inbox=services.inbox is not None,
        production=services.settings.production,
        **context,
    )
    return HTMLResponse(text, status, headers=headers)
