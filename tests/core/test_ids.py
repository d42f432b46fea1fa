"""Ids of both worlds: UUIDv7, in order, never twice, whoever asks and whatever the clock does."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from muskox.runtime.world import RealWorld
from muskox.testing import FakeWorld


@pytest.fixture(params=[RealWorld, FakeWorld])
def world(request):
    return request.param()


def test_an_id_is_a_uuid_of_version_7(world):
    made = uuid.UUID(world.new_id())

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert abs((made.int >> 80) / 1000 - world.now()) < 1


def test_later_ids_sort_later(world):
    made = [world.new_id() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_of_many_threads_never_repeat_and_stay_in_order_per_thread(world):
    together = threading.Barrier(8)

    def make(_):
        together.wait(10)
        return [world.new_id() for _ in range(5_000)]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))

    assert all(ids == sorted(ids) for ids in made)
    assert len({id for ids in made for id in ids}) == 40_000


def test_fault_t03_ids_grow_although_the_clock_goes_back(monkeypatch):
    world = RealWorld()
    first = world.new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_600_000_000_000_000_000)

    assert first < world.new_id() < world.new_id()


def test_two_worlds_make_different_ids():
    assert FakeWorld().new_id() != FakeWorld().new_id()


def test_one_seed_makes_the_same_ids_and_dice():
    first, second = FakeWorld(seed=5), FakeWorld(seed=5)

    assert [first.new_id(), first.chance(), first.secret(4)] == [second.new_id(), second.chance(), second.secret(4)]
