"""Commands about limits: show and change those of a queue or a key, and hold either."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from muskox import KeyState, Muskox, QueueLimits, Rate
from muskox.cli import render
from muskox.cli.family import AS_JSON, OnStore, on_store, speak

__all__ = ["hold", "limits"]

_RATE = re.compile(r"(\d+)(?:/(\d+(?:\.\d+)?))?(?:\+(\d+))?")


def _rate(_: click.Context, __: click.Parameter, said: str | None) -> Any:
    found = _RATE.fullmatch(said or "")
    if found is None:
        return _word(said, "100/60 (so many per seconds, +20 for a burst)")
    return Rate(int(found[1]), float(found[2] or 1), None if found[3] is None else int(found[3]))


def _number(_: click.Context, __: click.Parameter, said: str | None) -> Any:
    return int(said) if said is not None and said.isdecimal() else _word(said, "a whole number")


def _word(said: str | None, wanted: str) -> str | None:
    """What is said in place of a limit; None when nothing is."""
    if said not in (None, "none", "unlimited"):
        raise click.BadParameter(f"{said[:60]!r} is not {wanted}, nor none")
    return said


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.option("--key", help="Show or change what holds for this key, and not for the queue.")
@click.option("--rate", callback=_rate, metavar="N/SECONDS[+BURST]", help="How many start, such as 100/60.")
@click.option("--concurrency", callback=_number, metavar="N", help="How many run at once, over all workers.")
@click.option("--key-rate", callback=_rate, metavar="N/SECONDS[+BURST]", help="How many of each key start.")
@click.option("--key-concurrency", callback=_number, metavar="N", help="How many of each key run at once.")
@click.option("--weight", type=int, help="With --key: how many turns it has for each turn of others.")
@AS_JSON
def limits(ox: Muskox, queue: str, *, key: str | None, as_json: bool, **given: Any) -> None:
    """Show what limits QUEUE, or change what is named.

    None takes a limit away; of a key it goes back to what the queue says, and unlimited is no limit. It holds for all
    workers at once, and until the program declares other limits.
    """
    changes: Any = {name: None if said == "none" else said for name, said in given.items() if said is not None}

    async def work(ox: Muskox) -> QueueLimits | KeyState:
        found = ox.queue(queue)
        if key is None:
            return await (found.set_limits(**changes) if changes else found.limits())
        return await (found.set_key(key, **changes) if changes else found.key(key))

    state = speak(ox, work)
    if as_json:
        click.echo(render.to_json(_record(state)))
    else:
        render.say("\n".join(f"{name:<15} {said}" for name, said in _facts(state) if said is not None))


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("seconds", type=float)
@click.option("--key", help="Hold this key alone.")
@AS_JSON
def hold(ox: Muskox, queue: str, seconds: float, *, key: str | None, as_json: bool) -> None:
    """Have no job of QUEUE start for so many SECONDS; 0 ends a hold.

    Running jobs go on. A hold that lasts longer stays.
    """
    speak(ox, lambda ox: ox.queue(queue).hold(seconds, key=key))
    what = f"queue {queue}" if key is None else f"key {key} of queue {queue}"
    said = f"{what} is held for {seconds:g} seconds" if seconds else f"{what} is not held any more"
    render.answer(said, {"queue": queue, "key": key, "seconds": seconds}, as_json=as_json)


def _facts(state: QueueLimits | KeyState) -> list[tuple[str, object]]:
    both = [("next start", state.next_at), ("held until", state.held_until)]
    if isinstance(state, KeyState):
        return [
            ("key", state.key), ("rate", _said(state.rate)), ("concurrency", _said(state.concurrency)),
            ("weight", state.own.weight), ("active", state.active), ("waiting", state.waiting),
            ("blocked", state.blocked), *both,
        ]  # fmt: skip
    its = state.limits
    return [
        ("queue", state.queue), ("rate", _said(its.rate)), ("concurrency", _said(its.concurrency)),
        ("key rate", _said(its.key_rate)), ("key concurrency", _said(its.key_concurrency)), ("active", state.active),
        *both,
    ]  # fmt: skip


def _said(limit: Rate | int | None) -> str:
    if isinstance(limit, Rate):
        return f"{limit.limit} per {limit.per:g} s, {limit.size} at once"
    return "none" if limit is None else str(limit)


def _record(state: QueueLimits | KeyState) -> dict[str, Any]:
    fields = msgspec.structs.asdict(state)
    for name in ("now_us", "next_us", "held_until_us"):
        fields.pop(name, None)
    return {**fields, "next_at": state.next_at, "held_until": state.held_until}
