"""Traces by OpenTelemetry: a span for each adding of jobs, and one for each attempt, in whichever process it runs.

It needs the extra `muskox[otel]`, and of whoever uses it the SDK and somewhere to send spans to: nothing is sent
here. All names of spans and attributes stand on top; where there is one they are those of OpenTelemetry's
conventions for messaging systems.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from muskox import Ending, Failure, Job, Muskox, NewJob, OptionError, RunEnd

__all__ = ["Relation", "inside", "instrument", "uninstrument"]

log = logging.getLogger("muskox.otel")

Relation = Literal["child", "link"]
"""What an attempt is to the adding: in its trace and below it, or in a trace of its own that is linked to it."""

_ADD, _PROCESS = "add", "process"
_SYSTEM = "messaging.system"
_OPERATION, _OPERATION_TYPE = "messaging.operation.name", "messaging.operation.type"
_QUEUE = "messaging.destination.name"
_ID = "messaging.message.id"
_COUNT = "messaging.batch.message_count"
_ERROR = "error.type"
_EXCEPTION = "exception"
_EXCEPTION_TYPE, _EXCEPTION_MESSAGE = "exception.type", "exception.message"
_EXCEPTION_TRACEBACK = "exception.stacktrace"
_NAME, _ATTEMPT, _ATTEMPTS = "muskox.job.name", "muskox.job.attempt", "muskox.job.attempts"
_OUTCOME = "muskox.outcome"

_WRONG = (RunEnd.RETRYING, RunEnd.FAILED, RunEnd.STALLED)
_MOST_TEXT = 600
_MOST_EVENTS = 20
# Not the propagator of the process: that one may carry baggage too, and jobs are kept and shown.
_w3c = TraceContextTextMapPropagator()


def instrument(ox: Muskox, *, runs: Relation = "child", tracer_provider: TracerProvider | None = None) -> None:
    """Have all jobs that are added, and all that run in workers made from now on, followed in traces.

    In the module that declares `ox`, so that producers, workers and the children of isolated processors do it alike.
    With `runs="link"` each attempt has a trace of its own, for jobs that run days after they were added. Without a
    `tracer_provider` it is the one of the process, which may be set later.
    """
    if runs not in get_args(Relation):
        raise OptionError(f"runs must be 'child' or 'link', not {runs!r}")
    ox.trace(_Following(trace.get_tracer("muskox", tracer_provider=tracer_provider), runs))


def uninstrument(ox: Muskox) -> None:
    """Have jobs followed no longer; traces that jobs keep already stay with them."""
    ox.trace(None)


@contextmanager
def inside(written: str) -> Iterator[None]:
    """Put what is done here into the trace that `written` tells of; in a child process, where a run is."""
    token = context.attach(_read(written) or Context())
    try:
        yield
    finally:
        context.detach(token)


class _Following:
    inside = f"{__name__}:{inside.__name__}"

    def __init__(self, tracer: Tracer, runs: Relation) -> None:
        self._tracer = tracer
        self._runs = runs

    def current(self) -> str | None:
        return _written(context.get_current())

    @contextmanager
    def adding(self, jobs: Sequence[NewJob]) -> Iterator[str | None]:
        here = self.current()
        links = _links(text for text in _traces(jobs) if text != here)
        span = self._begin(_ADD, "send", SpanKind.PRODUCER, jobs, context.get_current(), links)
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield self.current()
        except Exception as error:
            # By type alone: what a database says may quote the data of jobs.
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            span.set_attribute(_ERROR, name)
            span.set_status(Status(StatusCode.ERROR, name))
            raise
        finally:
            context.detach(token)
            _end(span)

    @contextmanager
    def running(self, jobs: Sequence[Job], *, attempts: int) -> Iterator[Callable[[Ending], None]]:
        # Empty where there is no parent: a worker may have been started within a span of somebody's.
        parent, links, added_in = Context(), list[Link](), _traces(jobs)
        if len(jobs) == 1 and self._runs == "child" and added_in:
            parent = _read(added_in[0]) or parent
        else:
            links = _links(added_in)
        span = self._begin(_PROCESS, "process", SpanKind.CONSUMER, jobs, parent, links)
        if len(jobs) == 1:
            span.set_attributes({_ATTEMPT: jobs[0].attempt, _ATTEMPTS: attempts})
        token = context.attach(trace.set_span_in_context(span, parent))
        try:
            yield lambda ending: _tell(span, ending)
        finally:
            context.detach(token)
            _end(span)

    def _begin(
        self, name: str, type: str, kind: SpanKind, jobs: Sequence[Job | NewJob], parent: Context,
        links: Sequence[Link] = (),
    ) -> Span:  # fmt: skip
        said: dict[str, Any] = {_SYSTEM: "muskox", _OPERATION: name, _OPERATION_TYPE: type}
        queues, names = {job.queue for job in jobs}, {job.name for job in jobs}
        title = name
        if len(queues) == 1:
            said[_QUEUE] = jobs[0].queue
            title = f"{name} {jobs[0].queue}"
        if len(names) == 1:
            said[_NAME] = jobs[0].name
        said |= {_ID: jobs[0].id} if len(jobs) == 1 else {_COUNT: len(jobs)}
        try:
            return self._tracer.start_span(title, context=parent, kind=kind, attributes=said, links=links)
        except Exception:  # samplers and processors of spans are foreign code, and no job may suffer from them
            log.exception("a span could not be begun")
            return INVALID_SPAN


def _tell(span: Span, ending: Ending) -> None:
    span.set_attribute(_OUTCOME, ending.end.value)
    for failure in ending.failures[:_MOST_EVENTS]:
        span.add_event(_EXCEPTION, _told(failure))
    if ending.end in _WRONG and ending.failures:
        first = ending.failures[0]
        span.set_attribute(_ERROR, first.type or first.kind.value)
        span.set_status(Status(StatusCode.ERROR, first.message))


def _told(failure: Failure) -> dict[str, str]:
    return {
        _EXCEPTION_TYPE: failure.type or failure.kind.value,
        _EXCEPTION_MESSAGE: failure.message,
        _EXCEPTION_TRACEBACK: failure.traceback,
    }


def _end(span: Span) -> None:
    try:
        span.end()
    except Exception:  # as at the beginning
        log.exception("a span could not be ended")


def _links(traces: Iterable[str]) -> list[Link]:
    read = [found for text in traces if (found := _read(text)) is not None]
    return [Link(trace.get_current_span(one).get_span_context()) for one in read]


def _traces(jobs: Sequence[Job | NewJob]) -> list[str]:
    """The traces that jobs keep, each once: jobs that were added together have the same."""
    return list(dict.fromkeys(job.options.trace for job in jobs if job.options.trace is not None))


def _written(where: Context) -> str | None:
    """A context as a job keeps it: the header `traceparent`, and after a space `tracestate` where there is one."""
    headers: dict[str, str] = {}
    _w3c.inject(headers, where)
    parent, state = headers.get("traceparent"), headers.get("tracestate")
    if parent is None or not state or len(parent) + len(state) >= _MOST_TEXT:
        return parent
    return f"{parent} {state}"


def _read(written: str) -> Context | None:
    """The context that a job keeps; None for what is none."""
    parent, _, state = written.partition(" ")
    found = _w3c.extract({"traceparent": parent, "tracestate": state}, Context())
    return found if trace.get_current_span(found).get_span_context().is_valid else None
