"""What a worker and its child processes say to each other, and how it is framed.

Plain records, each sent as four bytes of length and then MessagePack. Who sends
what when is not said here; see `children.py` and `child.py`.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from muskox.core.codec import DATA_LIMIT
from muskox.core.failure import Failure
from muskox.core.job import Job, NewJob
from muskox.core.life import Hold

__all__ = [
    "HEADER",
    "Above",
    "Answer",
    "Begun",
    "Branch",
    "Broke",
    "ChildTask",
    "Ended",
    "FromChild",
    "Said",
    "Spared",
    "Step",
    "ToChild",
    "Told",
    "Wire",
]

HEADER = 4
"""Bytes of length in front of each message."""


class ChildTask(msgspec.Struct, frozen=True, tag="run"):
    """One run of an isolated processor: where its function is, and the job.

    `main_path` is the program's file when the function stands in `__main__`, `attempts` how many are
    allowed once the processor has had its say. `trace` says where what puts
    the run into its trace is found, and which that is.
    """

    module: str
    qualname: str
    job: Job
    attempts: int = 1
    main_path: str | None = None
    sys_path: tuple[str, ...] = ()
    data_limit: int = DATA_LIMIT
    trace: tuple[str, str] | None = None


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What became of something told; `lost` when the run may no longer speak, `trouble` when it could not be kept.

    `wrong` says what is not allowed, `value` is the kept result of a step that was begun.
    """

    lost: bool = False
    trouble: str = ""
    wrong: str = ""
    value: str | None = None


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The child has the task; whatever happens from here on happens to the job."""


class Told(msgspec.Struct, frozen=True, tag="told"):
    """What the run tells about its job: progress and data as JSON text, lines for its log. Wants an `Answer`."""

    progress: str | None = None
    data: str | None = None
    lines: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True, tag="step"):
    """A step of the run begins, or is done with this result (JSON text), or has failed. Wants an `Answer`."""

    name: str
    result: str | None = None
    failed: bool = False


class Branch(msgspec.Struct, frozen=True, tag="branch"):
    """The run adds jobs, with these ids where they are `named`. Wants an `Answer`, whose value is the jobs as JSON."""

    jobs: tuple[NewJob, ...]
    named: bool = False


class Above(msgspec.Struct, frozen=True, tag="above"):
    """The run asks for the parents of its job. Wants an `Answer`, whose value is these as JSON."""


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The processor returned. `memory` is what the child takes now, in bytes."""

    result: str | None
    unkept: Failure | None
    memory: int


class Spared(msgspec.Struct, frozen=True, tag="spared"):
    """The processor raised `RateLimited`, with these. `memory` is what the child takes now, in bytes."""

    retry_after: float
    hold: Hold
    memory: int


class Broke(msgspec.Struct, frozen=True, tag="broke"):
    """The processor raised, or could not be called. `memory` is what the child takes now, in bytes."""

    failure: Failure
    memory: int


ToChild = ChildTask | Answer
Said = Told | Step | Branch | Above
"""What wants an `Answer`."""
FromChild = Begun | Said | Ended | Spared | Broke

T = TypeVar("T")


class Wire(Generic[T]):
    """Turns messages into frames, and the bodies of frames into messages of one direction."""

    def __init__(self, kind: type[T]) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def frame(self, message: msgspec.Struct) -> bytes:
        body = self._encoder.encode(message)
        return len(body).to_bytes(HEADER, "big") + body

    def length(self, header: bytes) -> int:
        return int.from_bytes(header, "big")

    def read(self, body: bytes) -> T:
        return self._decoder.decode(body)
