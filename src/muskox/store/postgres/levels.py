"""What each level of durability asks of the server, verb by verb. The figures are in docs/decisions/postgresql.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from muskox.store.postgres.location import LEVELS

__all__ = ["Levels"]


@dataclass(frozen=True, slots=True)
class Levels:
    """Values of `synchronous_commit`; empty leaves it to the server.

    `claim` is for what a crash may undo at the price of a run that is done again: claims, renewals, notes and
    beats. `move` is for what is found and done again: promotion, recovery, clearing.
    """

    add: str
    settle: str
    claim: str
    move: str

    @classmethod
    def of(cls, durability: str) -> Self:
        """The values for one of the levels that a URL may ask for."""
        assert durability in LEVELS, "the URL was checked"
        match durability:
            case "fsync" | "replicated":
                # With synchronous standbys, which `replicated` insists on, "on" waits for them too.
                return cls("on", "on", "on", "on")
            case _:
                return cls("", "", "off", "off")
