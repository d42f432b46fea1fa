"""A declared processor is still the function, and a way to add its jobs that checks what it is given."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta

import pytest

from muskox import ActiveJob, BoundProcessor, DataError, Fixed, JobState, NewJob, OptionError
from muskox.testing import run_jobs


@pytest.fixture
def welcome(emails):
    @emails.processor(attempts=4, priority=2)
    async def send_welcome(job: ActiveJob, email: str, name: str = "you", *, loud: bool = False) -> str:
        """Greet somebody."""
        return f"{name} <{email}>{'!' if loud else ''}"

    return send_welcome


async def test_a_processor_is_still_the_function_that_it_was(welcome):
    assert await welcome(None, "ada@example.org", loud=True) == "you <ada@example.org>!"
    assert (welcome.__name__, welcome.__doc__) == ("send_welcome", "Greet somebody.")
    assert list(inspect.signature(welcome).parameters) == ["job", "email", "name", "loud"]
    assert isinstance(welcome, BoundProcessor)


async def test_a_processor_has_the_name_of_its_function_with_dashes_unless_it_is_given_one(ox, emails, welcome):
    @emails.processor("exact_name")
    def other() -> None: ...

    assert (welcome.name, other.name, welcome.queue) == ("send-welcome", "exact_name", emails)
    assert repr(welcome) == (
        "<BoundProcessor email/send-welcome tests.front.test_processors.welcome.<locals>.send_welcome>"
    )


async def test_arguments_become_data_and_data_becomes_arguments(ox, emails, welcome):
    job = await welcome.add("ada@example.org", name="Ada", loud=True)
    await welcome.add(email="bob@example.org")
    await emails.add("send-welcome", {"email": "eve@example.org", "loud": True})

    ended = await run_jobs(ox)

    assert job.data == {"email": "ada@example.org", "name": "Ada", "loud": True}
    assert (job.priority, job.options.attempts) == (2, 4)
    assert [job.result for job in ended] == [
        "Ada <ada@example.org>!", "you <bob@example.org>", "you <eve@example.org>!",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "arguments do not fit {}: missing a required argument: 'email'"),
        (("a", "b", "c"), {}, "arguments do not fit {}: too many positional arguments"),
        (("a",), {"nam": "b"}, "arguments do not fit {}: got an unexpected keyword argument 'nam'"),
        (("a",), {"email": "b"}, "arguments do not fit {}: multiple values for argument 'email'"),
        ((5,), {}, "data does not fit {}: Expected `str`, got `int` - at `$.email`"),
        (("a",), {"loud": "yes"}, "data does not fit {}: Expected `bool`, got `str` - at `$.loud`"),
        (("a",), {"name": None}, "data does not fit {}: Expected `str`, got `null` - at `$.name`"),
        ((object(),), {}, "data cannot be kept as JSON: builtins.object is not a JSON value"),
    ],
)
async def test_wrong_arguments_are_refused_when_the_job_is_added(emails, welcome, args, kwargs, said):
    said = re.escape(said.format("tests.front.test_processors.welcome.<locals>.send_welcome"))
    for give in (welcome.new, welcome.add_sync, welcome.options(priority=1).new):
        with pytest.raises(DataError, match=said):
            give(*args, **kwargs)
    with pytest.raises(DataError, match=said):
        await welcome.add(*args, **kwargs)

    assert (await emails.counts()).total == 0


async def test_options_are_said_before_add_and_leave_the_processor_as_it_was(world, welcome):
    urgent = welcome.options(priority=9, id="one")

    job = await urgent.options(delay=timedelta(minutes=1), backoff=Fixed(3)).add("ada@example.org")
    plain = await welcome.add("ada@example.org")

    assert (job.id, job.priority, job.state, job.options.backoff) == ("one", 9, JobState.DELAYED, Fixed(3))
    assert (job.due_at.timestamp(), job.options.attempts) == (world.now() + 60, 4)
    assert (plain.priority, plain.state) == (2, JobState.WAITING)


def test_an_unknown_option_is_refused_before_add(welcome):
    with pytest.raises(OptionError, match="there is no option 'prio' for a job"):
        welcome.options(prio=3)


async def test_checked_jobs_are_added_in_bulk(emails, welcome):
    jobs = await emails.add_many([welcome.new(f"{n}@example.org") for n in range(100)])

    assert isinstance(welcome.new("a"), NewJob)
    assert [job.data["email"] for job in jobs] == [f"{n}@example.org" for n in range(100)]


async def test_one_function_may_run_jobs_of_several_names(ox, emails):
    @emails.processor("new")
    @emails.processor("old")
    async def both(job: ActiveJob) -> str:
        return job.name

    await emails.add("old")
    await both.add()

    assert [job.result for job in await run_jobs(ox)] == ["old", "new"]


async def test_any_fields_go_to_a_processor_that_takes_any(ox, emails):
    @emails.processor()
    async def anything(job: ActiveJob, kind: str = "?", **fields: int) -> list:
        return [kind, fields]

    await anything.add(a=1, b=2)
    await emails.add("anything", {"kind": "x", "c": 3})
    await emails.add("anything")

    assert [job.result for job in await run_jobs(ox)] == [["?", {"a": 1, "b": 2}], ["x", {"c": 3}], ["?", {}]]


async def test_a_default_processor_adds_under_the_name_of_its_function(ox, emails):
    @emails.default_processor()
    async def whatever(job: ActiveJob) -> str:
        return job.name

    await whatever.add()

    assert [job.result for job in await run_jobs(ox)] == ["whatever"]


async def test_a_run_knows_all_about_its_job(ox, emails):
    seen = {}

    @emails.processor(attempts=3)
    async def look(job: ActiveJob, n: int) -> None:
        for fact in ("id", "queue", "name", "data", "priority", "attempt", "attempts", "stalls", "releases",
                     "added_at", "cancelled"):  # fmt: skip
            seen[fact] = getattr(job, fact)
        seen["repr"] = repr(job)

    job = await look.options(priority=4).add(7)
    await run_jobs(ox)

    assert seen == {
        "id": job.id, "queue": "email", "name": "look", "data": {"n": 7}, "priority": 4, "attempt": 1, "attempts": 3,
        "stalls": 0, "releases": 0, "added_at": job.added_at, "cancelled": False,
        "repr": f"<ActiveJob email/look {job.id} attempt 1>",
    }  # fmt: skip
