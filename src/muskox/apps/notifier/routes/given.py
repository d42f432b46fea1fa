"""What routes are given: the services of their application, and how moments are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from muskox.apps.notifier.services import Services

__all__ = ["Given", "address_of", "written"]


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Given = Annotated[Services, Depends(_services)]
"""Annotate a route's parameter with it to be given the services."""


def written(moment: datetime | None) -> str | None:
    """Write a moment as RFC 3339 in UTC, with microseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def address_of(request: Request) -> str:
    """Where a request comes from, as the server saw it."""
    return request.client.host if request.client else ""
