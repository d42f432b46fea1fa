"""Who may use a route that is not for everybody: whoever has a key, or, where nobody has set up any, this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from muskox.apps.notifier.routes.given import Given
from muskox.web import Principal, Role
from muskox.web.access import LOCAL
from muskox.web.guard import is_local
from muskox.web.problems import Problem

__all__ = ["Admin", "Operator", "Viewer"]


def _needs(role: Role) -> Callable[[Request, Given], Awaitable[Principal]]:
    async def judge(request: Request, services: Given) -> Principal:
        access = services.settings.access
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        found = access.of_token(token.strip(), services.ox.world.now()) if scheme.lower() == "bearer" else None
        if found is None and not access and is_local(request.scope):
            found = LOCAL
        if found is None and not access:
            raise Problem(403, "local_only", "set API_KEY or ACCESS_FILE to use this from another machine")
        if found is None:
            raise Problem(401, "not_signed_in", "send Authorization: Bearer with a key", WWW_Authenticate="Bearer")
        if not found.role.allows(role):
            raise Problem(403, "not_allowed", f"this needs the role {role}; {found.name} may only {found.role}")
        return found

    return judge


Viewer = Annotated[Principal, Depends(_needs(Role.VIEW))]
Operator = Annotated[Principal, Depends(_needs(Role.OPERATE))]
Admin = Annotated[Principal, Depends(_needs(Role.ADMIN))]
