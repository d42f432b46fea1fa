"""Exceptions as text: whatever they do when they are looked at, a failure comes out."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.errors import FinalError
from muskox.core.failure import MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure, FailureKind, describe


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")


class NotText(Exception):
    def __str__(self):
        return 5  # noqa: PLE0307 - the mistake is what is tested


class NeedsArguments(Exception):
    def __init__(self, code, *, why):
        super().__init__(code)
        self.why = why

    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Huge(Exception):
    def __str__(self):
        return "x" * 50_000_000


class Leaving(Exception):
    def __str__(self):
        raise SystemExit(3)


def raised(error):
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any error is described here
        return caught


def circular():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def endless_chain():
    error = ValueError("0")
    for number in range(3000):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    return error


def nested_group():
    group = ExceptionGroup("leaf", [ValueError("x")])
    for _ in range(500):
        group = ExceptionGroup("level", [group])
    return group


def deep_recursion():
    def down(level):
        return down(level + 1)

    try:
        down(0)
    except RecursionError as error:
        return error


BROKEN = {
    "text raises": Unprintable(),
    "text is a number": NotText(),
    "needs arguments, no pickle": NeedsArguments(5, why="because"),
    "fifty megabytes": Huge(),
    "surrogates": ValueError("\ud800 and \udfff"),
    "NUL": ValueError("a\0b"),
    "circular cause": circular(),
    "long chain": endless_chain(),
    "nested groups": nested_group(),
    "recursion": deep_recursion(),
    "not an Exception": SystemExit(3),
    "empty": ValueError(),
}


@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN)
def test_fault_h08_any_exception_becomes_text_of_bounded_length(error):
    failure = describe(raised(error))

    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure
    assert failure.type.endswith(type(error).__name__)
    assert len(failure.message) < MESSAGE_LIMIT + 100
    assert len(failure.traceback) < TRACEBACK_LIMIT + 100
    assert "\0" not in failure.message + failure.traceback


def test_fault_h08_a_text_that_cannot_be_had_is_said_so():
    assert describe(raised(Unprintable())).message == "(its text cannot be had: __str__ raised RuntimeError)"


def test_fault_h08_a_class_with_a_strange_name_is_described():
    error = type("x" * 5000, (Exception,), {"__module__": "a\0b\ud800"})("no")

    assert len(describe(raised(error)).type) < 300
    assert "\0" not in describe(raised(error)).type


def test_fault_h08_a_class_without_a_module_is_described():
    error = type("Odd", (Exception,), {"__module__": None})("no")

    assert describe(raised(error)).message == "no"


def test_a_long_message_is_cut_and_says_so():
    failure = describe(ValueError("x" * 10_000))

    assert failure.message == "x" * MESSAGE_LIMIT + "… (10000 characters)"


def test_a_long_traceback_keeps_its_end():
    failure = describe(raised(ValueError("line\n" * 10_000 + "the very end")))

    assert failure.traceback.rstrip().endswith("the very end")


def test_the_type_of_a_builtin_has_no_module():
    assert describe(ValueError("no")).type == "ValueError"
    assert describe(FinalError("no")).type == "muskox.core.errors.FinalError"


def test_a_failure_reads_as_type_and_message():
    assert str(describe(ValueError("no such file"))) == "ValueError: no such file"
    assert str(Failure(FailureKind.STALLED, message="worker gone")) == "worker gone"


@pytest.mark.parametrize(
    ("error", "final_on", "expected"),
    [
        (FinalError("no"), (), True),
        (ValueError("no"), (), False),
        (ValueError("no"), (ValueError,), True),
        (UnicodeError("no"), (ValueError, KeyError), True),
        (KeyError("no"), (ValueError,), False),
    ],
)
def test_mission_a11_errors_that_must_not_be_retried_are_final(error, final_on, expected):
    assert describe(error, final_on=final_on).final is expected


def test_fault_d14_control_characters_are_stored_as_they_are():
    assert describe(ValueError("\x1b[31m<script>")).message == "\x1b[31m<script>"


def test_fault_h08_a_text_that_asks_to_leave_is_told_like_any_other():
    assert describe(raised(Leaving())).message == "(its text cannot be had: __str__ raised SystemExit)"
