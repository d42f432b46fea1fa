"""Logs as lines of JSON: one line for each record, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from muskox.cli.logs import JsonFormatter


def line(message: str, *args: Any, error: bool = False, **extra: Any) -> dict[str, Any]:
    """What is written of a record, read again."""
    info = sys.exc_info() if error else None
    record = logging.getLogger("shop").makeRecord("shop", logging.WARNING, "a.py", 1, message, args, info, extra=extra)
    text = JsonFormatter().format(record)
    assert text.isprintable()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_record_is_one_line_with_its_level_logger_and_moment() -> None:
    found = line("job %s failed", "j-1", tenant="acme")

    assert found.pop("time").endswith("+00:00")
    assert found == {"level": "warning", "logger": "shop", "message": "job j-1 failed", "tenant": "acme"}


def test_security_s47_what_a_message_holds_begins_no_line_of_its_own() -> None:
    forged = 'ok\r\n{"level":"info","message":"admin logged in"}\x1b[2J\u2028\x00'

    found = line("name %s", forged, name_given=forged)

    assert (found["message"], found["name_given"]) == (f"name {forged}", forged)


def test_an_error_is_told_with_its_traceback() -> None:
    try:
        raise ValueError("torn")
    except ValueError:
        found = line("failed", error=True)

    assert found["error"].startswith("Traceback")
    assert found["error"].endswith("ValueError: torn")


def test_values_that_are_no_json_are_written_in_some_way() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert line("x", thing=frozenset)["thing"] == repr(frozenset)
    assert line("kept", thing=Silent())["message"] == "kept"
    assert line("half \udcff")["message"] == "half \udcff"


def test_what_is_logged_in_a_span_tells_its_trace() -> None:
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False))

    with trace.use_span(span):
        found = line("in the run")

    assert (found["trace_id"], found["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
