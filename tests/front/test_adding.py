"""Mission part A, rows 1 to 4, 10 and 20: queues, where they are kept, and how jobs get into them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from muskox import ActiveJob, DataError, Fixed, JobState, Muskox, OptionError, Processor, StoreUnsupported, process
from muskox.settings import DEFAULT_URL, masked
from muskox.testing import FakeWorld, run_jobs

DAY = 86_400.0


# --- A1


async def test_mission_a01_one_program_has_several_queues_and_each_keeps_its_own_jobs(ox):
    emails, files, notifications = (ox.queue(name) for name in ("email", "file-processing", "notifications"))

    job = await emails.add("send", id="same")
    other = await files.add("send", id="same")
    await files.add("resize")

    assert (job.queue, other.queue) == ("email", "file-processing")
    assert [(await queue.counts()).total for queue in (emails, files, notifications)] == [1, 2, 0]
    assert {counts.queue for counts in await ox.counts()} == {"email", "file-processing"}
    assert await emails.remove("same")
    assert await files.get("same") == other


async def test_mission_a01_names_of_queues_and_jobs_are_case_sensitive(ox):
    ran = []
    for name in ("Send", "send"):
        ox.queue("email").processor(name)(lambda job: ran.append(job.name))
    await ox.queue("email").add("Send")
    await ox.queue("Email").add("send")

    await run_jobs(ox)

    assert ran == ["Send"]
    assert (await ox.queue("Email").counts()).total == 1
    assert ox.queue("email") is ox.queue("email")
    assert ox.queue("email") is not ox.queue("Email")


async def test_mission_a01_a_program_knows_its_queues(ox):
    ox.queue("email")
    ox.include(type("Files", (Processor,), {"run": process("run")(lambda self: None)}, queue="files")())

    assert [queue.name for queue in ox.queues()] == ["email", "files"]
    assert ox.queues()[1] is ox.queue("files")


async def test_mission_a01_two_applications_are_kept_apart_on_sqlite_by_two_files(tmp_path, world):
    shop = Muskox(f"sqlite:///{tmp_path}/shop.db", world=world)
    blog = Muskox(f"sqlite:///{tmp_path}/blog.db", world=world)
    async with shop, blog:
        await shop.queue("email").add("send")

        assert (await blog.queue("email").counts()).total == 0
        assert (await shop.queue("email").counts()).total == 1


# --- A2


def test_mission_a02_the_url_comes_from_the_argument_then_the_environment_then_dotenv_then_a_file(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert Muskox().url == DEFAULT_URL == "sqlite:///muskox.db"

    (tmp_path / ".env").write_text('MUSKOX_URL="sqlite:///from-dotenv.db"\n')
    assert Muskox().url == "sqlite:///from-dotenv.db"

    monkeypatch.setenv("MUSKOX_URL", "sqlite:///from-environment.db")
    assert Muskox().url == "sqlite:///from-environment.db"
    assert Muskox("sqlite:///given.db").url == "sqlite:///given.db"


async def test_mission_a02_nothing_is_opened_before_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ox = Muskox()
    ox.queue("email").processor("send")(lambda: None)

    assert list(tmp_path.iterdir()) == []

    await ox.queue("email").add("send")
    await ox.close()
    assert (tmp_path / "muskox.db").exists()


SECRETS = [
    ("redis://:hunter2@db.example:6379/0", "redis://:***@db.example:6379/0"),
    ("rediss://ada:hunter2@db.example", "rediss://ada:***@db.example"),
    ("postgresql://ada:hun@ter2@db.example/jobs", "postgresql://ada:***@db.example/jobs"),
    ("postgresql://ada:hun/ter2@db.example/jobs", "postgresql://ada:***@db.example/jobs"),
    ("postgresql://ada:hun#ter?2@db.example/jobs", "postgresql://ada:***@db.example/jobs"),
    ("postgresql://db.example/jobs?password=hunter2&sslmode=require",
     "postgresql://db.example/jobs?password=***&sslmode=require"),
    ("postgresql://[broken:hunter2@db.example", "postgresql://[broken:***@db.example"),
    ("postgresql://ada@db.example/jobs", "postgresql://ada@db.example/jobs"),
    ("sqlite:///muskox.db?patience=3", "sqlite:///muskox.db?patience=3"),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("url", "shown"), SECRETS)
def test_mission_a02_a_password_is_never_shown(url, shown):
    assert masked(url) == shown
    assert "hunter2" not in repr(Muskox(url))
    assert repr(Muskox(url)) == f"<Muskox {shown}>"


async def test_mission_a02_a_password_is_neither_in_errors_nor_in_the_log(caplog):
    caplog.set_level(logging.DEBUG)

    with pytest.raises(StoreUnsupported, match=r"'mongodb'; use one of .*sqlite:") as caught:
        await Muskox("mongodb://ada:hunter2@db.example/jobs").queue("email").add("send")

    assert "hunter2" not in f"{caught.value!r}{caplog.text}"


# --- A3


async def test_mission_a03_add_returns_the_stored_job_at_once(emails, world):
    job = await emails.add("welcome", {"email": "ada@example.org", "tags": [1, None, True, 2.5, "é"]}, priority=7)

    assert job == await emails.get(job.id)
    assert (job.state, job.name, job.queue, job.priority) == (JobState.WAITING, "welcome", "email", 7)
    assert job.data == {"email": "ada@example.org", "tags": [1, None, True, 2.5, "é"]}
    assert job.added_at == datetime.fromtimestamp(world.now(), UTC)
    assert (job.attempt, job.result, job.failure, job.settled) == (0, None, None, False)


async def test_mission_a03_what_json_cannot_hold_is_refused_and_nothing_is_stored(emails):
    with pytest.raises(DataError, match=r"data cannot be kept as JSON: .*object is not a JSON value; give plain"):
        await emails.add("welcome", {"email": object()})

    assert (await emails.counts()).total == 0


async def test_mission_a03_too_large_data_is_refused_with_both_sizes_and_a_remedy(world):
    async with Muskox("sqlite://:memory:", world=world, data_limit=100) as ox:
        emails = ox.queue("email")
        await emails.add("welcome", "x" * 98)
        with pytest.raises(DataError, match="data takes 101 bytes of JSON, more than the limit of 100; store the"):
            await emails.add("welcome", "x" * 99)
        with pytest.raises(DataError, match="more than the limit of 100"):
            await emails.update("any", "x" * 99)

        assert (await emails.counts()).total == 1


async def test_mission_a03_options_left_out_follow_the_processor_and_given_ones_win(emails):
    @emails.processor("welcome", attempts=5, backoff=Fixed(9), timeout=30, priority=3, max_stalls=4, keep_for=60)
    async def welcome() -> None: ...

    usual = await emails.add("welcome")
    own = await emails.add("welcome", attempts=2, priority=0, timeout=timedelta(minutes=2))

    assert (usual.priority, usual.options.attempts, usual.options.timeout) == (3, 5, 30)
    assert (usual.options.backoff, usual.options.max_stalls, usual.options.keep_for) == (Fixed(9), 4, 60)
    assert (own.priority, own.options.attempts, own.options.timeout) == (0, 2, 120)
    assert own.options.backoff == Fixed(9)


# --- A4


async def test_mission_a04_thousands_of_jobs_are_added_together_in_their_order(emails):
    items = [("welcome", {"n": n}) for n in range(5000)]
    items[7] = emails.new("urgent", {"n": 7}, priority=9)

    jobs = await emails.add_many(items)

    assert [job.data["n"] for job in jobs] == list(range(5000))
    assert (jobs[7].name, jobs[7].priority) == ("urgent", 9)
    assert (await emails.counts()).states[JobState.WAITING] == 5000
    assert (await emails.find("waiting", name="urgent")).jobs == [jobs[7]]


@pytest.mark.parametrize("bad", [("welcome", float("nan")), ("", {}), ("welcome", object())])
async def test_mission_a04_one_bad_job_among_many_and_none_is_added(emails, bad):
    items = [("welcome", n) for n in range(2000)]

    with pytest.raises((OptionError, DataError)):
        await emails.add_many([*items, bad])

    assert (await emails.counts()).total == 0


async def test_mission_a04_no_jobs_are_none(emails):
    assert await emails.add_many([]) == []


async def test_mission_a04_jobs_made_for_another_queue_are_refused(ox, emails):
    with pytest.raises(OptionError, match="was made for queue 'other'; add it there, not to 'email'"):
        await emails.add_many([ox.queue("other").new("welcome")])


@pytest.mark.parametrize("item", ["welcome", ("welcome",), ("a", 1, 2), 5, None, {"name": "welcome"}, (1, 2)])
async def test_mission_a04_what_is_no_job_is_refused_and_not_shown(emails, item):
    with pytest.raises(OptionError, match="add_many takes pairs of a name and its data, or what new"):
        await emails.add_many([item])


# --- A10


@pytest.mark.parametrize("delay", [3600, DAY, 30 * DAY, timedelta(days=30)])
async def test_mission_a10_a_delay_survives_restarts(url, delay):
    world = FakeWorld()
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    async with Muskox(url, world=world) as ox:
        job = await ox.queue("email").add("remind", delay=delay)
        assert (job.state, job.due_at) == (JobState.DELAYED, job.added_at + timedelta(seconds=seconds))

    world.advance(seconds - 1)
    async with Muskox(url, world=world) as ox:
        ox.queue("email").processor("remind")(lambda: "done")
        assert await run_jobs(ox) == []
        world.advance(1)
        [ended] = await run_jobs(ox)

    assert (ended.id, ended.result) == (job.id, "done")


async def test_mission_a10_a_moment_does_as_well_as_a_delay(emails, world):
    moment = datetime.fromtimestamp(world.now(), UTC) + timedelta(hours=2)

    job = await emails.add("remind", at=moment)
    past = await emails.add("remind", at=moment - timedelta(days=1))

    assert (job.state, job.due_at) == (JobState.DELAYED, moment)
    assert past.state is JobState.WAITING


async def test_mission_a10_a_delayed_job_can_be_let_go_by_hand(ox, emails):
    emails.processor("remind")(lambda: None)
    first = await emails.add("remind", delay=DAY)
    await emails.add_many([emails.new("remind", delay=DAY), emails.new("other", delay=DAY)])

    assert (await emails.promote(first.id)).state is JobState.WAITING
    assert await emails.promote_all("remind") == 1
    assert len(await run_jobs(ox)) == 2
    assert (await emails.counts()).states[JobState.DELAYED] == 1


# --- A20


async def test_mission_a20_a_known_id_adds_nothing_and_gives_the_stored_job(ox, emails):
    ran = []

    @emails.processor()
    async def welcome(n: int) -> None:
        ran.append(n)

    first = await emails.add("welcome", {"n": 1}, id="user-7")

    again = await emails.add("welcome", {"n": 2}, id="user-7", priority=5)
    twins = await emails.add_many([emails.new("welcome", {"n": 3}, id="new")] * 2)

    assert again == first
    assert twins[0] == twins[1]
    await run_jobs(ox)
    assert ran == [1, 3]
    assert (await emails.add("welcome", {"n": 4}, id="user-7")).state is JobState.COMPLETED


async def test_mission_a20_a_processor_can_tell_that_it_runs_again(ox, emails, world):
    seen = []

    @emails.processor("welcome", attempts=2, backoff=Fixed(0), max_stalls=1)
    async def welcome(job: ActiveJob) -> None:
        seen.append((job.attempt, job.attempts, job.stalls, job.fence))
        if len(seen) == 1:
            raise ValueError("the first time")

    await emails.add("welcome")
    store = await ox.store()
    await store.claim(ox.registry.wants(["email"]), limit=1, worker="lost", lease=30)
    world.advance(31)

    await run_jobs(ox)

    assert [told[:3] for told in seen] == [(1, 2, 1), (2, 2, 1)]
    assert seen[0][3] < seen[1][3]
