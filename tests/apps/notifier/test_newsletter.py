"""The weekly newsletter: when it is due, to whom it goes, and that nobody gets it twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from muskox import OptionError
from muskox.apps.mail.campaigns import find_campaigns
from muskox.apps.notifier.newsletter import SCHEDULE
from muskox.apps.notifier.services import build_services
from muskox.apps.notifier.settings import read_settings
from muskox.testing import FakeWorld, run_jobs
from tests.apps.notifier.conftest import notifier_at, settings_for

HERE = "http://127.0.0.1:8000"
ISSUE = "News of November\n\nSchedules are here.\n\nMore next week.\n"


def test_when_it_goes_out_comes_from_the_environment():
    usual = read_settings({}, address=HERE)
    said = read_settings({"NEWSLETTER_CRON": "30 8 * * FRI", "NEWSLETTER_TZ": "Europe/Vienna"}, address=HERE)

    assert (usual.newsletter_cron, usual.newsletter_tz, usual.newsletter_file) == ("0 0 9 * * 1", "UTC", None)
    assert (said.newsletter_cron, said.newsletter_tz) == ("30 8 * * FRI", "Europe/Vienna")


@pytest.mark.parametrize("wrong", [{"NEWSLETTER_CRON": "often"}, {"NEWSLETTER_TZ": "Europe/Atlantis"}])
def test_a_wrong_moment_stops_the_start(wrong):
    with pytest.raises(OptionError, match="NEWSLETTER"):
        read_settings(wrong, address=HERE)


async def test_mission_c03_it_goes_to_everybody_on_the_list_once_also_when_its_job_is_run_again(tmp_path):
    issue = tmp_path / "issue.txt"
    issue.write_text(ISSUE)
    async with notifier_at(tmp_path, newsletter_file=issue, postal_address="1 Tundra Road") as notifier:
        ox = notifier.services.ox
        for name in ("ada", "grace"):
            await notifier.subscribe(f"{name}@example.org", name)
        await notifier.register(email="mary@example.org")  # has an account, and asked for no newsletter

        job = await ox.schedules.run_now(SCHEDULE)
        told = await ox.queue("newsletter").result(job.id, timeout=30)
        mail = await notifier.mail(to="grace@example.org", subject="News of November")
        await ox.queue("newsletter").remove(job.id)
        await ox.queue("newsletter").add(SCHEDULE, id=job.id)
        again = await ox.queue("newsletter").result(job.id, timeout=30)
        ended = await notifier.campaign_ended(told["campaign"])

    assert told["created"]
    assert again == {"campaign": told["campaign"], "created": False}
    assert (ended["planned"], ended["counts"]["delivered"]) == (2, 2)
    assert "Schedules are here." in mail["text"]
    assert "1 Tundra Road" in mail["text"]
    assert {"name": "List-Unsubscribe-Post", "value": "List-Unsubscribe=One-Click"} in mail["headers"]


async def test_case_e26_the_week_goes_by_the_clock_of_the_list_across_the_change_of_time(tmp_path):
    issue = tmp_path / "issue.txt"
    issue.write_text(ISSUE)
    fired: list[str] = []
    world = FakeWorld(datetime(2026, 3, 22, 12, tzinfo=UTC).timestamp())
    settings = settings_for(
        tmp_path, newsletter_file=issue, newsletter_cron="0 9 * * 1", newsletter_tz="Europe/Berlin", worker=False
    )
    three = [build_services(settings, world=world) for _ in range(3)]
    three[0].create_tables()
    for days in range(9):
        world.advance(86_400 if days else 0)
        for services in three:  # three schedulers, one after the other at the same moment: one wins
            await run_jobs(services.ox)
    with three[0].engine.connect().execution_options(reading=True) as connection:
        found = find_campaigns(connection)
    for one in found:
        moment = datetime.fromtimestamp(int(one.occurrence.partition("/")[2]) / 1e6, UTC)
        fired.append(moment.isoformat())
    for services in three:
        services.mail.close()
        services.engine.dispose()
        await services.ox.close()

    assert sorted(fired) == ["2026-03-23T08:00:00+00:00", "2026-03-30T07:00:00+00:00"]


async def test_without_an_issue_nobody_is_written_to(tmp_path):
    async with notifier_at(tmp_path) as notifier:
        ox = notifier.services.ox
        await notifier.register()
        job = await ox.schedules.run_now(SCHEDULE)

        told = await ox.queue("newsletter").result(job.id, timeout=30)
        [found] = await ox.schedules.list()

    assert told == {"campaign": None, "created": False}
    assert found.explain() == "At 09:00 on Monday, UTC"
    assert found.next_at.astimezone(UTC).strftime("%a %H:%M") == "Mon 09:00"
    assert found.next_at > datetime.now(UTC)
