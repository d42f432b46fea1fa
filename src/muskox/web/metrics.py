"""Metrics for Prometheus where their library is installed; the dashboard does without it."""

from __future__ import annotations

from muskox import Muskox

try:
    from muskox.contrib.prometheus import CONTENT_TYPE_LATEST, Metrics
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    HAVE, CONTENT_TYPE = False, "text/plain"
else:
    HAVE, CONTENT_TYPE = True, CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE", "Metrics", "metrics_of"]


def metrics_of(ox: Muskox) -> Metrics | None:
    """The metrics of a program; None where prometheus-client is not installed."""
    return Metrics(ox) if HAVE else None
