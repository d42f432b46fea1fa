"""Hides secrets in what is shown: by the names of fields, by marks in code, and wherever their values turn up again.

What is stored is not touched. It works on plain JSON values and text, and asks
no store.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from muskox import SECRET, Job, Muskox

__all__ = ["MASK", "Masks", "restored"]

MASK = "••••••"
"""What stands in the place of a secret."""

_DEEPEST = 60
_TOO_DEEP = "… (nested too deeply to be shown)"
_NAMES = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey", "authorization",
    "cookie", "credential", "sessionid", "cardnumber", "creditcard", "cvv", "cvc", "iban", "ssn", "otp", "pin",
)  # fmt: skip
_WHOLE = {"cvv", "cvc", "iban", "ssn", "otp", "pin"}
"""Names that are too short to be looked for within others."""
_MOST_SECRETS = 200
"""Of a job with more secrets than these no text is shown, since looking for each of them would take too long."""

# Each part has a length at which it ends, so that no text, however made, takes more than linear time.
_ASSIGNED = re.compile(
    r"""(?ix) ( (?: password | passwd | passphrase | secret | token | api[_-]?key | access[_-]?key | private[_-]?key
        | credential | authorization | cookie ) [\w-]{0,40} ["']? \s{0,9} [:=] \s{0,9} (?: bearer \s{1,9} )? )
        ( "[^"\n]{0,4000}" | '[^'\n]{0,4000}' | [^\s,;&)}\]]{1,4000} )"""
)
_IN_URL = re.compile(r"(?i)([a-z0-9+.-]{1,30}://[^\s/:@]{0,200}:)[^\s/@]{1,200}@")
_BEARER = re.compile(r"(?i)\b(bearer\s{1,9})[\w.~+/=-]{8,4000}")


class Masks:
    """What is hidden of the jobs of one program: fields by their names, and parameters annotated `Secret[…]`.

    `names` are further names of fields, compared without case, `_` and `-`, anywhere in a name.
    """

    def __init__(self, ox: Muskox, names: Iterable[str] = ()) -> None:
        self._ox = ox
        self._names = (*(name for name in _NAMES if name not in _WHOLE), *(_plain(name) for name in names))
        self._marked: dict[Any, frozenset[str]] = {}

    def of(self, job: Job) -> Mask:
        """How to show this job."""
        marked = self._marks(job.queue, job.name)
        return Mask(self._is_secret, marked, lambda: job.data)

    def value(self, value: Any) -> Any:
        """A value of which no job is known, by the names of its fields alone."""
        return Mask(self._is_secret, frozenset(), lambda: None).value(value)

    def _is_secret(self, name: str) -> bool:
        plain = _plain(name)
        return plain in _WHOLE or any(part in plain for part in self._names)

    def _marks(self, queue: str, name: str) -> frozenset[str]:
        declared = self._ox.registry.find(queue, name)
        if declared is None:
            return frozenset()
        if declared.function not in self._marked:
            self._marked[declared.function] = frozenset(_marked(declared.function))
        return self._marked[declared.function]


class Mask:
    """How one job is shown. The secret values in its data are hidden in text too, such as errors and log lines."""

    def __init__(self, is_secret: Callable[[str], bool], marked: Collection[str], data: Callable[[], Any]) -> None:
        self._is_secret = is_secret
        self._marked = marked
        self._data = data
        self._found: list[str] | None = None

    def value(self, value: Any) -> Any:
        """A JSON value with its secrets hidden."""
        return self._masked(value, 0)

    def text(self, text: str) -> str:
        """Text of people and programs, with what looks like a secret hidden, and the secrets of the job."""
        if len(self._secrets()) > _MOST_SECRETS:
            return MASK
        for secret in self._secrets():
            text = text.replace(secret, MASK)
        text = _IN_URL.sub(rf"\1{MASK}@", text)
        text = _ASSIGNED.sub(rf"\1{MASK}", text)
        return _BEARER.sub(rf"\1{MASK}", text)

    def _masked(self, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            return _TOO_DEEP
        match value:
            case dict():
                return {
                    key: MASK if self._hides(key) and item is not None else self._masked(item, depth + 1)
                    for key, item in value.items()
                }
            case list():
                return [self._masked(item, depth + 1) for item in value]
            case str():
                return self.text(value)
            case _:
                return value

    def _hides(self, name: str) -> bool:
        return name in self._marked or self._is_secret(name)

    def _secrets(self) -> list[str]:
        """The secret values of the job's data, longest first; short ones would hide half the text."""
        if self._found is None:
            self._found = []
            found: set[str] = set()
            self._gather(self._data(), found, 0, hidden=False)
            self._found = sorted(found, key=len, reverse=True)
        return self._found

    def _gather(self, value: Any, found: set[str], depth: int, *, hidden: bool) -> None:
        if depth > _DEEPEST:
            return
        match value:
            case dict():
                for key, item in value.items():
                    self._gather(item, found, depth + 1, hidden=hidden or self._hides(key))
            case list():
                for item in value:
                    self._gather(item, found, depth + 1, hidden=hidden)
            case str() if hidden and len(value) >= 4:
                found |= {value, repr(value)[1:-1], msgspec.json.encode(value).decode()[1:-1]}
            case int() | float() if hidden and not isinstance(value, bool) and len(str(value)) >= 4:
                found.add(str(value))
            case _:
                pass


def restored(edited: Any, stored: Any) -> Any:
    """Put the secrets of `stored` back where `edited` still has the mask, so that saving what was shown loses none."""
    if edited == MASK:
        return stored
    if isinstance(edited, dict) and isinstance(stored, dict):
        return {key: restored(item, stored.get(key)) for key, item in edited.items()}
    if isinstance(edited, list) and isinstance(stored, list):
        padded = [*stored, *[None] * len(edited)]
        return [restored(item, old) for item, old in zip(edited, padded, strict=False)]
    return edited


def _plain(name: str) -> str:
    return re.sub(r"[_\-\s]", "", name).lower()


def _marked(function: Any) -> Iterable[str]:
    """The names of parameters, and of fields of records among them, that are annotated `Secret[…]`."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are foreign code; what cannot be read was refused when declared
        return
    seen: set[Any] = set()
    for name, hint in hints.items():
        yield from _marks_in(name, hint, seen)


def _marks_in(name: str, hint: Any, seen: set[Any]) -> Iterable[str]:
    if SECRET in getattr(hint, "__metadata__", ()):
        yield name
    for part in typing.get_args(hint):
        if part is not SECRET:
            yield from _marks_in(name, part, seen)
    if isinstance(hint, type) and hint not in seen and _has_fields(hint):
        seen.add(hint)
        fields: Mapping[str, Any] = typing.get_type_hints(hint, include_extras=True)
        for field, of in fields.items():
            yield from _marks_in(field, of, seen)


def _has_fields(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct) or hasattr(kind, "model_fields")
