"""A worker whose jobs are followed, in processes of its own: it runs the job `o-1` to its end.

It and its child append the spans that they end to the file, as lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from muskox import Fixed, Muskox, SyncActiveJob
from muskox.contrib.otel import instrument

# The child of an isolated processor imports this with the environment of its worker.
url, file = sys.argv[1:] if len(sys.argv) == 3 else os.environ["TRACED"].split(" ")
os.environ["TRACED"] = f"{url} {file}"


class ToFile(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(file).open("a") as out:
            for span in spans:
                assert span.context is not None
                told = {
                    "name": span.name,
                    "trace": span.context.trace_id,
                    "id": span.context.span_id,
                    "parent": span.parent and span.parent.span_id,
                    "pid": os.getpid(),
                    "outcome": (span.attributes or {}).get("muskox.outcome"),
                }
                out.write(json.dumps(told) + "\n")
        return SpanExportResult.SUCCESS


provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(ToFile()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")

ox = Muskox(url)
instrument(ox)
orders = ox.queue("orders")


@orders.processor("pack", attempts=2, backoff=Fixed(0), isolated=True)
def pack(job: SyncActiveJob) -> None:
    with tracer.start_as_current_span("wrap"):
        if job.attempt == 1:
            raise RuntimeError("no paper")


async def work() -> None:
    """Run until the job has ended."""
    async with ox.worker(poll=0.02):
        await orders.result("o-1")
    await ox.close()


if __name__ == "__main__":
    asyncio.run(work())
