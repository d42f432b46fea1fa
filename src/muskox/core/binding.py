"""Fits the JSON data of a job to the parameters of a processor, both ways.

Built once per processor from its signature; a run then costs one validating
decode. It calls nothing and knows no job.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from muskox.core import codec
from muskox.core.errors import DataError, DeclarationError

__all__ = ["RUN_MARK", "Binding", "bind", "read_hints", "revive"]

RUN_MARK = "__muskox_run__"
"""Classes with this attribute stand for the run itself, not for a field of the data."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Binding:
    """How one function takes the data of a job; made by `bind`."""

    __slots__ = (
        "_catch_all",
        "_decoder",
        "_names",
        "_plain",
        "_run_at",
        "_signature",
        "_where",
        "run_type",
        "takes_run",
    )

    def __init__(
        self,
        signature: inspect.Signature,
        fields: Sequence[Any],
        *,
        run_at: int,
        catch_all: bool,
        plain: bool,
        where: str,
        run_type: Any = None,
    ) -> None:
        model = msgspec.defstruct("Data", fields, forbid_unknown_fields=not catch_all, kw_only=True)
        self._decoder = msgspec.json.Decoder(model, dec_hook=revive)
        self._names = model.__struct_fields__
        self._signature = signature
        self._run_at = run_at
        self._catch_all = catch_all
        self._plain = plain
        self._where = where
        self.takes_run = run_at >= 0
        """Whether one of the parameters is the run (an `ActiveJob`)."""
        self.run_type = run_type
        """How that parameter is annotated; None where it is not, or there is none."""

    def arguments(self, data_text: str, run: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Turn the JSON text of a job's data into positional and keyword arguments, `run` among them.

        Raises `DataError`, naming the field, when the data does not fit.
        """
        if not self._names and not self._catch_all:
            return ((run,) if self._run_at >= 0 else ()), {}
        if data_text == "null":
            data_text = "{}"  # a job added without data has no fields, and need not have any
        try:
            values = self._decoder.decode(data_text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(f"data does not fit {self._where}: {error}") from None
        if self._plain:
            found = msgspec.structs.astuple(values)
            if self._run_at < 0:
                return found, {}
            return (*found[: self._run_at], run, *found[self._run_at :]), {}
        return self._spread(data_text, values, run)

    def data(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the arguments of a call without its run into the data of a job.

        Raises `DataError` when they do not fit the parameters or their annotations.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise DataError(f"arguments do not fit {self._where}: {error}") from None
        fields: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                fields.update(value)
            else:
                fields[name] = value
        return fields

    def check(self, data_text: str) -> None:
        """Raise `DataError` unless the JSON text fits the parameters."""
        if self._names:
            self.arguments(data_text)

    def _spread(self, data_text: str, values: Any, run: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        found = {name: getattr(values, name) for name in self._names}
        if self._catch_all:
            found = {**codec.decode(data_text), **found}
        positional: list[Any] = []
        for name, parameter in self._signature.parameters.items():
            if parameter.kind in _POSITIONAL:
                positional.append(found.pop(name))
        if self._run_at >= 0:
            positional.insert(self._run_at, run)
        return tuple(positional), found


def bind(function: Callable[..., Any], where: str) -> Binding:
    """Read the signature of a processor; `where` names it in messages.

    A leading `self` must be bound already. Raises `DeclarationError` for annotations
    that cannot be resolved or are not JSON-able, and for `*args`.
    """
    signature = inspect.signature(function)
    hints = read_hints(function, where)
    fields: list[Any] = []
    kept: list[inspect.Parameter] = []
    run_at, catch_all, plain, run_type = -1, False, True, None
    for position, parameter in enumerate(signature.parameters.values()):
        annotation = hints.get(parameter.name, Any)
        if _is_run(parameter, annotation, first=position == 0):
            if parameter.kind not in _POSITIONAL:
                raise DeclarationError(f"{where}: the run {parameter.name!r} must be a positional parameter")
            run_at, run_type = position, None if annotation is Any else annotation
            continue
        kept.append(parameter)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise DeclarationError(f"{where}: *{parameter.name} has no place in JSON data; name the parameters")
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            catch_all, plain = True, False
            continue
        plain = plain and parameter.kind in _POSITIONAL
        fields.append(_field(parameter, annotation))
    try:
        return Binding(
            signature.replace(parameters=kept, return_annotation=signature.empty),
            fields,
            run_at=run_at,
            catch_all=catch_all,
            plain=plain,
            where=where,
            run_type=run_type,
        )
    except TypeError as error:
        raise DeclarationError(f"{where}: an annotation cannot be read from JSON: {error}") from None


def read_hints(function: Callable[..., Any], where: str) -> dict[str, Any]:
    """The annotations of a function; raises `DeclarationError` when they cannot be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # noqa: BLE001 - annotations are foreign code and may fail in any way
        raise DeclarationError(
            f"{where}: its annotations cannot be resolved ({error}); "
            "import the types at run time, not under TYPE_CHECKING, and at module level"
        ) from None


def _is_run(parameter: inspect.Parameter, annotation: Any, *, first: bool) -> bool:
    if hasattr(annotation, RUN_MARK):
        return True
    return first and annotation is Any and parameter.annotation is parameter.empty and parameter.name == "job"


def _field(parameter: inspect.Parameter, annotation: Any) -> Any:
    if parameter.default is parameter.empty:
        return (parameter.name, annotation)
    default = parameter.default
    if isinstance(default, list | dict | set):
        return (parameter.name, annotation, msgspec.field(default_factory=lambda: type(default)(default)))
    return (parameter.name, annotation, default)


def revive(kind: type[Any], value: Any) -> Any:
    """Make a value of a class that msgspec does not know, for a decoder's `dec_hook`."""
    # pydantic is not a dependency: its models are known by their method.
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise TypeError(f"{kind.__qualname__} cannot be read from JSON")
    try:
        return validate(value)
    except ValueError as error:
        raise ValueError(_in_a_line(error)) from None


def _in_a_line(error: ValueError) -> str:
    """What pydantic found wrong, without the data, which its own text shows."""
    found = getattr(error, "errors", None)
    if not callable(found):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found())
