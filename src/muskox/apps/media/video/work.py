"""What the making of one video's outputs has in common: the task, the source, and a step that is run and told of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from muskox.apps.media.video.commands import Source
from muskox.apps.media.video.probe import Prober
from muskox.apps.media.video.studio import Studio
from muskox.apps.media.video.telling import Telling
from muskox.apps.media.workshop import Task

__all__ = ["DECODING", "Work", "pixels"]

DECODING = 0.3
"""What decoding a pixel costs, measured by encoding one."""


@dataclass(frozen=True, slots=True)
class Work:
    """One order that is carried out now."""

    task: Task
    source: Source
    studio: Studio
    prober: Prober
    telling: Telling

    async def step(self, name: str, argv: Sequence[str], *, weight: float, duration: float | None) -> str:
        """Run a command and tell of it; gives what it complained of."""
        await self.telling.begin(name, weight, duration)
        complaint = await self.studio.run(argv, self.telling.heard)
        await self.telling.end()
        return complaint

    async def skip(self, weight: float) -> None:
        """Count as done what an earlier attempt has kept."""
        await self.telling.begin("kept", weight, 0)
        await self.telling.end()


def pixels(size: tuple[int, int]) -> float:
    """Megapixels of a picture, the unit in which work is weighed."""
    return size[0] * size[1] / 1e6
