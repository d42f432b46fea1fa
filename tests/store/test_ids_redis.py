"""The form in which Redis keeps ids gives each of them back, whatever it is, and a waiting job takes few bytes."""

from __future__ import annotations

import uuid

import msgspec
import pytest

from muskox.core.job import NewJob
from muskox.store.redis.ids import Seen, long, longs, packable, short, shorts
from tests.servers.valkey import fresh_prefix, shared_server
from tests.store.test_faults_redis import opened

UUID = "01936f3e-7c1a-7abc-8def-0123456789ab"
OTHERS = [
    "a", "ä" * 36, "x" * 17, "x" * 200, UUID.upper(), UUID.replace("-", ""), UUID.replace("-", "_"), "{" + UUID + "}",
    " 1936f3e-7c1a-7abc-8def-0123456789ab", "01936f3e-7c1a-7abc-8def-01234567  ab",
    "0-936f3e-7c1a-7abc-8def-0123456789ab",
    "-" * 36, "٠" * 8 + UUID[8:], "ÿ" + "a" * 16,
]  # fmt: skip


def test_a_uuid_is_kept_in_seventeen_bytes_and_given_back():
    assert len(short(UUID)) == 17
    assert long(short(UUID)) == UUID


@pytest.mark.parametrize("id", OTHERS)
def test_any_other_id_is_kept_as_its_text(id):
    assert short(id) == id.encode()
    assert long(short(id)) == id


def test_what_is_packed_for_a_step_is_what_is_kept():
    ids = [UUID, *OTHERS]

    packed = msgspec.msgpack.encode([packable(id) for id in ids])

    assert longs(packed) == ids


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_any_number_of_ids_is_unpacked(count):
    ids = [str(uuid.UUID(int=number)) for number in range(count)]

    assert longs(msgspec.msgpack.encode([packable(id) for id in ids])) == ids


@pytest.mark.parametrize("ids", [[UUID, UUID], [UUID, "x" * 16, "x" * 18], ["x" * 17], []])
def test_many_ids_are_packed_as_each_of_them(ids):
    assert longs(msgspec.msgpack.encode(shorts([short(id) for id in ids]))) == ids


def test_ids_that_were_seen_are_known_in_their_short_form():
    seen = Seen()

    ids = seen.read([short(UUID), b"mine"])

    assert ids == [UUID, "mine"]
    assert seen.short([*ids, UUID, "other"]) == [short(UUID), b"mine", short(UUID), b"other"]


async def test_of_a_waiting_job_nothing_is_kept_that_says_nothing():
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, prefix=prefix) as store:
        await store.add(
            [NewJob(UUID, "files", "resize", data="{}"), NewJob("b", "files", "resize", data="{}", delay=9)]
        )

        with server.client() as client:
            sizes = [client.hstrlen(f"{{{prefix}}}:jobs:files", id) for id in (short(UUID), "b")]

        # State, stamp and lengths take 15 bytes, name, priority and moment 18; a delayed one says more until its due.
        assert sizes[0] == 15 + 18 + len("{}")
        assert sizes[1] <= sizes[0] + 20
