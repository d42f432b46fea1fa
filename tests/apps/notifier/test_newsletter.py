"""The weekly newsletter: when it is due, to whom it goes, and that nobody gets it twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from muskox import OptionError
from muskox.apps.notifier.newsletter import SCHEDULE
from muskox.apps.notifier.settings import read_settings
from tests.apps.notifier.conftest import notifier_at

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


async def test_it_goes_to_every_user_once_also_when_its_job_is_run_again(tmp_path):
    issue = tmp_path / "issue.txt"
    issue.write_text(ISSUE)
    async with notifier_at(tmp_path, newsletter_file=issue) as notifier:
        ox = notifier.services.ox
        for name in ("ada", "grace"):
            await notifier.register(email=f"{name}@example.org", name=name)

        job = await ox.schedules.run_now(SCHEDULE)
        told = await ox.queue("newsletter").result(job.id, timeout=30)
        mail = await notifier.mail(to="grace@example.org", subject="News of November")
        await ox.queue("newsletter").remove(job.id)
        await ox.queue("newsletter").add(SCHEDULE, id=job.id)
        again = await ox.queue("newsletter").result(job.id, timeout=30)

    assert told == {"users": 2, "added": 2}
    assert again == {"users": 2, "added": 0}
    assert "Schedules are here." in mail["text"]


async def test_without_an_issue_nobody_is_written_to(tmp_path):
    async with notifier_at(tmp_path) as notifier:
        ox = notifier.services.ox
        await notifier.register()
        job = await ox.schedules.run_now(SCHEDULE)

        assert await ox.queue("newsletter").result(job.id, timeout=30) == {"users": 0, "added": 0}
        [found] = await ox.schedules.list()

    assert found.explain() == "At 09:00 on Monday, UTC"
    assert found.next_at.astimezone(UTC).strftime("%a %H:%M") == "Mon 09:00"
    assert found.next_at > datetime.now(UTC)
