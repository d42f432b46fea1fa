"""Reads the body of a request before the application does, within a limit, and gives it to it again."""

from __future__ import annotations

from starlette.types import Message, Receive

__all__ = ["BodyTooLarge", "replayed", "whole_body"]


class BodyTooLarge(Exception):
    """The body has more bytes than it may have."""


async def whole_body(receive: Receive, most: int) -> bytes:
    """Read a body to its end; raises `BodyTooLarge` beyond `most` bytes."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > most:
            raise BodyTooLarge
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
