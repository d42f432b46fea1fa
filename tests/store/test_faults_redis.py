"""What a Redis server may do to a store: lose its scripts, fill up, evict, forbid, be cut in two."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import asynccontextmanager

import pytest

from muskox.core.errors import OptionError, StoreFull, StoreReadOnly, StoreUnavailable, StoreUnsupported
from muskox.core.events import Trimmed
from muskox.core.flows import FlowKind, FlowState, NewFlow, Wait
from muskox.core.job import JobState, NewJob, Retention
from muskox.core.life import Complete, Fail, Hold, Release
from muskox.core.limits import KeyLimits, Limits, Rate
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Note, Selection, Want, WorkerRecord
from muskox.store.redis import scripts
from muskox.store.redis.location import parse
from muskox.store.redis.server import _check_version
from tests.proxy import Proxy
from tests.servers.valkey import HOST, fresh_prefix, running, shared_server, system_binary
from tests.store.flowing import complete, fail, flow, node, run_all, runs
from tests.store.reading import BROKEN, ageless, events, everything, figures, state

FILES = [Want("files")]
LIMIT = 30


@asynccontextmanager
async def opened(server, world=None, *, user="", **options):
    options.setdefault("prefix", fresh_prefix())
    said = "&".join(f"{name}={value}" for name, value in options.items())
    store = open_store(f"redis://{user}{HOST}:{server.port}/0?{said}", world or RealWorld())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def new(*ids, **fields):
    return [NewJob(id, "files", "resize", **fields) for id in ids]


async def use_every_verb(store):
    """A bit of everything; ends with what is left."""
    worker = WorkerRecord("w", "host", 1, (Want("files"),), 5)
    await store.add(new(*"abcdefghi"))
    await store.add(new("late", delay=0.001))
    await store.add(new("never", delay=1000))
    await store.beat(worker)
    jobs = await store.claim(FILES, limit=5, worker="w", lease=30, ticket="1")
    assert ageless(*await store.claim(FILES, limit=5, worker="w", lease=30, ticket="1")) == ageless(*jobs)
    leases = [job.lease for job in jobs]
    assert await store.renew(leases, lease=60) == []
    assert await store.annotate([Note(leases[0], "50", "7", ("line",))]) == []
    endings = [Complete(leases[0], "1"), Complete(leases[1]), Fail(leases[2], BROKEN, keep=60), Release(leases[3])]
    assert await store.settle(endings) == []
    while not await store.promote():
        await store.wait(["files"], seconds=0.01)
    assert await store.recover() == []
    assert await store.retry(Selection("files", states=(JobState.FAILED,))) == 1
    assert await store.promote(Selection("files", ids=("never",))) == 1
    assert await store.cancel(Selection("files", ids=("f",))) == 1
    assert await store.remove(Selection("files", ids=("g",))) == 1
    assert (await store.update("files", "h", "5")).data == 5
    assert await store.pause("files", True)
    assert await store.pause("files", False)
    assert len((await store.find(Selection("files"))).jobs) == 10
    assert [len(await store.logs("files", "a")), len(await store.workers())] == [1, 1]
    packed = await store.pack("files", JobState.WAITING)
    await store.remove(Selection("files", ids=tuple(one.job.id for one in packed)))
    assert all(added.created for added in await store.adopt(packed))
    await store.clear({"files": Retention(completed_most=0)})
    await store.beat(worker, gone=True)
    await store.wait(["files"], seconds=0.01)
    await use_limits(store)
    await use_flows(store)
    assert len(await events(store)) > 20
    assert await store.audit() == []
    return await figures(store)


async def use_flows(store):
    """All verbs of flows and batches, in a queue of its own."""
    await flow(store, node("a", queue="flowing"), node("b", [Wait("flowing", "a", "a")], queue="flowing"), open=True)
    [run] = (await runs(store, queues=["flowing"])).values()
    assert len(await store.branch(run.lease, [node("a:1", queue="flowing")])) == 1
    await complete(store, run, result="1")
    assert [parent.state for parent in await store.parents("flowing", "b")] == [JobState.COMPLETED, JobState.WAITING]
    assert await store.cancel_flow("flow") == 2
    assert await store.retry_flow("flow") == 2
    assert await run_all(store, ["flowing"]) == ["a:1", "b"]
    over = NewJob("over", "flowing", "tell")
    await store.grow(NewFlow("batch", FlowKind.BATCH, open=True, settled=over), [node("c", queue="flowing")])
    await fail(store, *(await runs(store, queues=["flowing"])).values())
    assert (await store.close_flow("batch")).state is FlowState.FAILED
    assert [job.id for job in (await store.flow_jobs("batch")).jobs] == ["c"]
    assert [one.id for one in (await store.flows(limit=1)).flows] == ["batch"]
    assert await run_all(store, ["flowing"]) == ["over"]


async def use_limits(store):
    """All that limits and keys do, in a queue of its own."""
    await store.limit("limited", Limits(rate=Rate(1000, burst=9), concurrency=5, key_concurrency=1))
    await store.limit_key("limited", "acme", KeyLimits(rate=Rate(1000, burst=9), weight=2))
    await store.add([NewJob(f"{number}", "limited", "resize", key="acme") for number in range(4)])
    [job] = await store.claim([Want("limited")], limit=5, worker="w", lease=30)
    await store.settle([Release(job.lease, 100, Hold.KEY)])
    assert await store.claim([Want("limited")], limit=5, worker="w", lease=30) == []
    assert (await store.limits("limited")).active == 0
    assert [key.blocked for key in await store.keys("limited")] == [4]
    assert (await store.standing("limited", "2", names=None, most=5)).earlier == 1
    assert len((await store.find(Selection("limited", states=(JobState.BLOCKED,)))).jobs) == 4
    await store.hold("limited", 0, key="acme")
    await store.limit("limited", Limits(key_concurrency=2))
    assert len(await store.claim([Want("limited")], limit=5, worker="w", lease=30)) == 2
    assert len(await store.pack("limited", JobState.BLOCKED)) == 2
    await store.limit_key("limited", "acme", None)
    await store.hold("limited", 10)


LEFT = {"waiting": 6, "active": 1, "cancelled": 1}


# --- scripts -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scripts.NAMES)
def test_the_server_can_read_every_step(name):
    step = scripts.script(name, flags=True)

    assert shared_server().tell("SCRIPT", "LOAD", step.text) == step.sha


@pytest.mark.parametrize("durability", ["default", "replicated"])
async def test_fault_r05_flushed_scripts_are_loaded_again_within_the_call(durability):
    async with pair() as (server, _), opened(server, durability=durability) as store:
        stop = asyncio.Event()

        async def flush():
            while not stop.is_set():
                server.tell("SCRIPT", "FLUSH")
                await asyncio.sleep(0)

        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            group.create_task(flush())
            assert await use_every_verb(store) == LEFT
            for number in range(20):
                await asyncio.gather(*(store.add(new(f"{number}-{each}")) for each in range(5)))
            stop.set()


async def test_fault_v03_two_releases_whose_scripts_differ_work_side_by_side(monkeypatch, clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as older:
        await older.add(new("a", "b"))
        [a] = await older.claim(FILES, limit=1, worker="older", lease=30)
        ours = scripts.script
        other = lambda name, flags: _changed(ours(name, flags))  # noqa: E731 - a stand-in of one line
        async with opened(server, clock, prefix=prefix) as newer:
            monkeypatch.setattr("muskox.store.redis.link.script", other)
            [b] = await newer.claim(FILES, limit=1, worker="newer", lease=30)
            assert await newer.settle([Complete(a.lease, "1")]) == []
            monkeypatch.setattr("muskox.store.redis.link.script", ours)
            assert await older.settle([Complete(b.lease, "2")]) == []
            assert await older.audit() == []


def _changed(script):
    text = script.text.replace(b"-- base.lua", b"-- another base.lua")
    return scripts.Script(script.name, text, scripts.hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


async def test_fault_v01_an_older_release_leaves_jobs_alone_that_it_would_misread():
    server, prefix = shared_server(), fresh_prefix()
    server.tell("HSET", f"{{{prefix}}}:meta", "layout", 99)

    with pytest.raises(StoreUnsupported, match="layout 99 by a newer release"):
        async with opened(server, prefix=prefix):
            pass


async def test_fault_v02_eight_stores_may_be_opened_at_once():
    server, prefix = shared_server(), fresh_prefix()
    stores = [open_store(f"{server.url}?prefix={prefix}", RealWorld()) for _ in range(8)]

    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.add(new(str(number))) for number, store in enumerate(stores)))

    assert await figures(stores[0]) == {"waiting": 8}
    await asyncio.gather(*(store.close() for store in stores))


# --- memory --------------------------------------------------------------------------------


async def fill(store, server):
    """Add until the server has no room; give how many were added."""
    server.tell("CONFIG", "SET", "maxmemory", int(server.tell("INFO", "memory")["used_memory"]) + 2_000_000)
    added = 0
    with pytest.raises(StoreFull, match="no memory left; raise maxmemory"):  # noqa: PT012 - the loop ends by it
        while added < 100_000:
            await store.add(
                [NewJob(f"{added + each}", "files", "resize", data='"' + "x" * 100 + '"') for each in range(100)]
            )
            added += 100
    return added


async def test_fault_r08_a_full_server_takes_no_jobs_and_lets_those_it_has_be_finished():
    with running() as server:
        async with opened(server) as store:
            await store.add(new("held", "released", "due", delay=0))
            held, released = await store.claim(FILES, limit=2, worker="w", lease=60)
            added = await fill(store, server)

            assert await store.renew([held.lease, released.lease], lease=60) == []
            assert await store.annotate([Note(held.lease, "50", lines=("almost",))]) == []
            assert await store.settle([Complete(held.lease, '"done"'), Release(released.lease)]) == []
            with pytest.raises(StoreFull):
                await store.add(new("one more"))
            done = 0
            while jobs := await store.claim(FILES, limit=200, worker="w", lease=60):
                assert await store.settle([Complete(job.lease, keep=0) for job in jobs]) == []
                done += len(jobs)
            assert done == added + 2
            assert await figures(store) == {"completed": 1}
            assert await store.audit() == []
            await store.add(new("one more"))


async def test_fault_r08_a_full_server_can_be_emptied_by_hand():
    with running() as server:
        async with opened(server) as store:
            added = await fill(store, server)

            assert await store.cancel(Selection("files", limit=500)) == 500
            assert await store.remove(Selection("files", limit=100_000)) == added
            await store.add(new("one more"))
            assert await figures(store) == {"waiting": 1}


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
async def test_fault_r09_a_server_that_may_evict_is_refused_unless_that_is_allowed(policy, caplog):
    with running("--maxmemory-policy", policy) as server:
        with pytest.raises(StoreUnsupported, match=f"maxmemory-policy {policy}.*set it to noeviction"):
            async with opened(server):
                pass

        async with opened(server, eviction="allow") as store:
            await store.add(new("a"))
        assert f"maxmemory-policy {policy}" in caplog.text


async def test_fault_r09_where_the_policy_cannot_be_seen_there_is_a_warning(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    # Some hosts leave the line out of what they tell.
    read = "muskox.store.redis.server.read_info"
    monkeypatch.setattr(read, lambda text: {"redis_version": "7.4.0", "role": "master"})

    async with opened(shared_server()) as store:
        await store.add(new("a"))

    assert "does not tell its maxmemory-policy" in caplog.text


@pytest.mark.parametrize("damage", ["the record", "the line", "the figures", "the lease"])
async def test_fault_r09_the_audit_names_what_was_evicted_and_nothing_hangs(damage):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, prefix=prefix) as store:
        await store.add(new("a", "b", "c"))
        [a] = await store.claim(FILES, limit=1, worker="w", lease=0.001)
        assert await store.audit() == []
        tag = f"{{{prefix}}}"
        match damage:
            case "the record":
                server.tell("HDEL", f"{tag}:jobs:files", "b")
            case "the line":
                server.tell("DEL", f"{tag}:line:files:0:resize")
            case "the figures":
                server.tell("DEL", f"{tag}:counts:files")
            case "the lease":
                server.tell("DEL", f"{tag}:active:files")

        assert await store.audit() != []
        async with asyncio.timeout(LIMIT):
            claimed = [job.id for job in await store.claim(FILES, limit=5, worker="w", lease=30)]
            await store.recover()
            await store.settle([Complete(a.lease)])
            await store.add(new("d"))
        assert claimed == {"the record": ["c"], "the line": []}.get(damage, ["b", "c"])


# --- rights --------------------------------------------------------------------------------

RIGHTS = (
    "+auth +hello +ping +select +info +time +eval +evalsha +publish +subscribe +wait +waitaof +exists +del +pexpire "
    "+hget +hmget +hset +hsetnx +hdel +hexists +hincrby +hgetall +hscan +lindex +llen +lpop +lrange +ltrim +rpush "
    "+sadd +srem +sismember +unlink +xadd +xrange +xtrim +zadd +zcard +zcount +zmscore +zpopmin +zrange "
    "+zrangebylex +zrangebyscore +zrank +zrem +zrevrange +zrevrangebyscore +zrevrank +zscore"
)
"""What docs/explanation/redis.md calls the least rights."""


async def test_fault_r16_the_least_rights_are_enough_and_nothing_is_done_beyond_them():
    with running() as server:
        prefix = fresh_prefix()
        words = ["ACL", "SETUSER", "ox", "on", ">secret", f"~{{{prefix}}}:*"]
        words += ["resetchannels", f"&{{{prefix}}}:hints", "-@all"]
        server.tell(*words, *RIGHTS.split())
        async with opened(server, user="ox:secret@", prefix=prefix) as store:
            assert await use_every_verb(store) == LEFT

        asked = {name.removeprefix("cmdstat_") for name in server.tell("INFO", "commandstats")}
        assert not asked & {"config", "keys", "scan", "flushall", "flushdb", "debug", "script"}


async def test_the_least_rights_are_those_of_the_documentation(request):
    page = (request.config.rootpath / "docs/explanation/redis.md").read_text()

    [block] = re.findall(r"^ACL SETUSER .*?^```", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"\+[a-z]+", block)) == set(RIGHTS.split())


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("", "wants a password"),
        ("ox:wrong@", "refuses user name or password"),
        ("poor:secret@", "forbids its user what Muskox needs"),
    ],
)
async def test_fault_s14_what_is_wrong_with_the_rights_is_said_without_the_password(user, said):
    with running("--requirepass", "topsecret") as server:
        server.secrets = {"password": "topsecret"}
        server.tell("ACL", "SETUSER", "poor", "on", ">secret", "~*", "+info", "+hello", "+auth")
        with pytest.raises(StoreUnavailable, match=said) as caught:
            async with opened(server, user=user):
                pass

    assert not re.search("secret|wrong@", str(caught.value))


# --- size ----------------------------------------------------------------------------------


async def test_fault_r17_twenty_thousand_due_jobs_are_promoted_in_bounded_steps(clock):
    async with opened(shared_server(), clock) as store:
        for first in range(0, 20_000, 5000):
            await store.add([NewJob(str(number), "files", "resize", delay=1) for number in range(first, first + 5000)])
        clock.advance(2)

        assert await store.promote(limit=9000) == 9000
        assert await store.promote() == 1000
        assert await store.promote(limit=100_000) == 10_000
        assert await figures(store) == {"waiting": 20_000}


async def test_fault_r17_ten_thousand_at_once_overflow_nothing(clock):
    ids = tuple(f"{number:05}" for number in range(10_000))
    async with opened(shared_server(), clock, timeout=30) as store:
        await store.add([NewJob(id, "files", "resize") for id in ids])
        jobs = await store.claim(FILES, limit=10_000, worker="w", lease=30)
        leases = [job.lease for job in jobs]

        assert [job.id for job in jobs] == list(ids)
        assert await store.renew(leases, lease=30) == []
        assert len(await store.get("files", ids)) == 10_000
        assert await store.settle([Release(lease) for lease in leases[:5000]]) == []
        assert await store.settle([Complete(lease) for lease in leases[5000:]]) == []
        assert await store.cancel(Selection("files", ids=ids)) == 5000
        assert await store.retry(Selection("files", limit=10_000)) == 5000
        assert await store.remove(Selection("files", limit=10_000)) == 10_000
        assert await figures(store) == {}


async def test_a_million_left_behind_in_a_line_only_delay_a_claim(clock):
    """Cancelled by hand from the middle, they stay in their line until a claim passes over them."""
    async with opened(shared_server(), clock, timeout=30) as store:
        ids = [str(number) for number in range(10_000)]
        await store.add([NewJob(id, "files", "resize") for id in ("first", *ids, "last")])
        for first in range(0, 10_000, 1000):
            await store.cancel(Selection("files", ids=tuple(ids[first : first + 1000])))

        assert [job.id for job in await store.claim(FILES, limit=1, worker="w", lease=30)] == ["first"]
        assert [job.id for job in await store.claim(FILES, limit=5, worker="w", lease=30)] == ["last"]
        assert await store.audit() == []


# --- cluster, events, versions ---------------------------------------------------------------


async def test_fault_r18_all_keys_are_in_one_slot():
    server, prefix = shared_server("cluster"), fresh_prefix()
    store = open_store(f"redis+cluster://{HOST}:{server.port}?prefix={prefix}", RealWorld())
    await store.open()
    await use_every_verb(store)
    await store.add([NewJob("{x}", "other", "{name}")])
    await store.close()

    found = [key for key in server.tell("KEYS", "*") if prefix.encode() in key]
    assert len(found) > 8
    assert len({server.tell("CLUSTER", "KEYSLOT", key) for key in found}) == 1


async def test_fault_r18_a_node_of_a_cluster_says_that_it_is_one_when_it_does_not_have_the_keys():
    with running("--cluster-enabled", "yes") as server, pytest.raises(StoreUnavailable, match="cluster is down"):
        async with opened(server):
            pass


async def test_fault_r19_a_slow_reader_learns_what_it_missed_and_jobs_outlive_their_events(monkeypatch):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, prefix=prefix) as store:
        await store.add(new(*(str(number) for number in range(50))))
        server.tell("XTRIM", f"{{{prefix}}}:events", "MAXLEN", 0)
        await store.add(new("last"))

        first, *rest = await store.events(after=0)

        assert (type(first), first.offset, [event.job_id for event in rest]) == (Trimmed, 50, ["last"])
        assert len(await store.claim(FILES, limit=100, worker="w", lease=30)) == 51


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"redis_version": "6.0.9"}, "is Redis 6.0.9, which is too old; Redis 6.2 or Valkey 7.2 or newer is needed"),
        ({"redis_version": "5.0"}, "too old"),
        ({"redis_version": "7.2.4", "valkey_version": "7.0.0"}, "is Valkey 7.0.0"),
        ({}, "of an unknown version"),
    ],
)
def test_fault_r20_a_server_that_is_too_old_is_refused_with_what_is_needed(info, words):
    with pytest.raises(StoreUnsupported, match=words):
        _check_version(info, parse("redis://localhost"))


@pytest.mark.parametrize("protocol", [2, 3])
async def test_fault_r20_both_protocols_give_the_same(protocol):
    async with opened(shared_server(), protocol=protocol) as store:
        assert await use_every_verb(store) == LEFT


@pytest.mark.skipif(system_binary() is None, reason="there is no redis-server on PATH, which Debian's package has")
async def test_fault_r20_the_redis_of_the_system_does_the_same():
    async with opened(shared_server("redis7")) as store:
        assert await use_every_verb(store) == LEFT


# --- replicas, disks -------------------------------------------------------------------------


@asynccontextmanager
async def pair():
    """A primary and a replica that follows it."""
    with running() as primary, running("--replicaof", HOST, str(primary.port)) as replica:
        await following(replica)
        yield primary, replica


async def following(replica):
    """Wait until a replica has all that its primary had."""
    while replica.tell("INFO", "replication")["master_link_status"] != "up":  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_fault_r06_a_replica_is_refused_and_says_why():
    async with pair() as (_, replica):
        with pytest.raises(StoreReadOnly, match=r"is a replica.*use the address of the primary"):
            async with opened(replica):
                pass


async def test_fault_r06_a_primary_that_became_a_replica_takes_no_writes():
    async with pair() as (primary, replica), opened(primary) as store:
        await store.add(new("a"))
        replica.tell("REPLICAOF", "NO", "ONE")
        primary.tell("REPLICAOF", HOST, replica.port)

        with pytest.raises((StoreReadOnly, StoreUnavailable)):
            await store.add(new("b"))


async def test_fault_r07_what_a_replica_never_saw_is_lost_in_one_piece_and_nothing_is_half_moved():
    with running() as primary, Proxy(HOST, primary.port) as line:  # noqa: SIM117 - a replica needs the line's port
        with running("--replicaof", HOST, str(line.port)) as replica:
            await following(replica)
            prefix = fresh_prefix()
            async with opened(primary, prefix=prefix) as store:
                seen = [f"seen-{number}" for number in range(50)]
                for id in seen:
                    await store.add(new(id))
                assert primary.tell("WAIT", 1, 5000) == 1
                line.black_hole()
                for number in range(50):
                    await store.add(new(f"lost-{number}"))
                claimed = await store.claim(FILES, limit=10, worker="w", lease=30)
                await store.settle([Complete(job.lease) for job in claimed])
            primary.kill()
            replica.tell("REPLICAOF", "NO", "ONE")

            async with opened(replica, prefix=prefix) as store:
                assert [job.id for job in (await store.find(Selection("files"))).jobs] == seen
                assert await figures(store) == {"waiting": 50}
                assert await store.audit() == []


async def test_fault_r07_with_durability_replicated_an_add_is_confirmed_by_a_replica_or_not_at_all():
    async with pair() as (primary, replica), opened(primary, durability="replicated", timeout=1) as store:
        await store.add(new("a"))
        replica.freeze()
        with pytest.raises(StoreUnavailable, match=r"nobody confirmed in time.*durability replicated"):
            await store.add(new("b"))
        replica.thaw()

        assert [added.created for added in await store.add(new("b"))] == [False]


async def test_fault_r02_with_durability_fsync_an_add_waits_for_the_disk():
    with running("--appendonly", "yes", "--appendfsync", "everysec") as server:
        async with opened(server, durability="fsync") as store:
            await store.add(new("a"))
            [job] = await store.claim(FILES, limit=1, worker="w", lease=30)
            await store.settle([Complete(job.lease)])
            assert server.tell("INFO", "commandstats")["cmdstat_waitaof"]["calls"] >= 2
        server.kill()
        server.start()
        async with opened(server, prefix="other") as store:
            assert await figures(store) == {}


async def test_fault_r02_an_add_that_never_reaches_the_disk_is_not_confirmed():
    # This server leaves it to the system when it writes to the disk.
    with running("--appendonly", "yes", "--appendfsync", "no") as server:
        async with opened(server, durability="fsync", timeout=1) as store:
            # Where the machine is busy, our own patience may end before the server's.
            with pytest.raises(StoreUnavailable, match=r"nobody confirmed in time.*durability fsync|gave no answer"):
                await store.add(new("a"))


async def test_fault_r02_durability_fsync_needs_a_file_to_append_to():
    with pytest.raises(StoreUnsupported, match="set appendonly yes"):
        async with opened(shared_server(), durability="fsync"):
            pass


async def test_fault_r04_tokens_of_before_an_old_snapshot_never_come_again():
    with running() as server:
        prefix = fresh_prefix()
        async with opened(server, prefix=prefix) as store:
            await store.add(new("a", "b"))
            server.tell("SAVE")
            old = await store.claim(FILES, limit=2, worker="before", lease=30)
        server.kill()
        server.words = ("--dbfilename", "dump.rdb")
        server.start()
        async with opened(server, prefix=prefix) as store:
            assert await figures(store) == {"waiting": 2}
            fresh = await store.claim(FILES, limit=2, worker="after", lease=30)

            assert min(job.lease.token for job in fresh) > max(job.lease.token for job in old)
            assert await store.settle([Complete(job.lease) for job in old]) == [job.lease for job in old]
            assert await store.settle([Complete(job.lease) for job in fresh]) == []
            assert await store.audit() == []


async def test_fault_r03_a_server_that_lost_everything_answers_old_leases_with_lost():
    with running() as server:
        prefix = fresh_prefix()
        async with opened(server, prefix=prefix) as store:
            await store.add(new("a"))
            [job] = await store.claim(FILES, limit=1, worker="w", lease=30)
            server.kill()
            server.start()
            await store.wait(["files"], seconds=0.05)

            assert await store.renew([job.lease], lease=30) == [job.lease]
            assert await store.settle([Complete(job.lease)]) == [job.lease]
            assert await everything(store) == await everything(store, "files")
            await store.add(new("b"))
            assert await state(store, "b") is JobState.WAITING
            assert await store.audit() == []


# --- URLs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/x", "is a number"),
        ("redis://h/0/1", "is a number"),
        ("redis://h:99999", "is not a port"),
        ("redis://h?colour=red", "no option 'colour'"),
        ("redis://h?prefix=a:b", "prefix 'a:b' is not allowed"),
        ("redis://h?durability=perhaps", "durability must be default or fsync or replicated"),
        ("redis://h?timeout=soon", "timeout must be between"),
        ("redis+sentinel://h", "names the service"),
        ("redis+cluster://h/3", "only database 0"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_what_can(url, words):
    with pytest.raises(OptionError, match=words):
        parse(url)


def test_a_url_says_where_and_how():
    found = parse("rediss+sentinel://ox:p%40ss@one:1,two/main/3?prefix=shop&timeout=2&durability=replicated")

    assert (found.kind, found.hosts, found.service, found.db) == ("sentinel", (("one", 1), ("two", 26379)), "main", 3)
    assert (found.username, found.password, found.tls, found.prefix) == ("ox", "p@ss", True, "shop")
    assert (found.timeout, found.durability) == (2.0, "replicated")
    assert parse("valkey://[::1]:7000").hosts == (("::1", 7000),)
    assert parse("redis://").hosts == (("localhost", 6379),)
