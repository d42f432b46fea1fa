"""Turns data, results, progress and options into JSON text and back.

JSON through msgspec, which also takes dataclasses, attrs classes, Structs,
datetimes, decimals, UUIDs, enums, sets and bytes (as base64); pydantic models
are asked for their own dump. Validation against a processor's annotations is
not done here.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from muskox.core.errors import DataError

__all__ = ["DATA_LIMIT", "decode", "encode", "plain"]

DATA_LIMIT = 1_048_576
"""Bytes of JSON that the data or the result of one job may take, unless set otherwise."""

_MAX_DEPTH = 200


def encode(value: Any, what: str = "data", *, limit: int = DATA_LIMIT) -> str:
    """Write `value` as JSON text; `what` names it in error messages.

    Raises `DataError` for what JSON cannot hold (NaN and infinity, lone
    surrogates, cycles, unknown classes) and for text of more than `limit` bytes.
    """
    try:
        text = _encoder.encode(value)
        if b"null" in text:
            _refuse_nonfinite(msgspec.to_builtins(value, enc_hook=_foreign), what)
    except DataError:
        raise
    except RecursionError:
        raise DataError(
            f"{what} contains itself or is nested too deeply for JSON; give a flat or finite value"
        ) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{what} cannot be kept as JSON: {_reason(error)}; give plain values, dataclasses or models"
        ) from None
    if len(text) > limit:
        raise DataError(
            f"{what} takes {len(text)} bytes of JSON, more than the limit of {limit}; "
            "store the large part elsewhere and give a reference to it, or raise data_limit"
        )
    return text.decode()


def decode(text: str | bytes) -> Any:
    """Read JSON text into plain values; raises `DataError` when it is damaged."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"stored JSON is damaged: {error}; the record was written by something else or cut short"
        ) from None


def plain(value: Any) -> Any:
    """Give `value` as the plain JSON values that `encode` would write."""
    return decode(_encoder.encode(value))


def _foreign(value: Any) -> Any:
    # pydantic is not a dependency: its models are known by their method.
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        try:
            return dump(value, mode="json")
        except Exception as error:  # noqa: BLE001 - a model is foreign code and may raise anything
            raise TypeError(f"{type(value).__qualname__} cannot be dumped ({type(error).__name__})") from None
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not a JSON value")


_encoder = msgspec.json.Encoder(enc_hook=_foreign)
_decoder = msgspec.json.Decoder()


def _refuse_nonfinite(value: Any, what: str, depth: int = 0) -> None:
    # msgspec writes NaN and infinity as null, which would change data silently.
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{what} contains {value}, which JSON cannot hold; use None or text instead")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse_nonfinite(item, what, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_nonfinite(item, what, depth + 1)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "text contains a lone surrogate, which UTF-8 has no form for"
    return str(error) or type(error).__name__
