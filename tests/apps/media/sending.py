"""A client of the tus protocol for the tests, as far as it is not httpx, and what it sends."""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass
from typing import Any

import httpx

from tests.apps.media.drawing import encoded, scene

MIB = 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}


def word(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def sum_of(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"}


def photo_of(size: int) -> bytes:
    """A sound picture of exactly so many bytes: what stands behind the end of a JPEG is nobody's concern."""
    head = encoded(scene(640, 480))
    return head + random.Random(16).randbytes(size - len(head))


@dataclass
class Sender:
    """A client of the protocol, as far as it is not httpx."""

    http: httpx.AsyncClient

    async def begin(self, length: int, body: bytes | None = None, **headers: str) -> httpx.Response:
        if body is not None:
            headers["Content-Type"] = "application/offset+octet-stream"
        return await self.http.post(
            "/uploads", content=body, headers={**TUS, "Upload-Length": str(length), **dashed(headers)}
        )

    async def begun(self, data: bytes, **headers: str) -> str:
        answer = await self.begin(len(data), **headers)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"]

    async def piece(self, at: str, offset: int, data: Any, **headers: str) -> httpx.Response:
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        return await self.http.patch(at, content=data, headers={**TUS, **kind, **dashed(headers)}, timeout=60)

    async def look(self, at: str) -> httpx.Response:
        return await self.http.head(at, headers=TUS)

    async def offset(self, at: str) -> int:
        answer = await self.look(at)
        assert answer.status_code == 200
        return int(answer.headers["upload-offset"])


def dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
