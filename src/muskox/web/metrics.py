"""Metrics for Prometheus where their library is installed; the dashboard does without it."""

from __future__ import annotations

from typing import Protocol

from muskox import Event, Muskox

try:
    from muskox.contrib.prometheus import CONTENT_TYPE_LATEST, Metrics
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    HAVE, CONTENT_TYPE = False, "text/plain"
else:
    HAVE, CONTENT_TYPE = True, CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE", "Counts", "Served", "metrics_of"]


class Counts(Protocol):
    """Who counts events for metrics."""

    def take(self, event: Event) -> None:
        """Count an event."""

    def miss(self, number: int) -> None:
        """Count events that were not read."""


class Served(Protocol):
    """What `muskox.contrib.prometheus.Metrics` is to the dashboard."""

    @property
    def tally(self) -> Counts: ...

    async def text(self) -> bytes: ...


def metrics_of(ox: Muskox) -> Served | None:
    """The metrics of a program; None where prometheus-client is not installed."""
    return Metrics(ox) if HAVE else None
