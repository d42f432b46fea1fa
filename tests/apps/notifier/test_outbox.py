"""Jobs in another database than users and mails: they wait in an outbox until they are there."""

from __future__ import annotations

import asyncio

from sqlalchemy import func, select

from muskox.apps.mail import tables
from muskox.apps.notifier.services import build_services
from muskox.apps.notifier.settings import Settings
from muskox.apps.notifier.users import new_user
from tests.apps.notifier.conftest import ADA, notifier_at, settings_for, url_of


def apart(folder, url) -> Settings:
    return settings_for(folder, url=url, database=f"sqlite:///{folder / 'app.db'}", secret="a secret of the tests")


async def test_what_was_accepted_while_the_jobs_were_away_is_sent_when_they_are_back(tmp_path):
    # Nothing listens there: a service that could store the user, and was killed before the job was anywhere.
    away = build_services(apart(tmp_path, "redis://127.0.0.1:1"))
    away.create_tables()
    registered = await asyncio.to_thread(away.register, new_user(**ADA))
    away.engine.dispose()

    with url_of("redis", tmp_path) as url:
        settings = apart(tmp_path, url)
        async with notifier_at(tmp_path, url=url, database=settings.database, secret=settings.secret) as running:
            assert (await running.ended(registered.welcome_message_id))["state"] == "delivered"


async def test_a_mail_whose_job_is_on_its_way_is_not_taken_for_abandoned(tmp_path):
    with url_of("redis", tmp_path) as url:
        services = build_services(apart(tmp_path, url))
        services.create_tables()
        async with services.ox:
            await asyncio.to_thread(services.register, new_user(**ADA))

            assert await services.abandoned.reconcile() == 0

            async with services.outbox.relaying():
                async for _ in services.ox.events(after=0, kinds=("waiting",)):
                    break
            assert await services.abandoned.reconcile() == 0
            with services.engine.connect() as connection:
                query = select(func.count()).where(tables.messages.c.state == "queued")
                assert connection.execute(query).scalar_one() == 1
        services.engine.dispose()
        services.mail.close()
        await asyncio.to_thread(services.ox.sync.close)
