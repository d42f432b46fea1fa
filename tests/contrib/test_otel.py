"""Traces: from the adding to each attempt, across processes, and nothing at all where nobody follows."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from muskox import ActiveJob, Fixed, Flow, Muskox, OptionError, Options, RateLimited, StoreUnavailable
from muskox.contrib.otel import instrument, uninstrument
from muskox.contrib.outbox import Outbox
from muskox.testing import FakeWorld, FlakyStore, run_jobs
from tests.apps.notifier.conftest import url_of
from tests.processes import finished
from tests.runtime.helpers import ended, until


class Spans:
    """What was told of, in the order in which it ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("shop")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span

    @property
    def outcomes(self) -> list[Any]:
        spans = self.exporter.get_finished_spans()
        return [said(span)["muskox.outcome"] for span in spans if span.kind is SpanKind.CONSUMER]


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def ox(spans: Spans) -> AsyncIterator[Muskox]:
    async with Muskox("sqlite://:memory:") as app:
        instrument(app, tracer_provider=spans.provider)
        yield app


@pytest.fixture(params=["sqlite", "postgres", "redis"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path, spans: Spans) -> AsyncIterator[Muskox]:
    """An app on each of the stores."""
    with url_of(request.param, tmp_path) as url:
        async with Muskox(url) as app:
            instrument(app, tracer_provider=spans.provider)
            yield app


# --- from the adding to the runs ----------------------------------------------------------------


async def test_mission_e1_each_attempt_is_a_span_below_that_of_the_adding(kept: Muskox, spans: Spans) -> None:
    """On each store; the last of the attempts ends well, and what a run does is below the run."""
    queue = kept.queue("email")

    @queue.processor("welcome", attempts=2, backoff=Fixed(0))
    async def welcome(job: ActiveJob) -> None:
        with spans.tracer.start_as_current_span("smtp"):
            if job.attempt == 1:
                raise ConnectionError("no answer")

    with spans.tracer.start_as_current_span("request"):
        job = await welcome.add()
    async with kept.worker(poll=0.02):
        await ended(queue, job)

    request, add, (first, second) = spans.one("request"), spans.one("add email"), spans.named("process email")
    assert (parent(request), parent(add)) == (None, ids(request))
    assert [parent(span) for span in (first, second)] == [ids(add)] * 2
    assert [parent(span) for span in spans.named("smtp")] == [ids(first), ids(second)]
    assert (add.kind, first.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {"messaging.system": "muskox", "messaging.destination.name": "email", "messaging.message.id": job.id}
    common["muskox.job.name"] = "welcome"
    assert said(add) == common | {"messaging.operation.name": "add", "messaging.operation.type": "send"}
    common |= {"messaging.operation.name": "process", "messaging.operation.type": "process", "muskox.job.attempts": 2}
    assert said(first) == common | {
        "muskox.job.attempt": 1, "muskox.outcome": "retrying", "error.type": "ConnectionError",
    }  # fmt: skip
    assert said(second) == common | {"muskox.job.attempt": 2, "muskox.outcome": "completed"}
    [event] = first.events
    assert event.name == "exception"
    assert "no answer" in str(dict(event.attributes or {})["exception.stacktrace"])
    assert [span.status.status_code for span in (first, second)] == [StatusCode.ERROR, StatusCode.UNSET]


async def test_mission_e1_a_trace_leads_through_three_processes(tmp_path: Path, spans: Spans) -> None:
    """This one adds, one works, and an isolated processor runs in a child of that one."""
    url, file = f"sqlite:///{tmp_path}/jobs.db", tmp_path / "spans"

    async with Muskox(url) as ox:
        instrument(ox, tracer_provider=spans.provider)
        await ox.queue("orders").add("pack", {}, id="o-1", attempts=2, backoff=Fixed(0))
    await finished("tests.contrib.traced", url, file)

    found = [json.loads(line) for line in file.read_text().splitlines()]
    names = [span["name"] for span in found]
    assert names == ["wrap", "process orders", "wrap", "process orders"]
    wrap, first, again, second = found
    trace, add = ids(spans.one("add orders"))
    assert {span["trace"] for span in found} == {trace}
    assert [first["parent"], second["parent"]] == [add] * 2
    assert [wrap["parent"], again["parent"]] == [first["id"], second["id"]]
    assert (first["outcome"], second["outcome"]) == ("retrying", "completed")
    assert len({os.getpid(), first["pid"], wrap["pid"]}) == 3


async def test_what_a_threaded_processor_does_is_below_its_run(ox: Muskox, spans: Spans) -> None:
    @ox.queue("files").processor()
    def resize() -> None:
        spans.tracer.start_span("read").end()

    await resize.add()
    await run_jobs(ox)

    assert parent(spans.one("read")) == ids(spans.one("process files"))


async def test_blocking_code_adds_in_its_own_trace(spans: Spans, tmp_path: Path) -> None:
    ox = Muskox(f"sqlite:///{tmp_path}/jobs.db")
    instrument(ox, tracer_provider=spans.provider)
    queue = ox.queue("email")

    def request() -> list[str | None]:
        engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.db")
        with spans.tracer.start_as_current_span("request"):
            jobs = [queue.sync.add("welcome"), *queue.sync.add_many([("welcome", None), ("welcome", None)])]
            with engine.begin() as tx:
                jobs.append(queue.sync.add("welcome", within=tx))
        engine.dispose()
        return [job.options.trace for job in jobs]

    traces = await asyncio.to_thread(request)
    await ox.close()

    adds = spans.named("add email")
    assert [parent(span) for span in adds] == [ids(spans.one("request"))] * 3
    assert said(adds[1])["messaging.batch.message_count"] == 2
    written = [f"{ids(span)[0]:032x}-{ids(span)[1]:016x}" for span in adds]
    assert [text and text[3:-3] for text in traces] == [written[0], written[1], written[1], written[2]]


async def test_with_link_each_attempt_has_a_trace_of_its_own(ox: Muskox, spans: Spans) -> None:
    instrument(ox, runs="link", tracer_provider=spans.provider)

    @ox.queue("email").processor()
    async def welcome() -> None: ...

    await welcome.add()
    await run_jobs(ox)

    run, add = spans.one("process email"), spans.one("add email")
    assert parent(run) is None
    assert ids(run)[0] != ids(add)[0]
    assert [(link.context.trace_id, link.context.span_id) for link in run.links] == [ids(add)]


async def test_a_batch_is_one_run_that_is_linked_to_every_adding(ox: Muskox, spans: Spans) -> None:
    @ox.queue("docs").processor(batch=4, wait=5)
    async def index(words: list[str]) -> list[Any]:
        return [ValueError("empty") if not word else None for word in words]

    queue = ox.queue("docs")
    await queue.add_many([("index", "a"), ("index", "b")])
    await queue.add("index", "")
    await ox.add_many([queue.new("index", "c")])
    async with ox.worker(poll=0.02):
        await until(lambda: spans.named("process docs"))

    run, adds = spans.one("process docs"), spans.named("add docs")
    assert {(link.context.trace_id, link.context.span_id) for link in run.links} == {ids(span) for span in adds}
    assert said(run)["messaging.batch.message_count"] == 4
    assert (said(run)["muskox.outcome"], said(run)["error.type"], len(run.events)) == ("failed", "ValueError", 1)


# --- how runs end -------------------------------------------------------------------------------


async def test_a_run_tells_how_it_ended(ox: Muskox, spans: Spans) -> None:
    queue = ox.queue("email")

    @queue.processor("late", timeout=0.01)
    async def late() -> None:
        await asyncio.Event().wait()

    @queue.processor("broken", attempts=1)
    async def broken() -> None:
        raise KeyError("x")

    @queue.processor("busy", attempts=3)
    async def busy(job: ActiveJob) -> None:
        if job.releases == 0:
            raise RateLimited(retry_after=0.01)

    @queue.processor("strict")
    async def strict(number: int) -> None: ...

    async with ox.worker(poll=0.02):
        for name in ("late", "broken", "busy", "strict"):
            await ended(queue, await queue.add(name, {}))

    assert spans.outcomes == ["failed", "failed", "limited", "completed", "failed"]
    errors = [said(span).get("error.type") for span in spans.named("process email")]
    assert errors == ["Timeout", "KeyError", None, None, "muskox.core.errors.DataError"]


async def test_a_run_that_a_stop_ends_was_released_and_one_that_was_cancelled_is_lost(ox: Muskox, spans: Spans) -> None:
    queue, begun = ox.queue("email"), asyncio.Event()

    @queue.processor()
    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    job = await slow.add()
    async with ox.worker(poll=0.02, shutdown_timeout=0):
        await begun.wait()
    begun.clear()
    async with ox.worker(poll=0.02, lease=0.3):
        await begun.wait()
        await queue.cancel(job.id)
        await until(lambda: len(spans.outcomes) == 2)

    assert spans.outcomes == ["released", "lost"]
    assert {span.status.status_code for span in spans.named("process email")} == {StatusCode.UNSET}


async def test_an_add_that_fails_is_an_error_without_the_words_of_the_database(ox: Muskox, spans: Spans) -> None:
    flaky = ox.wrap_store(FlakyStore)
    flaky.down = True

    with pytest.raises(StoreUnavailable):
        await ox.queue("email").add("welcome")

    add = spans.one("add email")
    assert said(add)["error.type"] == "muskox.core.errors.StoreUnavailable"
    assert (add.status.status_code, add.events) == (StatusCode.ERROR, ())


# --- what carries traces, and what begins new ones ----------------------------------------------


async def test_a_fire_of_a_schedule_begins_a_new_trace(spans: Spans) -> None:
    world = FakeWorld()
    async with Muskox("sqlite://:memory:", world=world) as ox:
        instrument(ox, tracer_provider=spans.provider)

        @ox.queue("email").processor()
        async def digest() -> None: ...

        with spans.tracer.start_as_current_span("request"):
            await ox.schedules.add_every("digest", 60, queue="email", job="digest")
            await ox.schedules.update("digest", attempts=2)
            await run_jobs(ox)
            world.advance(60)
            await run_jobs(ox)  # below a span itself, as a worker beside somebody's code may be

    assert parent(spans.one("process email")) is None


async def test_jobs_that_a_run_adds_are_below_the_run(ox: Muskox, spans: Spans) -> None:
    queue = ox.queue("shop")

    @queue.processor()
    async def order(job: ActiveJob) -> None:
        await job.add_child(queue.new("parcel"))

    @queue.processor()
    async def parcel() -> None: ...

    await order.add()
    await run_jobs(ox)

    first, second = spans.named("process shop")
    assert parent(second) == ids(first)


async def test_a_flow_and_an_outbox_keep_the_trace_in_which_jobs_were_made(spans: Spans, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    async with Muskox(f"sqlite:///{tmp_path}/jobs.db") as ox:
        instrument(ox, tracer_provider=spans.provider)
        queue = ox.queue("shop")

        @queue.processor()
        async def pay() -> None: ...

        outbox = Outbox(ox, engine)
        outbox.sync.create_tables()
        with spans.tracer.start_as_current_span("request"):
            flow = Flow()
            flow.add(queue, "pay", after=flow.add(queue, "pay"))
            await ox.flows.add(flow)
            with engine.begin() as tx:
                outbox.sync.add(tx, queue, "pay")
        await outbox.relay()
        await run_jobs(ox)
    engine.dispose()

    assert [parent(span) for span in spans.named("process shop")] == [ids(spans.one("request"))] * 3


async def test_a_job_that_moves_to_another_store_stays_in_its_trace(spans: Spans, tmp_path: Path) -> None:
    async with Muskox(f"sqlite:///{tmp_path}/a.db") as old, Muskox(f"sqlite:///{tmp_path}/b.db") as new:
        for app in (old, new):
            instrument(app, tracer_provider=spans.provider)

        @new.queue("email").processor()
        async def welcome() -> None: ...

        await old.queue("email").add("welcome")
        await old.move_to(new)
        await run_jobs(new)

    assert parent(spans.one("process email")) == ids(spans.one("add email"))


# --- harm and cost ------------------------------------------------------------------------------


class Broken(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise RuntimeError("no sample")

    def get_description(self) -> str:
        return "broken"


async def test_no_job_suffers_from_a_tracer_that_fails_or_from_a_trace_that_is_none(ox: Muskox) -> None:
    ran = []

    @ox.queue("email").processor()
    async def welcome(job: ActiveJob) -> None:
        ran.append(job.id)

    odd = ox.queue("email").new("welcome")
    store = await ox.store()
    await store.add([type(odd)(odd.id, odd.queue, odd.name, options=Options(trace="rubbish"))])
    await run_jobs(ox)
    instrument(ox, tracer_provider=TracerProvider(sampler=Broken(), shutdown_on_exit=False))
    job = await welcome.add()
    await run_jobs(ox)

    assert ran == [odd.id, job.id]


async def test_where_nobody_follows_jobs_keep_nothing_and_attempts_are_the_plain_ones(ox: Muskox, spans: Spans) -> None:
    @ox.queue("email").processor()
    async def welcome() -> None: ...

    uninstrument(ox)
    with spans.tracer.start_as_current_span("request"):
        job = await welcome.add()
    await run_jobs(ox)

    assert job.options.trace is None
    assert spans.named("process email") == []


async def test_jobs_of_many_traces_share_what_is_worked_out_once(ox: Muskox) -> None:
    @ox.queue("email").processor()
    async def welcome() -> None: ...

    worker = ox.worker(poll=0.02)
    async with worker:
        for _ in range(3):
            await ended(ox.queue("email"), await welcome.add())
        plans = len(worker._runs._plans)

    assert plans == 1


def test_a_relation_that_there_is_not_is_refused() -> None:
    with pytest.raises(OptionError, match="'child' or 'link'"):
        instrument(Muskox("sqlite://:memory:"), runs="sibling")  # type: ignore[arg-type]
