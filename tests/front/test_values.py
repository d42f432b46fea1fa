"""Values of other libraries as data, as annotations of parameters, and as results."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from muskox import ActiveJob, DataError
from muskox.testing import run_jobs


@dataclasses.dataclass
class DataClass:
    name: str
    age: int = 3


class Struct(msgspec.Struct):
    name: str
    age: int = 3


@attrs.define
class Attrs:
    name: str
    age: int = 3


class Model(pydantic.BaseModel):
    name: str
    age: int = 3


class Colour(enum.Enum):
    RED = "red"


KINDS = [DataClass, Struct, Attrs, Model]
PLAIN = [
    (date, date(2026, 1, 2)),
    (datetime, datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
    (timedelta, timedelta(hours=1)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=7)),
    (Colour, Colour.RED),
    (bytes, b"\x00\xff"),
    (set[int], {1, 2}),
    (tuple[int, str], (1, "a")),
    (dict[str, list[int]], {"a": [1]}),
    (int | None, None),
    (Annotated[int, msgspec.Meta(ge=1)], 5),
    (Any, {"free": [1, None]}),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_go_in_as_data_come_out_as_annotated_and_back_as_results(ox, emails, kind):
    seen = []

    async def welcome(job: ActiveJob, person: kind, others: list[kind]) -> kind:
        seen.extend([person, *others])
        return person

    welcome.__annotations__ |= {"job": ActiveJob, "person": kind, "others": list[kind], "return": kind}
    bound = emails.processor()(welcome)
    await bound.add(kind(name="Ada"), others=[kind(name="Bob", age=4)])
    await emails.add("welcome", {"person": kind(name="Eve"), "others": []})

    ended = await run_jobs(ox)

    assert seen == [kind(name="Ada"), kind(name="Bob", age=4), kind(name="Eve")]
    assert ended[0].data == {"person": {"name": "Ada", "age": 3}, "others": [{"name": "Bob", "age": 4}]}
    assert [job.result for job in ended] == [{"name": "Ada", "age": 3}, {"name": "Eve", "age": 3}]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_object_may_be_the_whole_data(emails, kind):
    assert (await emails.add("welcome", kind(name="Ada"))).data == {"name": "Ada", "age": 3}


@pytest.mark.parametrize(("kind", "value"), PLAIN)
async def test_values_keep_their_type_from_add_to_run(ox, emails, kind, value):
    seen = []

    async def welcome(given) -> None:
        seen.append(given)

    welcome.__annotations__["given"] = kind
    await emails.processor()(welcome).add(value)
    [ended] = await run_jobs(ox)

    assert (seen, ended.failure) == ([value], None)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_field_that_does_not_fit_is_named_when_the_job_is_added(emails, kind):
    async def welcome(person) -> None: ...

    welcome.__annotations__["person"] = kind
    bound = emails.processor()(welcome)

    with pytest.raises(DataError, match=r"data does not fit .*welcome: .*(age|person).*(age|person)") as caught:
        await bound.add({"name": "Ada", "age": "a secret"})
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (await emails.counts()).total == 0


async def test_a_model_that_cannot_be_dumped_is_refused(emails):
    class Odd(pydantic.BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        inner: Any

    with pytest.raises(DataError, match=r"data cannot be kept as JSON: .*Odd cannot be dumped"):
        await emails.add("welcome", Odd(inner=object()))
