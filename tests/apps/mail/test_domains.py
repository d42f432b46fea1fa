"""Limits of recipient domains: kept by the engine's keys, learned from what servers answer."""

from __future__ import annotations

from muskox import Rate
from muskox.apps.mail.domains import DomainRules, read_domains
from muskox.testing import FakeWorld, run_jobs
from tests.apps.conftest import post
from tests.apps.sink import sink


def learned(built):
    with built.engine.connect() as connection:
        return [(found.domain, found.queue, found.per_minute) for found in read_domains(connection)]


async def test_case_e31_a_slow_domain_holds_up_no_other(tmp_path):
    """Staged with one worker and a clock that is moved; that limits hold over processes is the engine's own suite."""
    world = FakeWorld()
    rules = {"domains": DomainRules(bulk=Rate(5, per=1))}
    async with sink() as server, post(tmp_path, port=server.port, worker=False, world=world, delivery=rules) as built:
        slow = [built.send(to=f"u{number}@slow.example", kind="newsletter") for number in range(12)]
        others = [built.send(to=f"u@{number}.example", kind="newsletter") for number in range(30)]

        await run_jobs(built.ox)

        assert {built.message(id).state for id in others} == {"sent"}
        arrived = [sum(built.message(id).state == "sent" for id in slow)]
        assert {built.message(id).attempts for id in slow if built.message(id).state == "queued"} == {0}
        for _ in range(30):
            world.advance(0.1)
            await run_jobs(built.ox)
            arrived.append(sum(built.message(id).state == "sent" for id in slow))
        assert arrived[-1] == 12
        assert max(later - earlier for earlier, later in zip(arrived, arrived[10:], strict=False)) <= 6


async def test_case_e32_a_domain_that_asks_us_to_slow_down_gets_half_and_then_more_again(tmp_path):
    world = FakeWorld()
    rules = {"domains": DomainRules(bulk=Rate(60, per=60, burst=60), acceptances=5)}
    async with sink() as server, post(tmp_path, port=server.port, worker=False, world=world, delivery=rules) as built:
        server.script = lambda step, _line: "421 4.7.28 rate" if step == "RCPT" else None
        hurried = built.send(to="a@slow.example", kind="newsletter")

        await run_jobs(built.ox)

        assert (built.message(hurried).state, built.message(hurried).reason) == ("deferred", "rate_limited")
        assert learned(built) == [("slow.example", "mail-bulk", 30)]
        assert (await built.ox.queue("mail-bulk").key("slow.example")).rate == Rate(30, per=60)

        server.script = lambda _step, _line: None
        for number in range(5):
            built.send(to=f"b{number}@slow.example", kind="newsletter")
            world.advance(3)
            await run_jobs(built.ox)

        assert learned(built) == [("slow.example", "mail-bulk", 33)]
        assert (await built.ox.queue("mail-bulk").key("slow.example")).rate == Rate(33, per=60)


async def test_what_was_learned_is_forgotten_when_the_old_rate_is_reached(tmp_path):
    world = FakeWorld()
    rules = {"domains": DomainRules(bulk=Rate(2, per=60, burst=2), acceptances=1)}
    async with sink() as server, post(tmp_path, port=server.port, worker=False, world=world, delivery=rules) as built:
        server.script = lambda step, _line: "421 4.7.28 rate" if step == "RCPT" else None
        built.send(to="a@slow.example", kind="newsletter")
        await run_jobs(built.ox)
        assert learned(built) == [("slow.example", "mail-bulk", 1)]

        server.script = lambda _step, _line: None
        built.send(to="b@slow.example", kind="newsletter")
        world.advance(61)
        await run_jobs(built.ox)

        assert learned(built) == []
        assert (await built.ox.queue("mail-bulk").key("slow.example")).rate == Rate(2, per=60, burst=2)


async def test_a_domain_that_refuses_us_twenty_times_is_left_alone_for_an_hour(tmp_path):
    world = FakeWorld()
    async with sink() as server, post(tmp_path, port=server.port, worker=False, world=world) as built:
        server.answers(RCPT="550 5.7.1 blocked")
        ids = [built.send(to=f"u{number}@angry.example") for number in range(23)]
        other = built.send(to="a@calm.example")

        await run_jobs(built.ox)

        states = [built.message(id).state for id in ids]
        assert 20 <= states.count("bounced") < 23
        assert built.message(other).state == "bounced"
        tries = server.commands.count("DATA") + len([line for line in server.commands if line.startswith("RCPT")])
        world.advance(3_500)
        await run_jobs(built.ox)
        assert len([line for line in server.commands if line.startswith("RCPT")]) == tries

        world.advance(200)
        await run_jobs(built.ox)
        assert {built.message(id).state for id in ids} == {"bounced"}


async def test_domains_of_one_provider_are_limited_as_one(tmp_path):
    groups = {"mail": {"domain_groups": {"googlemail.com": "gmail.com"}}}
    async with post(tmp_path, worker=False, **groups) as built:
        ids = [built.send(to=f"ada@{domain}") for domain in ("gmail.com", "googlemail.com", "example.org")]

        keys = [(await built.ox.queue("mail").get(id)).key for id in ids]

        assert keys == ["gmail.com", "gmail.com", "example.org"]
