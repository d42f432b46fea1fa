"""How soon an idle worker begins with a job that another process adds, and what it uses while idle.

Both processes read the same monotonic clock of the machine, so their moments compare.
"""

from __future__ import annotations

import statistics
import subprocess

import msgspec

from bench.child import ROOT, command, run
from bench.places import fresh
from bench.report import Ratio, Report

__all__ = ["latency"]

IDLE = 10.0
GOALS = {"sqlite": 10, "redis": 1.1, "postgres": 5}
"""Milliseconds of the median."""


def latency(store: str, samples: int, *, uvloop: bool = False) -> Report:
    """From `add` in one process to the first line of the processor in another, with pauses of 20 to 100 ms."""
    said = f"python -m bench latency --store {store} --jobs {samples}"
    settings: dict[str, object] = {"samples": samples, "uvloop": uvloop}
    report = Report("latency: from add to the first line of the processor in another process", said, settings)
    with fresh(store) as url:
        program = command("pickup.idle_worker", url=url, samples=samples, idle=IDLE, uvloop=uvloop)
        with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError("the worker did not start; its error stands above")
            added = run("pickup.add_slowly", url=url, samples=samples)
            seen = msgspec.json.decode(worker.stdout.read())
    for name, moments in (("from the call of add", added["before"]), ("from its return", added["after"])):
        took = sorted((end - start) / 1e6 for start, end in zip(moments, seen["begun"], strict=True))
        report.add(name, took, "ms")
        median = statistics.median(took)
        report.ratios.append(Ratio(f"median {name}", median, GOALS[store], True, "ms"))
        report.ratios.append(Ratio(f"p95 {name}", took[len(took) * 95 // 100], None, True, "ms"))
    report.ratios.append(Ratio(f"use of a core while idle, over {IDLE:g} s", seen["idle"] * 100, 2, True, "%"))
    return report
