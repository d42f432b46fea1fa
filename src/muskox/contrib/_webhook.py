"""Sends alerts to a URL, signed so that the receiver can tell that they are ours and not old.

The signature is that of Standard Webhooks (standardwebhooks.com), for which
there are libraries in most languages. It follows no redirect and tries once;
trying again is the job's.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import urllib.parse
import urllib.request
from http.client import HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError

import msgspec

from muskox import MuskoxError, OptionError

__all__ = ["Webhook", "WebhookRefused", "sign"]

_TIMEOUT = 10.0
_SHORTEST_KEY = 24


class WebhookRefused(MuskoxError):
    """The receiver did not take an alert."""


class Webhook:
    """Tells a URL of alerts by POST. `secret` is `whsec_…` or at least 24 characters of base64."""

    def __init__(self, url: str, *, secret: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError("the URL of a webhook must begin with https:// or http:// and have a host")
        self._url = url
        self._key = _key(secret)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __repr__(self) -> str:
        return f"<Webhook {urllib.parse.urlsplit(self._url).hostname}>"

    async def __call__(self, alert: Any) -> None:
        """Send it; raises `WebhookRefused` unless the answer is 2xx."""
        body = msgspec.json.encode({"type": f"alert.{alert.state}", "timestamp": alert.at, "data": alert})
        id, at = f"{alert.incident}-{alert.state}", str(int(alert.at.timestamp()))
        headers = {
            "Content-Type": "application/json", "User-Agent": "muskox", "webhook-id": id, "webhook-timestamp": at,
            "webhook-signature": sign(self._key, id, at, body),
        }  # fmt: skip
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 - checked above
        await asyncio.to_thread(self._send, request)

    def _send(self, request: urllib.request.Request) -> None:
        try:
            with self._opener.open(request, timeout=_TIMEOUT):
                return
        except HTTPError as error:
            error.close()
            said = f"answered {error.code}"
        except OSError as error:
            said = f"gave no answer ({type(error).__name__})"
        # Not from the error, which knows the whole URL.
        raise WebhookRefused(f"webhook of {urllib.parse.urlsplit(self._url).hostname} {said}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as a refusal: an alert goes where it was meant to go."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def sign(key: bytes, id: str, at: str, body: bytes) -> str:
    """The signature of a message, as its header has it."""
    digest = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SHORTEST_KEY * 3 // 4:
        raise OptionError("the secret of a webhook must be at least 24 characters of base64, with or without whsec_")
    return key
