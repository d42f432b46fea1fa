"""Options, names and durations: refused where they are given, with the value and the remedy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from muskox.core.backoff import Exponential, Fixed
from muskox.core.errors import MuskoxError, OptionError
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import (
    LONGEST_DELAY,
    Job,
    JobState,
    NewJob,
    Options,
    Retention,
    check_id,
    check_job_name,
    check_queue_name,
    moment,
    seconds,
)


def new(**fields):
    return NewJob(**{"id": "a", "queue": "files", "name": "resize", **fields})


NAN, INFINITY = float("nan"), float("inf")

REFUSED = [
    (lambda: Options(attempts=0), "attempts must be at least 1, not 0; leave it out to run once"),
    (lambda: Options(attempts=-1), "attempts must be at least 1"),
    (lambda: Options(attempts=10**9), "attempts must be at most 10000, not 1000000000"),
    (lambda: Options(attempts=1.5), "attempts must be a whole number, not 1.5"),
    (lambda: Options(attempts=True), "attempts must be a whole number"),
    (lambda: Options(attempts="3"), "attempts must be a whole number"),
    (lambda: Options(max_stalls=-1), "max_stalls must be at least 0"),
    (lambda: Options(max_stalls=1.0), "max_stalls must be a whole number"),
    (lambda: Options(timeout=0), "timeout must be more than 0 seconds, not 0"),
    (lambda: Options(timeout=-1), "timeout must be more than 0"),
    (lambda: Options(timeout=NAN), "timeout must be more than 0"),
    (lambda: Options(timeout=INFINITY), "timeout must be more than 0 seconds, not inf; leave it out for no limit"),
    (lambda: Options(timeout="5"), "timeout must be more than 0 seconds, not '5'"),
    (lambda: Options(keep_for=-1), "keep_for must be 0 seconds or more"),
    (lambda: Options(keep_for=NAN), "keep_for must be 0 seconds or more"),
    (lambda: Options(keep_for=INFINITY), "keep_for must be 0 seconds or more"),
    (lambda: Options(keep_for="1"), "keep_for must be 0 seconds or more"),
    (lambda: Options(backoff=lambda _attempt, _error: 1.0), "function of your own is given to the processor"),
    (lambda: Options(backoff=2), "backoff must be Fixed, Exponential or Steps, not 2"),
    (lambda: Retention(completed_for=-1), "retention completed_for must be 0 or more"),
    (lambda: Retention(failed_most=NAN), "retention failed_most must be 0 or more"),
    (lambda: Retention(failed_for="1"), "retention failed_for must be 0 or more"),
    (lambda: new(priority=2**31), "priority must be at most 2147483647, not 2147483648; higher runs sooner"),
    (lambda: new(priority=-(2**31)), "priority must be at least -2147483647"),
    (lambda: new(priority=1.0), "priority must be a whole number"),
    (lambda: new(priority=False), "priority must be a whole number"),
    (lambda: new(delay=-0.001), "delay must be between 0"),
    (lambda: new(delay=NAN), "delay must be between 0"),
    (lambda: new(delay=INFINITY), "delay must be between 0"),
    (lambda: new(delay=LONGEST_DELAY * 1.01), "delay must be between 0"),
    (lambda: new(delay="5"), "delay must be between 0"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_fault_d10_an_option_out_of_range_is_refused_where_it_is_given(make, message):
    with pytest.raises(OptionError) as refused:
        make()

    assert message in str(refused.value)


def test_an_option_error_is_also_a_value_error():
    with pytest.raises(ValueError, match="attempts") as refused:
        Options(attempts=0)

    assert isinstance(refused.value, MuskoxError)


def test_options_of_the_job_come_before_the_defaults():
    job, defaults = Options(attempts=2, keep_for=0), Options(attempts=9, timeout=5, backoff=Fixed(1), max_stalls=4)

    assert job.over(defaults) == Options(attempts=2, timeout=5, backoff=Fixed(1), max_stalls=4, keep_for=0)


def test_options_survive_being_stored():
    options = Options(attempts=3, backoff=Exponential(2, jitter=0.2), timeout=1.5, max_stalls=0, keep_for=60)

    assert msgspec.json.decode(msgspec.json.encode(options), type=Options) == options


def test_default_options_take_no_room():
    assert msgspec.json.encode(Options()) == b"{}"


TOO_LONG = "x" * 10_000
BAD_EVERYWHERE = ["", "a\0b", "a\nb", "\ud800", "\x1b[31m", "\u202eabc", "\u200b", TOO_LONG, None, 5, b"a", ["a"]]
BAD_FOR_QUEUES = [
    "a:b",
    "{tag}",
    "*",
    "%",
    "'",
    '"',
    ";DROP TABLE jobs",
    "]]",
    "a b",
    "é",
    "😀",
    "a/b",
    "x" * 129,
    "a\n",
]
ODD_BUT_FINE = [
    "a:b",
    "{tag}",
    "*",
    "%s",
    "'; DROP TABLE jobs; --",
    "]]",
    "__proto__",
    "..",
    "é",
    "e\u0301",
    "😀",
    "a b",
]


@pytest.mark.parametrize("name", BAD_EVERYWHERE + BAD_FOR_QUEUES, ids=ascii)
def test_fault_d04_a_queue_name_outside_the_grammar_is_refused(name):
    with pytest.raises(OptionError, match=r"queue name .* is not allowed; use 1 to 128 of A-Z a-z 0-9 \. _ -"):
        check_queue_name(name)


@pytest.mark.parametrize("name", ["email", "file-processing", "..", "A.b_C-9", "__proto__", "x" * 128])
def test_mission_a01_a_queue_name_inside_the_grammar_is_taken(name):
    assert check_queue_name(name) == name


@pytest.mark.parametrize("check", [check_id, check_job_name])
@pytest.mark.parametrize("name", [*BAD_EVERYWHERE, "x" * 256], ids=ascii)
def test_fault_d03_an_id_or_job_name_that_cannot_be_shown_is_refused(check, name):
    with pytest.raises(OptionError, match="use 1 to 255 printable characters"):
        check(name)


@pytest.mark.parametrize("check", [check_id, check_job_name])
@pytest.mark.parametrize("name", [*ODD_BUT_FINE, "x" * 255], ids=ascii)
def test_fault_d04_an_odd_id_or_job_name_is_taken_to_the_letter(check, name):
    assert check(name) == name


def test_fault_d04_a_long_name_is_not_repeated_in_the_message():
    with pytest.raises(OptionError) as refused:
        check_job_name(TOO_LONG)

    assert "10002 characters" in str(refused.value)
    assert len(str(refused.value)) < 200


@given(st.text(max_size=300))
def test_fault_d03_what_is_taken_as_an_id_is_printable_utf8(text):
    try:
        check_id(text)
    except OptionError:
        return

    assert text.encode()
    assert text.isprintable()
    assert 1 <= len(text) <= 255


@pytest.mark.parametrize(("value", "expected"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=1, milliseconds=5), 60.005)])
def test_durations_are_seconds_or_timedeltas(value, expected):
    assert seconds(value, "delay") == expected


@pytest.mark.parametrize("value", ["5", None, True, NAN, INFINITY])
def test_fault_d10_a_duration_that_is_none_is_refused(value):
    with pytest.raises(OptionError, match="delay must be seconds or a timedelta"):
        seconds(value, "delay")


@pytest.mark.parametrize("delay", [0, 1e-9, 10**9, LONGEST_DELAY])
def test_fault_t07_odd_but_possible_delays_are_taken(delay):
    assert new(delay=delay).delay == delay


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (2_147_483_648_000_000, datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)),
        (253_402_300_799_999_999, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_fault_t07_moments_are_exact_to_the_microsecond(microseconds, expected):
    assert moment(microseconds) == expected


def test_a_job_decodes_its_texts_when_asked():
    job = Job(
        "a", "files", "resize", JobState.COMPLETED, 0, '{"w":1}', result_text="[2]", progress_text="50", ended_us=10**6
    )

    assert (job.data, job.result, job.progress, job.settled) == ({"w": 1}, [2], 50, True)
    assert job.ended_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (job.started_at, job.due_at) == (None, None)


def test_a_job_tells_why_its_result_was_not_kept():
    failure = Failure(FailureKind.RESULT, message="not JSON")
    done = Job("a", "files", "resize", JobState.COMPLETED, 0, "null", failure=failure)

    assert done.result_error == failure
    assert msgspec.structs.replace(done, state=JobState.FAILED).result_error is None
