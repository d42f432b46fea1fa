"""Schedules as programs see them, on three stores: declared, added, looked at, changed; and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from muskox import (
    Cron,
    Dedup,
    JobState,
    Muskox,
    NameTaken,
    Owner,
    Processor,
    Told,
    WrongState,
    cron,
    every,
    once,
)
from muskox.testing import FakeWorld, run_jobs
from tests.stores import SHARED

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "redis", "postgres"])
async def ox(request: pytest.FixtureRequest, tmp_path: Path, world: FakeWorld) -> AsyncIterator[Muskox]:
    """An app on each store, in a world whose clock stands still on the first of January."""
    async with SHARED[request.param](tmp_path, world) as (url, _), Muskox(url, world=world) as app:
        yield app
        assert await app.audit() == []


@pytest.fixture
def runs(ox: Muskox) -> list[str]:
    """What has run, by the id of the job; `count` in the queue `work` writes it."""
    found: list[str] = []

    @ox.queue("work").processor()
    async def count(job, n: int = 0) -> int:
        found.append(job.id)
        return n

    return found


def moments(told):
    return [(entry.moment, entry.told) for entry in reversed(told)]


# --- mission.md, part B -----------------------------------------------------------------------


async def test_mission_b01_cron_runs_by_the_wall_clock_of_its_zone(ox, world):
    seen = []

    @ox.cron("0 30 9 * * MON", tz="America/New_York", name="weekly")
    async def weekly() -> None:
        seen.append(datetime.fromtimestamp(world.now(), ZoneInfo("America/New_York")))

    @ox.cron(Cron.EVERY_DAY_AT_MIDNIGHT, name="nightly")
    async def nightly() -> None: ...

    await run_jobs(ox)
    world.advance(1800)
    await run_jobs(ox)
    for _ in range(8 * 12):  # each second hour, at half past
        world.advance(7200)
        await run_jobs(ox)

    assert [f"{at:%a %H:%M}" for at in seen] == ["Mon 09:30"]
    assert len(await ox.schedules.ledger("nightly")) == 8


async def test_mission_b02_an_interval_does_not_drift_and_once_is_once(ox, world, runs):
    await ox.schedules.add_every("poll", 10, queue="work", job="count")
    await ox.schedules.add_once("soon", after=5, queue="work", job="count", data={"n": 7})
    await ox.schedules.add_once("then", at=START + timedelta(seconds=17), queue="work", job="count")

    for _ in range(16):
        world.advance(2.5)
        await run_jobs(ox)

    assert [at for at, _ in moments(await ox.schedules.ledger("poll"))] == [
        START + timedelta(seconds=second) for second in (10, 20, 30, 40)
    ]
    assert [at for at, _ in moments(await ox.schedules.ledger("soon"))] == [START + timedelta(seconds=5)]
    assert [at for at, _ in moments(await ox.schedules.ledger("then"))] == [START + timedelta(seconds=17)]
    over = await ox.schedules.get("soon")
    assert (over.next_at, over.outcome) == (None, JobState.COMPLETED)
    assert len(runs) == 6


async def test_mission_b03_schedules_are_added_listed_paused_run_changed_and_deleted(ox, world, runs):
    await ox.schedules.add_cron("b", "* * * * *", queue="work", job="count")
    await ox.schedules.add_every("a", 60, queue="work", job="count", data={"n": 1})

    with pytest.raises(NameTaken, match="replace=True"):
        await ox.schedules.add_every("a", 30, queue="work", job="count")
    await ox.schedules.add_every("a", 30, queue="work", job="count", data={"n": 2}, replace=True)
    await ox.schedules.pause("b")
    ran = await ox.schedules.run_now("b")
    world.advance(61)
    await run_jobs(ox)

    a, b = await ox.schedules.list()
    assert (a.name, a.data, a.last_at, a.outcome) == ("a", {"n": 2}, START + timedelta(60 / 86400), "completed")
    assert (b.name, b.next_at, b.last_job, b.outcome) == ("b", None, ran.id, "completed")
    assert moments(await ox.schedules.ledger("b")) == [(START, Told.RUN)]
    assert (await ox.schedules.resume("b")).next_at == START + timedelta(minutes=2)
    assert await ox.schedules.delete("a") is True
    assert await ox.schedules.delete("a") is False
    assert await ox.schedules.get("a") is None
    assert len(runs) == 3


async def test_mission_b05_what_was_missed_is_made_up_for_as_each_schedule_says(ox, world, runs):
    said = {"none": "none", "one": "one", "three": 3}
    for name, catch_up in said.items():
        await ox.schedules.add_cron(name, "* * * * *", queue="work", job="count", catch_up=catch_up, grace=1)

    world.advance(10 * 60 + 30)
    await run_jobs(ox)

    told = {name: await ox.schedules.ledger(name) for name in said}
    late = {name: [e.moment.minute for e in reversed(told[name]) if e.told is Told.LATE] for name in said}
    assert late == {"none": [], "one": [10], "three": [8, 9, 10]}
    missed = {name: sum(e.missed for e in told[name] if e.told is Told.MISSED) for name in said}
    assert missed == {"none": 10, "one": 9, "three": 7}
    assert [one.next_at.minute for one in await ox.schedules.list()] == [11, 11, 11]


async def test_mission_b05_a_moment_while_the_last_job_runs_is_treated_as_the_schedule_says(ox, world):
    for overlap in ("allow", "skip", "queue"):
        await ox.schedules.add_cron(overlap, "* * * * *", queue=overlap, job="long", overlap=overlap)
    fired = Muskox(ox.url, world=world)  # it has no processor: jobs wait for ever
    await fired.store()
    fired.queue("other").processor("nothing")(_nothing)

    for _ in range(3):
        world.advance(60)
        await run_jobs(fired)

    waiting = {name: (await ox.queue(name).counts()).waiting for name in ("allow", "skip", "queue")}
    assert waiting == {"allow": 3, "skip": 1, "queue": 1}
    assert [e.told for e in await ox.schedules.ledger("skip")] == [Told.SKIPPED, Told.SKIPPED, Told.FIRED]
    assert all(e.reason for e in await ox.schedules.ledger("queue") if e.told is Told.SKIPPED)
    await fired.close()


async def _nothing() -> None: ...


# --- declaring ------------------------------------------------------------------------------


async def test_an_unchanged_declaration_keeps_its_next_moment_and_its_pause_over_deploys(ox, world):
    def deployed(**options):
        app = Muskox(ox.url, world=world)
        app.every(100, name="beat", **options)(_nothing)
        return app

    first = deployed()
    await run_jobs(first)
    await first.schedules.pause("beat")
    world.advance(30)
    second = deployed()
    await run_jobs(second)
    kept = await ox.schedules.get("beat")
    third = deployed(overlap="skip")
    await run_jobs(third)
    changed = await ox.schedules.get("beat")

    assert (kept.next_us, kept.paused) == (round((START.timestamp() + 100) * 1e6), True)
    assert (changed.next_us, changed.paused, changed.schedule.overlap) == (kept.next_us, True, "skip")
    for app in (first, second, third):
        await app.close()


async def test_a_declaration_leaves_what_a_user_made_alone(ox, world, caplog):
    await ox.schedules.add_every("mine", 5, queue="work", job="count")
    app = Muskox(ox.url, world=world)
    app.every(100, name="mine", queue="work")(_nothing)

    await run_jobs(app)

    assert (await ox.schedules.get("mine")).owner is Owner.USER
    assert "a user has made one of that name" in caplog.text
    await app.close()


async def test_what_left_the_code_is_reported_and_pruned_only_when_asked(ox, world, caplog):
    before, after = (Muskox(ox.url, world=world) for _ in range(2))
    before.every(100, name="old")(_nothing)
    after.every(100, name="new")(_nothing)
    other = Muskox(ox.url, world=world)
    other.every(100, name="elsewhere", queue="other")(_nothing)
    await ox.schedules.add_every("user", 5, queue="default", job="new")

    for app in (before, other, after):
        await run_jobs(app)

    assert "schedule old is not declared in code any more" in caplog.text
    assert [one.name for one in await after.schedules.orphans()] == ["old"]
    assert await after.schedules.prune() == ["old"]
    assert [one.name for one in await ox.schedules.list()] == ["elsewhere", "new", "user"]
    for app in (before, other, after):
        await app.close()


async def test_fault_c06_two_versions_declare_differently_and_the_last_one_holds(ox, world):
    def version(expression, data):
        app = Muskox(ox.url, world=world)
        app.cron(expression, name="report", data=data)(_report)
        return app

    apps = [version("* * * * *", {"n": 1}), version("*/2 * * * *", {"n": 2}), version("* * * * *", {"n": 1})]
    for app in apps:
        await run_jobs(app)
    world.advance(60)
    ended = [await run_jobs(app) for app in apps]

    assert [job.data for jobs in ended for job in jobs] == [{"n": 1}]
    for app in apps:
        await app.close()


async def test_a_declared_schedule_says_key_and_dedup_of_its_jobs(ox, world):
    @ox.every(60, name="sync", key="acme", dedup="sync-acme")
    async def sync() -> None: ...

    await run_jobs(ox)
    await ox.queue("default").pause()
    for _ in range(2):
        world.advance(60)
        await run_jobs(ox)

    [waiting] = (await ox.queue("default").find()).jobs
    assert (waiting.key, waiting.options.dedup) == ("acme", Dedup("sync-acme"))
    await ox.queue("default").resume()
    assert [job.id for job in await run_jobs(ox)] == [waiting.id]


async def _report(n: int) -> None: ...


async def test_methods_of_a_class_run_at_moments(ox, world):
    class Reports(Processor, queue="reports"):
        def __init__(self) -> None:
            self.seen: list[str] = []

        @cron("* * * * *")
        async def by_minute(self) -> None:
            self.seen.append("cron")

        @every(30, name="half")
        async def by_interval(self) -> None:
            self.seen.append("every")

        @once(after=45)
        async def at_last(self) -> None:
            self.seen.append("once")

    reports = Reports()
    ox.include(reports)

    await run_jobs(ox)
    for _ in range(4):
        world.advance(15)
        await run_jobs(ox)

    assert sorted(reports.seen) == ["cron", "every", "every", "once"]
    assert ox.schedules.declared() == ["at-last", "half", "by-minute"]


async def test_a_decorated_function_is_still_called_and_adds_jobs_by_hand(ox):
    @ox.every(60)
    async def double_up(n: int = 2) -> int:
        return 2 * n

    added = await double_up.add(n=4)
    [job] = await run_jobs(ox)

    assert (job.id, job.result, await double_up(3)) == (added.id, 8, 6)


# --- changing -------------------------------------------------------------------------------


async def test_fault_c05_once_updated_nothing_fires_by_the_old_rule(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="work", job="count", data={"n": 1})
    world.advance(60)  # due, and not fired yet

    await ox.schedules.update("report", expression="*/5 * * * *", data={"n": 2})
    await run_jobs(ox)
    assert runs == []
    world.advance(4 * 60)
    [job] = await run_jobs(ox)

    assert job.data == {"n": 2}
    assert job.id.startswith("schedule:report:2:")


async def test_fault_c05_a_schedule_that_is_paused_or_deleted_while_due_does_not_fire(ox, world, runs):
    for name in ("paused", "deleted"):
        await ox.schedules.add_cron(name, "* * * * *", queue="work", job="count")
    world.advance(60)

    await ox.schedules.pause("paused")
    await ox.schedules.delete("deleted")
    await run_jobs(ox)

    assert runs == []


async def test_a_schedule_that_moves_to_another_queue_has_no_last_job_there(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="old", job="count", overlap="skip")
    world.advance(60)
    await run_jobs(ox)
    before = await ox.schedules.get("report")

    moved = await ox.schedules.update("report", queue="work")
    world.advance(60)
    await run_jobs(ox)
    after = await ox.schedules.get("report")

    assert (before.outcome, (await ox.queue("old").counts()).waiting) == ("waiting", 1)
    assert (moved.last_job, moved.outcome, moved.last_us) == (None, None, before.last_us)
    assert [(after.last_job, after.outcome)] == [(id, "completed") for id in runs]


async def test_fault_c05_a_zone_is_changed_while_due(ox, world, runs):
    await ox.schedules.add_cron("daily", "0 1 * * *", queue="work", job="count")
    world.advance(3600)

    changed = await ox.schedules.update("daily", tz="Asia/Tokyo")
    await run_jobs(ox)

    assert runs == []
    assert changed.next_at == START + timedelta(hours=16)


async def test_an_update_leaves_the_rest_and_the_next_moment(ox, world):
    await ox.schedules.add_every(
        "poll", 600, queue="work", job="count", data={"n": 1}, attempts=3, timeout=5, catch_up="none"
    )
    world.advance(100)

    changed = await ox.schedules.update("poll", attempts=4, priority=7)

    said = changed.schedule
    assert changed.next_at == START + timedelta(seconds=600)
    assert (said.options.attempts, said.options.timeout, said.priority) == (4, 5, 7)
    assert (said.data, said.catch_up) == ('{"n":1}', 0)


async def test_fault_c10_run_by_hand_at_the_very_moment_leaves_the_moment_alone(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="work", job="count")
    world.advance(60)

    by_hand = await ox.schedules.run_now("report")
    await run_jobs(ox)

    assert runs == [by_hand.id, f"schedule:report:1:{round((START.timestamp() + 60) * 1e6)}"]
    assert [e.told for e in await ox.schedules.ledger("report")] == [Told.FIRED, Told.RUN]


async def test_a_run_by_hand_keeps_to_the_overlap_rule(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="work", job="count", overlap="skip")

    assert await ox.schedules.run_now("report") is not None
    assert await ox.schedules.run_now("report") is None


async def test_jitter_delays_the_job_and_not_the_schedule(ox, world):
    await ox.schedules.add_every("spread", 60, queue="work", job="count", jitter=50)
    ox.queue("other").processor("nothing")(_nothing)

    world.advance(60)
    await run_jobs(ox)

    [job] = (await ox.queue("work").find("delayed")).jobs
    assert START + timedelta(seconds=60) < job.due_at < START + timedelta(seconds=110)
    assert (await ox.schedules.get("spread")).next_at == START + timedelta(seconds=120)


async def test_moments_outside_of_the_given_time_do_not_fire(ox, world, runs):
    await ox.schedules.add_every(
        "season", 60, queue="work", job="count", starts_at=START + timedelta(seconds=200),
        ends_at=START + timedelta(seconds=330),
    )  # fmt: skip

    for _ in range(10):
        world.advance(60)
        await run_jobs(ox)

    assert [at for at, _ in moments(await ox.schedules.ledger("season"))] == [
        START + timedelta(seconds=second) for second in (200, 260, 320)
    ]


# --- clocks ----------------------------------------------------------------------------------


async def test_fault_c04_after_three_hours_of_downtime_the_policy_holds(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="work", job="count")

    world.advance(3 * 3600)
    await run_jobs(ox)

    told = await ox.schedules.ledger("report")
    fired = [e for e in told if e.job_id]
    assert sum(e.missed for e in told) + len(fired) == 180
    assert len(runs) == len(fired)
    assert [e.told for e in fired].count(Told.LATE) == 1  # beside those of the last minute, which are on time


async def test_fault_t03_a_clock_that_goes_back_fires_nothing_again(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="work", job="count")
    for _ in range(3):
        world.advance(60)
        await run_jobs(ox)

    world.jump(-3600)
    for _ in range(60):
        world.advance(60)
        await run_jobs(ox)
    assert len(runs) == 3
    world.advance(60)
    await run_jobs(ox)

    assert len(runs) == len(set(runs)) == 4


async def test_fault_t02_a_clock_that_goes_forward_is_a_downtime(ox, world, runs):
    await ox.schedules.add_cron("report", "* * * * *", queue="work", job="count", catch_up="none", grace=1)
    world.advance(60)
    await run_jobs(ox)

    world.jump(3601)
    await run_jobs(ox)

    told = await ox.schedules.ledger("report")
    assert sum(e.missed for e in told) == 59
    assert len(runs) == 2


async def test_fault_t05_one_fire_a_day_where_the_clock_is_changed(ox, world, runs):
    world.advance((datetime(2026, 3, 28, tzinfo=UTC) - START).total_seconds())
    await ox.schedules.add_cron("nightly", "30 2 * * *", tz="Europe/Warsaw", queue="work", job="count")

    for _ in range(3 * 24 * 2):
        world.advance(1800)
        await run_jobs(ox)
    world.advance((datetime(2026, 10, 24, tzinfo=UTC).timestamp()) - world.now())
    await run_jobs(ox)
    before = len(runs)
    for _ in range(3 * 24 * 2):
        world.advance(1800)
        await run_jobs(ox)

    local = [
        f"{e.moment.astimezone(ZoneInfo('Europe/Warsaw')):%d %H:%M %z}" for e in await ox.schedules.ledger("nightly")
    ]
    assert local[-3:] == ["30 02:30 +0200", "29 03:00 +0200", "28 02:30 +0100"]
    assert local[:3] == ["26 02:30 +0100", "25 02:30 +0200", "24 02:30 +0200"]
    assert len(runs) - before == 3


# --- the rest ---------------------------------------------------------------------------------


async def test_what_code_has_declared_is_not_changed_by_hand(ox):
    ox.every(60, name="beat")(_nothing)
    await run_jobs(ox)

    with pytest.raises(WrongState, match="declared in code"):
        await ox.schedules.update("beat", every=5)
    with pytest.raises(WrongState, match="declared in code"):
        await ox.schedules.add_every("beat", 5, queue="work", job="count", replace=True)


def test_blocking_code_has_the_same_verbs(tmp_path):
    ox = Muskox(f"sqlite:///{tmp_path}/jobs.db")

    ox.schedules.sync.add_every("poll", 60, queue="work", job="count")
    ox.schedules.sync.pause("poll")

    [found] = ox.schedules.sync.list()
    assert (found.name, found.paused, ox.schedules.sync.delete("poll")) == ("poll", True, True)
    ox.sync.close()
