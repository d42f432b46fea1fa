"""Django with the dashboard beside it, which asks Django who somebody is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from muskox.web import Access, Principal, Role, create_app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
site = get_asgi_application()  # before what needs Django to be set up

from muskox.contrib.django import program, user_of  # noqa: E402


async def authorize(request: Request) -> Principal | None:
    """Staff may operate, superusers may do everything; all others are refused."""
    user = await sync_to_async(user_of)(request.cookies)
    if user is None or not user.is_staff:
        return None
    return Principal(user.get_username(), Role.ADMIN if user.is_superuser else Role.OPERATE, "django")


dashboard = create_app(program(), access=Access(authorize=authorize), title="Shop")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with dashboard.router.lifespan_context(dashboard):
        yield


application = Starlette(routes=[Mount("/jobs", dashboard), Mount("/", site)], lifespan=lifespan)
