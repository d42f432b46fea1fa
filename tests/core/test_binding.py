"""Data fitted to the parameters of a processor: every kind of signature, and what does not fit."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from muskox.core.binding import RUN_MARK, bind
from muskox.core.errors import DataError, DeclarationError


class Run:
    """Stands for the run, as `ActiveJob` does."""


setattr(Run, RUN_MARK, True)
RUN = Run()


@dataclasses.dataclass
class Size:
    width: int
    height: int = 10


class Address(pydantic.BaseModel):
    city: str


class Colour(enum.Enum):
    RED = "red"


def called(function, text):
    """What the function returns when it is run with this data, as the runtime would call it."""
    args, kwargs = bind(function, "tests.f").arguments(text, RUN)
    return function(*args, **kwargs)


def nothing():
    return ()


def plain(a: int, b: str = "x"):
    return a, b


def with_run(job: Run, a: int):
    return job is RUN, a


def run_in_the_middle(a: int, job: Run, b: int = 2):
    return a, job is RUN, b


def bare_run(job):
    return job is RUN


def bare_data(a, b=None):
    return a, b


def keyword_only(a: int, *, b: int = 5):
    return a, b


def positional_only(a: int, b: int = 3, /):
    return a, b


def catch_all(job: Run, a: int, **rest: Any):
    return job is RUN, a, rest


def rich(size: Size, when: datetime, colour: Colour, many: list[UUID], address: Address | None = None):
    return size.width, when.year, colour, len(many), address


def mutable(a: list[int] = [], b: dict[str, int] = {}):  # noqa: B006 - the shared default is what is tested
    a.append(1)
    return a, b


FITS = [
    (nothing, "null", ()),
    (nothing, '{"anything":1}', ()),
    (plain, '{"a":1}', (1, "x")),
    (plain, '{"b":"y","a":1}', (1, "y")),
    (with_run, '{"a":1}', (True, 1)),
    (run_in_the_middle, '{"a":1}', (1, True, 2)),
    (run_in_the_middle, '{"a":1,"b":3}', (1, True, 3)),
    (bare_run, '{"whatever":[1]}', True),
    (bare_data, '{"a":[1,{"x":null}]}', ([1, {"x": None}], None)),
    (keyword_only, '{"a":1,"b":2}', (1, 2)),
    (positional_only, '{"a":1}', (1, 3)),
    (catch_all, '{"a":1,"c":3}', (True, 1, {"c": 3})),
    (
        rich,
        (
            '{"size":{"width":3},"when":"2026-01-02T00:00:00Z","colour":"red",'
            '"many":["00000000-0000-0000-0000-000000000007"]}'
        ),
        (3, 2026, Colour.RED, 1, None),
    ),
]


@pytest.mark.parametrize(("function", "text", "expected"), FITS, ids=[f"{f.__name__} {t[:20]}" for f, t, _ in FITS])
def test_the_fields_of_the_data_become_the_arguments(function, text, expected):
    assert called(function, text) == expected


def test_a_pydantic_model_is_validated():
    def deliver(address: Address):
        return address

    assert called(deliver, '{"address":{"city":"Vienna"}}') == Address(city="Vienna")


def test_a_mutable_default_is_fresh_each_time():
    assert called(mutable, "{}") == called(mutable, "{}") == ([1], {})


MISFITS = [
    (plain, "{}", "missing required field `a`"),
    (plain, '{"a":"1"}', "Expected `int`, got `str` - at `$.a`"),
    (plain, '{"a":1,"c":2}', "unknown field `c`"),
    (plain, "[1]", "Expected `object`, got `array`"),
    (plain, "{", "truncated"),
    (rich, '{"size":{}}', "size"),
]


@pytest.mark.parametrize(("function", "text", "message"), MISFITS)
def test_fault_d06_data_that_does_not_fit_is_refused_and_names_the_field(function, text, message):
    with pytest.raises(DataError, match=r"data does not fit tests\.f") as refused:
        bind(function, "tests.f").arguments(text, RUN)

    assert message in str(refused.value)


def test_fault_d06_a_pydantic_model_that_does_not_fit_is_refused():
    def deliver(address: Address):
        return address

    with pytest.raises(DataError, match="data does not fit"):
        bind(deliver, "tests.f").arguments('{"address":{"town":"Vienna"}}')


def test_check_refuses_what_arguments_would_refuse():
    bind(plain, "tests.f").check('{"a":1}')

    with pytest.raises(DataError, match="missing required field `a`"):
        bind(plain, "tests.f").check("{}")


ADDED = [
    (plain, (1,), {}, {"a": 1}),
    (plain, (1, "y"), {}, {"a": 1, "b": "y"}),
    (with_run, (), {"a": 1}, {"a": 1}),
    (run_in_the_middle, (1, 3), {}, {"a": 1, "b": 3}),
    (keyword_only, (1,), {"b": 2}, {"a": 1, "b": 2}),
    (catch_all, (), {"a": 1, "c": 3}, {"a": 1, "c": 3}),
    (nothing, (), {}, {}),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "expected"), ADDED)
def test_a_call_without_its_run_becomes_the_data(function, args, kwargs, expected):
    assert bind(function, "tests.f").data(args, kwargs) == expected


@pytest.mark.parametrize(
    ("function", "args", "kwargs"), [(plain, (), {}), (plain, (1, 2, 3), {}), (with_run, (), {"job": 1})]
)
def test_fault_d06_a_call_that_does_not_fit_is_refused(function, args, kwargs):
    with pytest.raises(DataError, match=r"arguments do not fit tests\.f"):
        bind(function, "tests.f").data(args, kwargs)


def test_what_is_added_is_what_the_run_gets():
    binding = bind(rich, "tests.f")
    data = binding.data((Size(3), datetime(2026, 1, 2, tzinfo=UTC), Colour.RED, [UUID(int=7)]), {})

    args, kwargs = binding.arguments(msgspec.json.encode(data).decode())

    assert rich(*args, **kwargs) == (3, 2026, Colour.RED, 1, None)


def star(*names: str): ...
def unknown_type(a: NoSuchType): ...  # noqa: F821 - the missing name is what is tested
def not_json(a: Run | complex): ...
def keyword_run(*, job: Run): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (star, r"\*names has no place in JSON data"),
        (unknown_type, "annotations cannot be resolved .*NoSuchType"),
        (keyword_run, "the run 'job' must be a positional parameter"),
    ],
)
def test_a_signature_that_json_cannot_fill_is_refused_when_it_is_declared(function, message):
    with pytest.raises(DeclarationError, match=message):
        bind(function, "tests.f")


@pytest.mark.parametrize(
    ("function", "expected"), [(plain, False), (with_run, True), (bare_run, True), (catch_all, True)]
)
def test_a_binding_knows_whether_the_run_is_wanted(function, expected):
    assert bind(function, "tests.f").takes_run is expected


def test_a_bound_method_is_read_without_its_self():
    class Emails:
        def welcome(self, job: Run, name: str):
            return name

    binding = bind(Emails().welcome, "tests.f")

    assert binding.arguments('{"name":"Ada"}', RUN) == ((RUN, "Ada"), {})


@pytest.mark.parametrize("data", ["null", "{}"])
def test_a_job_without_data_fits_where_no_field_is_required(data):
    def with_default(name: str = "Ada") -> None: ...
    def with_any(**fields: str) -> None: ...

    assert bind(with_default, "x").arguments(data) == (("Ada",), {})
    assert bind(with_any, "x").arguments(data) == ((), {})


def test_a_job_without_data_is_told_which_field_it_lacks():
    def required(name: str) -> None: ...

    with pytest.raises(DataError, match="missing required field `name`"):
        bind(required, "x").arguments("null")
