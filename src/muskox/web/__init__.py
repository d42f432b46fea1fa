"""The dashboard: an HTTP interface and a page on it, from the public verbs alone.

`create_app` makes an ASGI application of it; `muskox dashboard` runs that. It
needs the extra `muskox[web]`.
"""

from __future__ import annotations

from muskox.web.access import Access, Principal, Role, Token, User, digest_of, hash_password, read_access
from muskox.web.app import create_app
from muskox.web.guard import is_loopback

__all__ = [
    "Access",
    "Principal",
    "Role",
    "Token",
    "User",
    "create_app",
    "digest_of",
    "hash_password",
    "is_loopback",
    "read_access",
]
