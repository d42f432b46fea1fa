"""Fits the data of many jobs to the one parameter of a processor that takes batches.

The counterpart of `binding.py`, whose promises it keeps for each job of a batch.
It calls nothing and knows no job.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from muskox.core.binding import RUN_MARK, Binding, read_hints, revive
from muskox.core.errors import DataError, DeclarationError

__all__ = ["BatchBinding", "bind_batch"]

_LISTS = (list, Sequence)


class BatchBinding(Binding):
    """How a function takes a batch: as a list of runs, or as a list of data; made by `bind_batch`."""

    __slots__ = ("_item",)

    def __init__(self, kind: Any, where: str) -> None:
        self.takes_run = hasattr(kind, RUN_MARK)
        self.run_type = kind if self.takes_run else None
        self._item = msgspec.json.Decoder(Any if self.takes_run else kind, dec_hook=revive)
        self._where = where

    def arguments(self, data_text: str, run: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What stands for one job in the list: its run or its data; raises `DataError` when the data does not fit."""
        return (run if self.takes_run else self.item(data_text),), {}

    def item(self, data_text: str) -> Any:
        """The data of one job as its place in the list wants it; raises `DataError` when it does not fit."""
        try:
            return self._item.decode(data_text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(f"data does not fit {self._where}: {error}") from None

    def data(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The data of a job from a call of `add`: its one argument, or its fields by name."""
        if len(args) + bool(kwargs) != 1:
            raise DataError(f"{self._where} takes batches: give the data of one job, or its fields by name")
        return args[0] if args else dict(kwargs)

    def check(self, data_text: str) -> None:
        """Raise `DataError` unless the JSON text fits."""
        self.item(data_text)


def bind_batch(function: Callable[..., Any], where: str) -> BatchBinding:
    """Read the signature of a processor that takes batches; raises `DeclarationError` unless it has one list."""
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1 or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):  # fmt: skip
        raise DeclarationError(f"{where} takes batches: give it one parameter, such as jobs: list[ActiveJob]")
    annotation = read_hints(function, where).get(parameters[0].name, list)
    kind, given = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind not in _LISTS:
        raise DeclarationError(
            f"{where} takes batches: annotate {parameters[0].name} as a list, such as list[ActiveJob] or list[dict]"
        )
    try:
        return BatchBinding(given[0] if given else Any, where)
    except TypeError as error:
        raise DeclarationError(f"{where}: an annotation cannot be read from JSON: {error}") from None
