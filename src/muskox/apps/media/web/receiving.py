"""Reads a file out of the body of a request while it comes in: the body itself, or one part of a form.

Nothing is gathered but what is small. What the file is, and how large it may
be, is for `Media.receive` to say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from muskox.apps.media.errors import BadOptions
from muskox.apps.media.media import Media, Received
from muskox.apps.media.web.problems import Malformed, TooSlow

__all__ = ["PATIENCE", "patiently", "receive_upload"]

PATIENCE = 30.0
"""For so many seconds a sender may send nothing."""

_MOST_TEXT = 65_536
_MOST_PARTS = 8


@dataclass(slots=True)
class _Part:
    """A part of a form, as far as it has come in."""

    headers: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self._option(b"name")

    @property
    def filename(self) -> str:
        return self._option(b"filename")

    def _option(self, option: bytes) -> str:
        _, options = parse_options_header(self.headers.get("content-disposition", ""))
        return options.get(option, b"").decode("utf-8", "replace")


_Event = _Part | bytes | None
"""A part begins, a piece of it, and its end."""


async def receive_upload(request: Request, media: Media) -> tuple[Received, Any]:
    """Receive the file of a request, and give it with what shall be made of it (None: nothing was said).

    Raises `Malformed` and `TooSlow` beside what `Media.receive` raises.
    """
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdecimal() else None
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        boundary = options.get(b"boundary", b"")
        if not boundary or len(boundary) > 200:
            raise Malformed("a form needs a boundary")
        return await _from_form(request, media, boundary)
    name = request.query_params.get("name", "")
    received = await media.receive(patiently(request), name=name, length=length)
    try:
        return received, _operations(request.query_params.get("operations"))
    except BaseException:
        await asyncio.to_thread(received.drop)
        raise


async def _from_form(request: Request, media: Media, boundary: bytes) -> tuple[Received, Any]:
    received: Received | None = None
    operations: Any = None
    parts = 0
    events = _events(request, boundary)
    try:
        async for event in events:
            if not isinstance(event, _Part):
                continue
            parts += 1
            if parts > _MOST_PARTS:
                raise Malformed("the form has too many parts")
            if event.name == "file":
                if received is not None:
                    raise Malformed("the form has more than one file; send one at a time")
                received = await media.receive(_rest(events), name=event.filename)
            elif event.name == "operations":
                operations = _operations(await _text(events))
            else:
                await _text(events)
        if received is None:
            raise Malformed("the form has no part named file")
    except BaseException:
        if received is not None:
            await asyncio.to_thread(received.drop)
        raise
    return received, operations


async def _rest(events: AsyncIterator[_Event]) -> AsyncGenerator[bytes, None]:
    """The pieces of the part that has begun."""
    async for event in events:
        if isinstance(event, bytes):
            yield event
        elif event is None:
            return
    raise Malformed("the form ends in the middle of a part")


async def _text(events: AsyncIterator[_Event]) -> str:
    found = b""
    async for piece in _rest(events):
        found += piece
        if len(found) > _MOST_TEXT:
            raise Malformed("a part of the form that is no file is too long")
    return found.decode("utf-8", "replace")


async def _events(request: Request, boundary: bytes) -> AsyncGenerator[_Event, None]:
    parser = _Parser(boundary)
    try:
        async for block in patiently(request):
            for event in parser.feed(block):
                yield event
        if not parser.ended:
            raise Malformed("the form has no end")
    except FormParserError as error:
        raise Malformed("the form cannot be read") from error


class _Parser:
    """Turns pieces of a body into events."""

    def __init__(self, boundary: bytes) -> None:
        self._found: list[_Event] = []
        self._part = _Part()
        self._name, self._value = b"", b""
        self.ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": lambda: self._found.append(self._part),
                "on_part_data": lambda data, start, end: self._found.append(data[start:end]),
                "on_part_end": lambda: self._found.append(None),
                "on_end": self._end,
            },
        )

    def feed(self, block: bytes) -> list[_Event]:
        self._found = []
        self._parser.write(block)
        return self._found

    def _begin(self) -> None:
        self._part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check()

    def _check(self) -> None:
        if len(self._name) + len(self._value) > 8192 or len(self._part.headers) > 16:
            raise Malformed("a part of the form has too long a head")

    def _header_end(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name, self._value = b"", b""

    def _end(self) -> None:
        self.ended = True


async def patiently(request: Request) -> AsyncGenerator[bytes, None]:
    """The pieces of a body; raises `TooSlow` where none comes for too long, `Malformed` where it breaks off."""
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise TooSlow(f"nothing came for {PATIENCE:g} seconds") from None
        except ClientDisconnect:
            raise Malformed("the sender went away") from None
        if piece is None:
            return
        if piece:
            yield piece


def _operations(text: str | None) -> Any:
    if text is None or not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise BadOptions("operations is no JSON", "/operations") from None
