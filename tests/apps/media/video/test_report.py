"""What an encoder says of its progress, and what is told of it."""

from __future__ import annotations

import pytest

from muskox.apps.media.video.report import Meter, Reader, Report, share


def test_a_report_is_what_stands_between_two_marks() -> None:
    said = (
        b"frame=12\nfps=24.5\nout_time_us=500000\nout_time_ms=500000\ntotal_size=900\nspeed=1.5x\nprogress=continue\n"
    )

    assert Reader().feed(said) == [Report(0.5, 12, 900, 24.5, 1.5)]


def test_a_report_may_come_in_pieces() -> None:
    reader, said = Reader(), b"out_time_us=2000000\nprogress=end\n"

    reports = [report for at in range(len(said)) for report in reader.feed(said[at : at + 1])]

    assert reports == [Report(out_time=2.0, ended=True)]


@pytest.mark.parametrize(
    ("value", "out_time"), [("N/A", None), ("-9223372036854775808", 0.0), ("-20000", 0.0), ("", None), ("nan", None)]
)
def test_early_reports_are_no_numbers_or_far_below_zero(value: str, out_time: float | None) -> None:
    [report] = Reader().feed(f"out_time_us={value}\nspeed=N/A\nprogress=continue\n".encode())

    assert (report.out_time, report.speed) == (out_time, None)


def test_a_flood_without_an_end_of_line_takes_no_memory() -> None:
    reader = Reader()
    for _ in range(100):
        assert reader.feed(b"x" * 100_000) == []

    assert len(reader._rest) <= 4096
    assert reader.feed(b"\nframe=3\nprogress=continue\n") == [Report(frame=3)]


@pytest.mark.parametrize(
    ("out_time", "duration", "done"),
    [(5.0, 10.0, 0.5), (11.0, 10.0, 1.0), (None, 10.0, None), (5.0, None, None), (5.0, 0.0, None)],
)
def test_more_than_all_is_never_done(out_time: float | None, duration: float | None, done: float | None) -> None:
    assert share(out_time, duration) == done


def test_percentages_never_fall_and_come_half_a_second_apart() -> None:
    meter = Meter()

    told = [meter.mark(2, 0.0, always=True)]
    told += [meter.move(done, now) for done, now in [(0.1, 0.2), (0.2, 0.6), (0.1, 1.2), (0.21, 1.3), (1.0, 1.4)]]
    told += [meter.mark(97, 1.5), meter.mark(100, 1.5, always=True)]

    assert told == [2, None, 23, None, 24, 95, None, 100]
