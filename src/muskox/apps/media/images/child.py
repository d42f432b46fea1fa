"""The process that decodes: reads orders from its input, answers on its output, and touches nothing else.

Started by `pool.py`, used again and again, and ended by it. It stands for one
worker, knows no store and no secret, and may crash at any moment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from muskox.apps.media.errors import MediaError, Reason, Refused
from muskox.apps.media.images.confine import allow_cpu, confine
from muskox.apps.media.images.pixels import ENGINE, look, make
from muskox.apps.media.images.wire import Bad, Done, FromChild, Make, ToChild

__all__ = ["main"]


def main() -> NoReturn:
    """Serve orders until the input ends; parent, bytes of memory and of output come from the command line."""
    parent, memory, output_bytes = (int(text) for text in sys.argv[1:4])
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    confine(parent, memory=memory, output_bytes=output_bytes)
    decoder: msgspec.json.Decoder[ToChild] = msgspec.json.Decoder(ToChild)
    for line in sys.stdin.buffer:
        order = decoder.decode(line)
        allow_cpu(order.limits.cpu)
        _say(answers, _carry_out(order, answers))
    sys.exit(0)


def _carry_out(order: ToChild, answers: BinaryIO) -> Done | Bad:
    try:
        if isinstance(order, Make):
            found = make(order, lambda said: _say(answers, said))
        else:
            found = look(Path(order.path), order.format, order.limits)
    except MediaError as error:
        return Bad(error.reason, error.text, isinstance(error, Refused))
    except MemoryError:
        return Bad(Reason.OUT_OF_MEMORY, "the picture needs more memory than it may have", final=False)
    except OSError as error:
        return Bad(Reason.IO_ERROR, error.strerror or "the disk gave no answer", final=False)
    return Done(found.size.width, found.size.height, found.frames, found.facts, ENGINE)


def _say(answers: BinaryIO, said: FromChild) -> None:
    answers.write(msgspec.json.encode(said) + b"\n")
