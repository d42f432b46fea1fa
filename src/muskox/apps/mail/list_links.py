"""The links by which people leave a list, as headers and as values for templates.

They are derived while a mail is rendered, the same for each attempt, and lie in
no table. Mail that comes from no list gets none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muskox.apps.mail.store import Message
from muskox.apps.mail.subscriptions import Tokens

__all__ = ["LEAVE", "ListLinks"]

LEAVE = "leave"
"""The purpose of tokens to leave a list and to choose among the others."""


class ListLinks:
    """Links below `public_url`; mails to `mailto` unsubscribe too, and `postal` is where the sender lives."""

    def __init__(self, tokens: Tokens, public_url: str, *, mailto: str = "", postal: str = "") -> None:
        self._tokens = tokens
        self._public_url = public_url
        self._mailto = mailto
        self._postal = postal

    def context(self, message: Message, context: Mapping[str, Any]) -> dict[str, Any]:
        """Give `unsubscribe_url` and `postal_address` to mail from a list."""
        subscription = context.get("subscription_id")
        if message.list_id is None or subscription is None:
            return {}
        token = self._tokens.make(LEAVE, str(subscription), message.campaign_id)
        return {"unsubscribe_url": f"{self._public_url}/u/{token}", "postal_address": self._postal}

    def headers(self, message: Message, context: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Give the headers of RFC 2369, 2919 and 8058."""
        url = context.get("unsubscribe_url")
        if message.list_id is None or url is None:
            return ()
        domain = message.from_address.rpartition("@")[2]
        places = f"<{url}>, <mailto:{self._mailto}?subject=unsubscribe>" if self._mailto else f"<{url}>"
        return (
            ("List-ID", f"<{message.list_id}.{domain}>"),
            ("List-Unsubscribe", places),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            ("Feedback-ID", f"{message.campaign_id or message.kind}:{message.list_id}:{domain}"),
        )
