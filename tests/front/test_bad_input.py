"""What users get wrong is refused at the moment it is given, with fact, value and remedy; nothing is lost by it."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from muskox import (
    ActiveJob,
    DataError,
    DeclarationError,
    Exponential,
    Fixed,
    Muskox,
    MuskoxError,
    OptionError,
    Processor,
    Retention,
    Steps,
    StoreCorrupt,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
    SyncActiveJob,
    on,
    process,
)
from muskox.testing import run_jobs

LONG = "x" * 10_000
CYCLE: list = []
CYCLE.append(CYCLE)
NAIVE = datetime(2026, 3, 1, 9, 0)  # noqa: DTZ001 - that is the mistake
CLOCKLESS = datetime(2026, 3, 1, tzinfo=UTC).date()

REFUSED_OPTIONS = [
    ({"prio": 3}, "there is no option 'prio' for a job; the options are id, priority, delay, at, attempts, backoff"),
    ({"delay": -1}, "delay must be between 0 and 3162240000 seconds, not -1"),
    ({"delay": timedelta(seconds=-1)}, "delay must be between 0 and"),
    ({"delay": "soon"}, "delay must be seconds or a timedelta, not 'soon'"),
    ({"delay": float("nan")}, "delay must be seconds or a timedelta, not nan"),
    ({"delay": 10**12}, "delay must be between 0 and 3162240000 seconds, not 1000000000000"),
    ({"delay": None}, "delay must be seconds or a timedelta, not None"),
    ({"at": NAIVE}, "at=2026-03-01T09:00:00 has no time zone; give an aware datetime, such as datetime.now(UTC)"),
    ({"at": "2026-03-01T09:00Z"}, "at must be an aware datetime, not '2026-03-01T09:00Z'; give seconds from now as"),
    ({"at": 1_800_000_000}, "at must be an aware datetime, not 1800000000"),
    ({"at": CLOCKLESS}, "at must be an aware datetime, not datetime.date(2026, 3, 1)"),
    ({"at": datetime(9000, 1, 1, tzinfo=UTC)}, "delay must be between 0 and 3162240000 seconds"),
    ({"at": datetime(2026, 3, 1, tzinfo=UTC), "delay": 5}, "delay and at both say when the job is due; give one of"),
    ({"attempts": 0}, "attempts must be at least 1, not 0; leave it out to run once"),
    ({"attempts": "3"}, "attempts must be a whole number, not '3'"),
    ({"attempts": 10_001}, "attempts must be at most 10000, not 10001"),
    ({"priority": 1.5}, "priority must be a whole number, not 1.5; higher runs sooner, 0 is usual"),
    ({"priority": "high"}, "priority must be a whole number, not 'high'"),
    ({"priority": 2**31}, "priority must be at most 2147483647, not 2147483648"),
    ({"timeout": 0}, "timeout must be more than 0 seconds, not 0.0; leave it out for no limit"),
    ({"timeout": "1m"}, "timeout must be seconds or a timedelta, not '1m'"),
    ({"max_stalls": -1}, "max_stalls must be at least 0, not -1"),
    ({"keep_for": -1}, "keep_for must be 0 seconds or more, not -1"),
    ({"backoff": 5}, "backoff must be Fixed, Exponential or Steps, not 5"),
    ({"backoff": lambda attempt, error: 1.0}, "a function of your own is given to the processor"),
    ({"id": ""}, "job id '' is not allowed; use 1 to 255 printable characters"),
    ({"id": LONG}, "(10002 characters) is not allowed; use 1 to 255 printable characters"),
    ({"id": "a\x00b"}, "job id 'a\\x00b' is not allowed"),
    ({"id": 7}, "job id 7 is not allowed"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED_OPTIONS)
async def test_an_option_that_cannot_be_is_refused_by_every_way_to_add(emails, options, said):
    emails.processor("welcome")(lambda: None)
    bound = emails.processor("bound")(lambda: None)
    for give in (
        lambda: emails.new("welcome", None, **options),
        lambda: emails.sync.add("welcome", None, **options),
        lambda: bound.options(**options),
    ):
        with pytest.raises(OptionError, match=re.escape(said)):
            give()
    with pytest.raises(OptionError, match=re.escape(said)):
        await emails.add("welcome", None, **options)

    assert (await emails.counts()).total == 0


NAMES = [
    ("", "job name '' is not allowed; use 1 to 255 printable characters"),
    (LONG, "(10002 characters) is not allowed"),
    ("a\x00b", "job name 'a\\x00b' is not allowed"),
    ("line\nbreak", "job name 'line\\nbreak' is not allowed"),
    (7, "job name 7 is not allowed"),
]


@pytest.mark.parametrize(("name", "said"), NAMES)
async def test_a_name_that_no_job_can_have_is_refused(ox, emails, name, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        await emails.add(name)
    with pytest.raises(OptionError, match=re.escape(said)):
        emails.processor(name)(lambda: None)

    class Emails(Processor, queue="email"):
        @process(name)
        def method(self) -> None: ...

    with pytest.raises(OptionError, match=re.escape(said)):
        ox.include(Emails())
    assert ox.registry.queues() == []


@pytest.mark.parametrize("name", ["", "x" * 129, "a\x00b", "a b", "a/b", "a:b", "{a}", "é", None, 5])
async def test_a_name_that_no_queue_can_have_is_refused(ox, name):
    said = "is not allowed; use 1 to 128 of A-Z a-z 0-9"
    with pytest.raises(OptionError, match=said):
        ox.queue(name, retention=Retention())
    if name is not None:
        with pytest.raises(OptionError, match=said):
            ox.on("failed", queue=name)
        with pytest.raises(OptionError, match=said):
            type("Bad", (Processor,), {}, queue=name)
    assert ox.registry.retentions() == {}


REFUSED_DATA = [
    (float("nan"), "data contains nan, which JSON cannot hold; use None or text instead"),
    ({"a": [float("inf")]}, "data contains inf, which JSON cannot hold"),
    ({"a": object()}, "data cannot be kept as JSON: builtins.object is not a JSON value; give plain values"),
    (lambda: None, "builtins.function is not a JSON value"),
    (CYCLE, "data contains itself or is nested too deeply for JSON"),
    ("\ud800", "data cannot be kept as JSON: text contains a lone surrogate"),
    ({(1, 2): 3}, "data cannot be kept as JSON"),
    (1 + 2j, "data cannot be kept as JSON"),
    (
        b"x" * 2_000_000,
        "data takes 2666670 bytes of JSON, more than the limit of 1048576; store the large part elsewhere",
    ),
]


@pytest.mark.parametrize(("data", "said"), REFUSED_DATA)
async def test_data_that_json_cannot_hold_is_refused(emails, data, said):
    job = await emails.add("welcome", {"a": 1})
    with pytest.raises(DataError, match=re.escape(said)):
        await emails.add("welcome", data)
    with pytest.raises(DataError, match=re.escape(said)):
        await emails.add_many([("welcome", None), ("welcome", data)])
    with pytest.raises(DataError, match=re.escape(said)):
        await emails.update(job.id, data)

    assert (await emails.find()).jobs == [job]


async def test_what_a_run_tells_must_be_json_too_and_its_job_is_tried_again(ox, emails):
    said = []

    @emails.processor("tell", attempts=2, backoff=Fixed(0))
    async def tell(job: ActiveJob) -> str:
        for verb in (job.progress, job.update, job.log):
            try:
                await verb("\ud800")
            except DataError as error:
                said.append(str(error).split()[0])
        return "done"

    await emails.add("tell")

    [ended] = await run_jobs(ox)

    assert (ended.result, ended.progress, ended.data) == ("done", None, None)
    assert said == ["progress", "data", "log"]


# --- declaring


async def free(job: ActiveJob, email: str) -> None: ...


DECLARED_BADLY = [
    (
        {"retries": 3},
        OptionError,
        "free: there is no option 'retries' for a processor; the options are attempts, backo",
    ),
    ({"attempts": 0}, OptionError, "attempts must be at least 1, not 0"),
    ({"backoff": 5}, OptionError, "free: backoff must be Fixed, Exponential, Steps or a function, not 5"),
    ({"timeout": -1}, OptionError, "timeout must be more than 0 seconds, not -1"),
    ({"priority": "high"}, OptionError, "priority must be a whole number, not 'high'"),
    ({"keep_for": "day"}, OptionError, "keep_for must be seconds or a timedelta, not 'day'"),
    ({"final_on": ("ValueError",)}, OptionError, "free: final_on takes classes of exceptions, not 'ValueError'"),
    ({"final_on": int}, OptionError, "free: final_on takes classes of exceptions, not <class 'int'>"),
]


@pytest.mark.parametrize(("options", "error", "said"), DECLARED_BADLY)
def test_an_option_that_no_processor_has_is_refused_when_it_is_declared(emails, options, error, said):
    for declare in (emails.processor("welcome", **options), emails.default_processor(**options)):
        with pytest.raises(error, match=re.escape(said)):
            declare(free)


def test_two_processors_for_one_name_are_refused_and_both_are_named(ox, emails):
    emails.processor("welcome")(free)

    def another() -> None: ...

    with pytest.raises(
        DeclarationError, match=r"'email' already has a processor for 'welcome': .*\.free; give .*\.another another"
    ):
        emails.processor("welcome")(another)
    emails.default_processor()(free)
    with pytest.raises(DeclarationError, match="already has a default processor"):
        emails.default_processor()(another)
    ox.queue("other").processor("welcome")(another)


def star(*emails: str) -> None: ...
def unread(email: Path | object | None) -> None: ...
def runs(*, job: SyncActiveJob) -> None: ...
async def blocking_run(job: SyncActiveJob) -> None: ...
def async_run(job: ActiveJob) -> None: ...
def unknown(email: Unknown) -> None: ...  # noqa: F821 - that is the mistake
def gives():
    yield 1


async def gives_too():
    yield 1


SHAPES = [
    (star, "star: *emails has no place in JSON data; name the parameters"),
    (runs, "runs: the run 'job' must be a positional parameter"),
    (blocking_run, "blocking_run is an async def: annotate its run as ActiveJob, not SyncActiveJob"),
    (async_run, "async_run is a plain def: annotate its run as SyncActiveJob, not ActiveJob"),
    (unknown, "unknown: its annotations cannot be resolved (name 'Unknown' is not defined); import the types at run"),
    (gives, "gives yields, and nobody would take what it gives; return a list"),
    (gives_too, "gives_too yields, and nobody would take what it gives"),
    (5, "a processor is a function or a method, not 5; wrap it in a def"),
    (int, "a processor is a function or a method, not <class 'int'>"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "said"), SHAPES)
def test_a_function_that_cannot_be_a_processor_is_refused_when_it_is_declared(emails, function, said):
    with pytest.raises(DeclarationError, match=re.escape(said)):
        emails.processor("welcome")(function)


def test_a_function_that_a_child_process_cannot_find_is_refused_when_it_is_declared(emails):
    with pytest.raises(DeclarationError, match=r"cannot be isolated: .* define it at module level"):
        emails.processor("welcome", isolated=True)(lambda: None)


class Isolated(Processor, queue="email"):
    @process("welcome", isolated=True)
    def method(self) -> None: ...


class Homeless(Processor):
    @process("welcome")
    def method(self) -> None: ...


class Empty(Processor, queue="email"):
    def method(self) -> None: ...


class Unfit(Processor, queue="email"):
    @process("welcome", retries=3)
    def method(self) -> None: ...


CLASSES = [
    (
        Isolated(),
        DeclarationError,
        "Isolated.method cannot be isolated: a child process has no such instance; declare a",
    ),
    (
        Homeless(),
        DeclarationError,
        "Homeless is not a processor class with a queue; write class Homeless(Processor, que",
    ),
    (Empty(), DeclarationError, "Empty has no method marked with process, on or a schedule; mark one"),
    (Empty, DeclarationError, "include takes an instance: include(Empty(…)), not the class"),
    (object(), DeclarationError, "object is not a processor class with a queue"),
    (Unfit(), OptionError, "there is no option 'retries' for a processor"),
]


@pytest.mark.parametrize(("instance", "error", "said"), CLASSES)
def test_a_class_that_cannot_work_is_refused_when_it_is_included(ox, instance, error, said):
    with pytest.raises(error, match=re.escape(said)):
        ox.include(instance)


def test_a_kind_of_event_that_there_is_not_is_refused_at_once(ox, emails):
    said = "there is no event 'succeeded'; use one of active, blocked, cancelled, completed,"
    for give in (
        lambda: ox.on("succeeded"),
        lambda: on("succeeded"),
        lambda: ox.events(kinds=["completed", "succeeded"]),
        lambda: emails.events(kinds="succeeded"),
        lambda: emails.sync.events(kinds={"succeeded"}),
        lambda: ox.sync.events(kinds={"succeeded"}),
    ):
        with pytest.raises(OptionError, match=said):
            give()


@pytest.mark.parametrize("after", [-1, "12", 1.5, True])
def test_an_offset_that_cannot_be_is_refused_at_once(emails, after):
    with pytest.raises(OptionError, match=re.escape(f"after must be the offset of an event, 0 or more, not {after!r}")):
        emails.events(after=after)


async def test_asking_for_what_there_is_not(emails):
    with pytest.raises(OptionError, match="'finished' is not a valid JobState; the states are waiting, delayed"):
        await emails.find("finished")
    with pytest.raises(OptionError, match="limit must be between 1 and 1000, not 0; go on with the cursor"):
        await emails.find(limit=0)
    with pytest.raises(OptionError, match="limit must be between 1 and 1000, not 1001"):
        await emails.find(limit=1001)
    with pytest.raises(OptionError, match="cursor"):
        await emails.find(after="nonsense")
    with pytest.raises(OptionError, match="timeout must be seconds or a timedelta, not 'soon'"):
        await emails.result("any", timeout="soon")


BACKOFFS = [
    (lambda: Fixed(-1), "backoff seconds must be between 0 and 2592000 (30 days), not -1"),
    (lambda: Exponential(2, factor=0.5), "backoff factor must be a number of at least 1, not 0.5; use Fixed"),
    (lambda: Steps(()), "backoff steps are empty; give at least one number of seconds"),
    (lambda: Fixed(1, jitter=2), "backoff jitter must be between 0 and 1, not 2; 0.2 means"),
    (lambda: Retention(completed_for=-1), "retention completed_for must be 0 or more, not -1"),
]


@pytest.mark.parametrize(("make", "said"), BACKOFFS)
def test_a_rule_that_cannot_be_is_refused_when_it_is_made(make, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        make()


# --- apps and workers


APPS = [
    (lambda: Muskox(data_limit=0), "data_limit must be at least 1 byte, not 0"),
    (lambda: Muskox(Path("jobs.db")), "url must be text such as 'sqlite:///jobs.db', not PosixPath"),
    (lambda: Muskox().queue("email", retention=5), "retention must be a Retention, not 5"),
    (lambda: Muskox().worker(), "no processor is declared for any queue of this worker; declare one first"),
    (lambda: Muskox().worker([]), "no processor is declared for any queue of this worker"),
    (lambda: app().worker(["email", "emial"]), "no processor is declared for the queue 'emial'; declare one, or use"),
    (lambda: app().worker("emial"), "no processor is declared for the queue 'emial'"),
    (lambda: app().worker(concurrency=0), "concurrency must be between 1 and 100000, not 0"),
    (lambda: app().worker(lease=0), "lease must be between 0.1 and 86400 seconds, not 0; 30 is usual"),
    (lambda: app().worker(shutdown_timeout=-1), "shutdown_timeout must be between 0 and 86400 seconds, not -1"),
]  # fmt: skip


def app() -> Muskox:
    ox = Muskox("sqlite://:memory:")
    ox.queue("email").processor("welcome")(lambda: None)
    return ox


@pytest.mark.parametrize(("make", "said"), APPS)
def test_a_setting_that_cannot_be_is_refused_when_it_is_given(make, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        make()


URLS = [
    ("mysql://db.example/jobs", StoreUnsupported, "no store for URLs that begin with 'mysql'; use one of"),
    ("", StoreUnsupported, "no store for URLs that begin with ''"),
    ("jobs.db", StoreUnsupported, "no store for URLs that begin with 'jobs.db'"),
    ("sqlite:", OptionError, "'sqlite:' names no file; use sqlite:///file.db"),
    ("sqlite:///a.db?timeout=5", OptionError, "has an unknown option 'timeout'; known are durability, patience"),
    (
        "sqlite:////no/such/folder/a.db",
        StoreUnavailable,
        "there is no folder /no/such/folder for the database a.db; mak",
    ),
]


@pytest.mark.parametrize(("url", "error", "said"), URLS)
async def test_a_url_that_leads_nowhere_says_so_when_it_is_first_used(url, error, said):
    ox = Muskox(url)
    with pytest.raises(error, match=re.escape(said)):
        await ox.queue("email").add("welcome")
    with pytest.raises(MuskoxError, match=re.escape(said)):
        async with ox:
            pass
    await ox.close()


def test_a_dotenv_that_cannot_be_read_says_so_and_shows_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"PASSWORD=hunter2\xff\n")

    with pytest.raises(OptionError, match=r"\.env in .* cannot be read: it is not UTF-8; mend it, or set") as caught:
        _ = Muskox().url
    assert "hunter2" not in str(caught.value)

    monkeypatch.setenv("MUSKOX_URL", "sqlite:///given.db")
    assert Muskox().url == "sqlite:///given.db"


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path):
    (tmp_path / "jobs.db").write_text("a diary, not a database\n" * 100)
    ox = Muskox(f"sqlite:///{tmp_path}/jobs.db")

    with pytest.raises(StoreCorrupt, match=r"jobs\.db"):
        await ox.queue("email").add("welcome")

    await ox.close()
    assert (tmp_path / "jobs.db").read_text().startswith("a diary")


async def test_a_database_that_is_locked_for_long_says_so_and_is_used_when_it_is_free(url, tmp_path):
    async with Muskox(f"{url}?patience=0.1") as ox:
        emails = ox.queue("email")
        with sqlite3.connect(tmp_path / "jobs.db") as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await emails.add("welcome")
            other.rollback()
        other.close()
        await emails.add("welcome")

        assert (await emails.counts()).total == 1


async def test_a_database_without_room_says_so_and_loses_nothing(url):
    async with Muskox(url) as ox:
        emails = ox.queue("email")
        kept = await emails.add("welcome")
        store = await ox.store()
        await store._writer.run(lambda tx: tx.db.execute("PRAGMA max_page_count = 1").fetchall())
        with pytest.raises(MuskoxError, match="full"):
            await emails.add_many([("welcome", "x" * 1000)] * 500)

        assert (await emails.find()).jobs == [kept]


async def test_a_database_that_may_not_be_written_says_so(tmp_path, url, monkeypatch):
    async with Muskox(url) as ox:
        await ox.queue("email").add("welcome")
    uri = f"file:{tmp_path}/jobs.db?mode=ro"
    real = sqlite3.connect
    # Permissions do not stop root, so SQLite itself is told to write nothing.
    monkeypatch.setattr(
        "muskox.store.sqlite.database.sqlite3.connect",
        lambda database, **settings: real(uri, **{**settings, "uri": True}),
    )

    async with Muskox(url) as ox:
        with pytest.raises(StoreReadOnly, match="read"):
            await ox.queue("email").add("welcome")


@pytest.mark.parametrize("name", [["welcome"], {"name": "welcome"}, None, 5], ids=repr)
async def test_a_name_that_is_no_text_is_refused(emails, name):
    with pytest.raises(OptionError, match=r"job name .* is not allowed; use 1 to 255 printable characters"):
        await emails.add(name)


BY_ID = {
    "get": lambda queue, id: queue.get(id),
    "logs": lambda queue, id: queue.logs(id),
    "result": lambda queue, id: queue.result(id, timeout=5),
    "update": lambda queue, id: queue.update(id, {}),
    "retry": lambda queue, id: queue.retry(id),
    "promote": lambda queue, id: queue.promote(id),
    "cancel": lambda queue, id: queue.cancel(id),
    "remove": lambda queue, id: queue.remove(id),
}


@pytest.mark.parametrize("verb", BY_ID)
async def test_a_job_in_place_of_its_id_is_refused_with_a_remedy(emails, verb):
    job = await emails.add("good")

    with pytest.raises(OptionError, match=r"not by a Job; give job\.id"):
        await BY_ID[verb](emails, job)
    with pytest.raises(OptionError, match="job id"):
        await BY_ID[verb](emails, "\ud800")
