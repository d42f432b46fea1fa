"""Data, results and progress as JSON text: what goes in comes out, or is refused with its name."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid

import attrs
import hypothesis.strategies as st
import msgspec
import pydantic
import pytest
from hypothesis import given

from muskox.core import codec
from muskox.core.errors import DataError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
    max_leaves=20,
)


@dataclasses.dataclass
class Ada:
    name: str = "Ada"
    age: float | None = None


@attrs.define
class AdaAttrs:
    name: str = "Ada"
    age: float | None = None


class AdaStruct(msgspec.Struct):
    name: str = "Ada"
    age: float | None = None


class AdaModel(pydantic.BaseModel):
    name: str = "Ada"
    age: float | None = None


class Colour(enum.Enum):
    RED = "red"


@given(PLAIN)
def test_fault_d02_plain_values_come_back_as_they_were(value):
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("kind", [Ada, AdaAttrs, AdaStruct, AdaModel])
def test_models_of_every_library_are_taken(kind):
    assert codec.decode(codec.encode({"user": kind()})) == {"user": {"name": "Ada", "age": None}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001 - told as it was given
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00Z"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.timedelta(days=1), "P1D"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (b"x", "eA=="),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (Colour.RED, "red"),
        ({1: "one"}, {"1": "one"}),
    ],
)
def test_rich_values_are_kept_in_their_plain_form(value, expected):
    assert codec.decode(codec.encode(value)) == expected == codec.plain(value)


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**63), 2**64, -(2**200)])
def test_fault_d02_large_whole_numbers_are_not_rounded(value):
    assert codec.decode(codec.encode(value)) == value


def test_fault_d02_minus_zero_keeps_its_sign():
    assert str(codec.decode(codec.encode(-0.0))) == "-0.0"


def cycle():
    value: list[object] = []
    value.append(value)
    return value


def deep(levels, leaf):
    for _ in range(levels):
        leaf = [leaf]
    return leaf


class Raising:
    def model_dump(self, mode):
        raise RuntimeError("the session is closed")


class Endless:
    def model_dump(self, mode):
        return self


NOT_JSON = {
    "nan": float("nan"),
    "infinity": {"a": [1, float("inf")]},
    "nan in a dataclass": Ada(age=float("nan")),
    "nan in attrs": AdaAttrs(age=float("-inf")),
    "nan in a Struct": AdaStruct(age=float("nan")),
    "nan in a pydantic model": AdaModel(age=float("nan")),
    "lone surrogate": "\ud800",
    "lone surrogate as a key": {"\udfff": 1},
    "cycle": cycle(),
    "cycle in a dict": {"a": cycle()},
    "ten thousand levels": deep(10_000, 1),
    "ten thousand levels over None": deep(10_000, None),
    "object": object(),
    "function": cycle,
    "complex": 1j,
    "generator": (x for x in ()),
    "None as a key": {None: 1},
    "tuple as a key": {(1, 2): 3},
    "exception": ValueError("no"),
    "model that raises": Raising(),
    "model that never ends": Endless(),
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_fault_d02_what_json_cannot_hold_is_refused_by_name(value):
    with pytest.raises(DataError, match=r"^result "):
        codec.encode(value, "result")


def test_the_text_null_is_not_taken_for_nan():
    value = {"null": "null", "list": [None, "nan", 1.5]}

    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    "text", ["a\0b", "\u202eabc", "e\u0301", "\u00e9", "😀", "a\r\nb", "\x1b[31m", "\u2028", "\ufeff"]
)
def test_fault_d03_text_is_kept_to_the_letter(text):
    assert codec.decode(codec.encode({text: text})) == {text: text}


def test_fault_d01_data_at_the_limit_is_taken():
    assert len(codec.encode("x" * (codec.DATA_LIMIT - 2))) == codec.DATA_LIMIT


def test_fault_d01_data_over_the_limit_is_refused_with_both_figures():
    with pytest.raises(DataError, match="takes 1048577 bytes of JSON, more than the limit of 1048576"):
        codec.encode("x" * (codec.DATA_LIMIT - 1))


def test_fault_d01_the_limit_counts_bytes_and_not_characters():
    with pytest.raises(DataError, match="takes 14 bytes"):
        codec.encode("😀😀😀", limit=13)


@pytest.mark.parametrize("text", ["", "{", "nul", "NaN", "1e400", '{"a":1', b"\xff", '"\\ud800"', "[" * 100_000, "1 2"])
def test_fault_d07_damaged_text_is_refused_and_said_so(text):
    with pytest.raises(DataError, match="stored JSON is damaged"):
        codec.decode(text)
