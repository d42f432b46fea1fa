"""How commands that run for long log: lines for people, or lines of JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["FORMATS", "LEVELS", "JsonFormatter", "set_up_logging"]

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_USUAL = {*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"}


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record: time, level, logger, message, and what the program gave as `extra`.

    Control characters of a message are escaped, so a line is never more than one. Within a span of OpenTelemetry's,
    `trace_id` and `span_id` are those of the span.
    """

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_span(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            said["stack"] = self.formatStack(record.stack_info)
        said |= {name: value for name, value in vars(record).items() if name not in _USUAL and name not in said}
        try:
            return json.dumps(said, default=repr)
        except Exception:  # noqa: BLE001 - values of foreign classes, of which JSON or their own repr may know nothing
            return json.dumps({name: value for name, value in said.items() if isinstance(value, str)})


def set_up_logging(level: str, form: str = "text") -> None:
    """Log to stderr, unless the program has set up logging of its own while it was imported."""
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(handlers=[to_stderr], level=logging.WARNING)
    logging.getLogger("muskox").setLevel(level.upper())


def _span() -> dict[str, str]:
    # Whoever makes spans has loaded it; nobody else is to load it for a log.
    traces: Any = sys.modules.get("opentelemetry.trace")
    if traces is None:
        return {}
    found = traces.get_current_span().get_span_context()
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"} if found.is_valid else {}
