"""What holds for every test; the fixtures of a room stand in its own conftest.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

# A shared machine may stop for a second at any time, so no example has a deadline; pytest-timeout
# ends what hangs. In CI the blob is what repeats a failure at home.
settings.register_profile("muskox", deadline=None, print_blob="CI" in os.environ)
settings.register_profile("deep", settings.get_profile("muskox"), max_examples=3000)
settings.load_profile("muskox")

# Tests must never reach the store or the mail server that their reader works with.
for name in list(os.environ):
    if name.startswith(("MUSKOX_", "SMTP_")) and not name.startswith("MUSKOX_TEST_"):
        del os.environ[name]


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than there are cores, since many tests wait for servers most of their time."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE / "end_to_end"):
            item.add_marker(pytest.mark.slow)
