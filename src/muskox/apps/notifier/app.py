"""Makes the HTTP application of the notifier: routes, guard, errors, and the life of its services.

`create_app()` reads the environment, for `uvicorn --factory`; everything else is
handed its settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from muskox import World
from muskox.apps.media.web import problems as media_problems
from muskox.apps.media.web.routes import STREAMED, media_router
from muskox.apps.notifier import problems
from muskox.apps.notifier.alerts import Alert, log_alert
from muskox.apps.notifier.idempotency import LARGEST_REQUEST, Idempotent
from muskox.apps.notifier.pages import STATIC
from muskox.apps.notifier.policy import SECURITY_HEADERS
from muskox.apps.notifier.routes import (
    campaigns,
    front,
    health,
    inbox,
    lists,
    messages,
    previews,
    resets,
    sending,
    suppressions,
    users,
)
from muskox.apps.notifier.services import build_services, run_services
from muskox.apps.notifier.settings import Settings, read_environment, read_settings
from muskox.web.guard import Guard

__all__ = ["create_app"]


def create_app(settings: Settings | None = None, *, world: World | None = None, alert: Alert = log_alert) -> FastAPI:
    """Make the application; its worker runs while the application does."""
    if settings is None:
        settings = read_settings(read_environment(), address="http://127.0.0.1:8000")
    services = build_services(settings, world=world, alert=alert)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with run_services(services) as hurry:
            app.state.hurry = hurry
            yield

    # The usual pages of documentation load scripts from elsewhere; ours is in routes/front.py.
    app = FastAPI(
        title=f"{settings.product} notifier",
        description="Users, password resets and the mail that goes with them; pictures and clips.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    for module in (users, resets, sending, messages, lists, previews, campaigns, suppressions, health, inbox, front):
        app.include_router(module.router)
    app.include_router(media_router(services.media, services.uploads))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    problems.install(app)
    media_problems.install(app)
    app.add_middleware(Idempotent, services=services, streamed=STREAMED)
    app.add_middleware(
        Guard,
        hosts=[urlsplit(settings.public_url).hostname or "localhost"],
        largest=LARGEST_REQUEST,
        addresses=True,
        hint="this service is not reached under that name; set PUBLIC_URL to it",
        headers=SECURITY_HEADERS,
        streamed=STREAMED,
    )
    return app
