"""Alerts: each incident is told once when it begins and once when it is over, whoever looks and whatever fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from muskox import DeclarationError, Muskox, OptionError
from muskox.contrib._webhook import WebhookRefused
from muskox.contrib.alerts import Alert, Alerts, Backlog, Failures, LateSchedule, NoWorker, Webhook
from muskox.core.history import Sums
from muskox.testing import FakeWorld, run_jobs
from tests.apps.notifier.conftest import url_of

SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four by.").decode()
ALERTS = ["muskox-alerts"]


@dataclass
class Told:
    """Somebody who is told, and may be out."""

    alerts: list[Alert] = field(default_factory=list)
    out: int = 0

    async def __call__(self, alert: Alert) -> None:
        if self.out:
            self.out -= 1
            raise ConnectionError("nobody is there")
        self.alerts.append(alert)

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(alert.rule, alert.state) for alert in self.alerts]


@dataclass
class Switch:
    """A rule of one's own."""

    name: str = "the switch"
    lasting: float = 0.0
    on: bool = True

    async def broken(self, ox: Muskox) -> str | None:
        return "it is on" if self.on else None


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(seed=1)


@pytest.fixture
async def ox(world: FakeWorld) -> AsyncIterator[Muskox]:
    async with Muskox("sqlite://:memory:", world=world) as ox:
        yield ox


async def look(ox: Muskox, world: FakeWorld, *, times: int = 1) -> None:
    """Let time pass, and whoever looks at rules look."""
    for _ in range(times):
        world.advance(16)
        await run_jobs(ox, queues=ALERTS)


async def test_an_incident_is_told_once_and_once_when_it_is_over(ox: Muskox, world: FakeWorld):
    told, switch = Told(), Switch()
    Alerts(ox, [switch], [told])

    await look(ox, world, times=6)
    assert told.said == [("the switch", "fired")]
    assert (await ox.queue("muskox-alerts").counts()).delayed == 1

    switch.on = False
    await look(ox, world, times=3)
    assert told.said == [("the switch", "fired"), ("the switch", "over")]

    switch.on = True
    await look(ox, world, times=3)
    assert told.said[2:] == [("the switch", "fired")]
    assert told.alerts[0].incident == told.alerts[1].incident != told.alerts[2].incident


async def test_who_could_not_be_told_is_told_later_and_the_others_not_twice(ox: Muskox, world: FakeWorld):
    here, away, switch = Told(), Told(out=2), Switch()
    Alerts(ox, [switch], [away, here])

    await look(ox, world, times=6)

    assert here.said == away.said == [("the switch", "fired")]


async def test_what_does_not_last_is_told_to_nobody(ox: Muskox, world: FakeWorld):
    told, switch = Told(), Switch(lasting=60.0)
    Alerts(ox, [switch], [told])

    await look(ox, world, times=2)
    switch.on = False
    await look(ox, world, times=3)
    assert told.said == []

    switch.on = True
    await look(ox, world, times=8)
    assert told.said == [("the switch", "fired")]


@pytest.mark.parametrize("store", ["sqlite", "postgres", "redis"])
async def test_mission_e4_several_workers_tell_of_an_incident_once(store: str, tmp_path: Path):
    told = Told()
    with url_of(store, tmp_path) as url:
        switch, apps = Switch(), [Muskox(url) for _ in range(3)]
        for app in apps:
            Alerts(app, [switch], [told], every=0.1)
        async with asyncio.TaskGroup() as group:
            workers = [app.worker(poll=0.02) for app in apps]
            running = [group.create_task(worker.run()) for worker in workers]
            async with asyncio.timeout(30):
                while len(told.alerts) < 1:  # noqa: ASYNC110 - workers do it
                    await asyncio.sleep(0.01)
                switch.on = False
                while len(told.alerts) < 2:  # noqa: ASYNC110 - workers do it
                    await asyncio.sleep(0.01)
            for worker in workers:
                worker.stop()
        assert len(running) == 3
        for app in apps:
            await app.close()

    assert told.said == [("the switch", "fired"), ("the switch", "over")]


async def test_rules_see_failures_backlog_workers_and_schedules(ox: Muskox, world: FakeWorld):
    email = ox.queue("email")

    @email.processor("welcome")
    async def welcome() -> None: ...

    failures, backlog = Failures("email", most=2, within=600), Backlog("email", older=300)
    nobody, late = NoWorker("email"), LateSchedule(late=60)
    for rule in (failures, backlog, late):
        assert await rule.broken(ox) is None
    assert await NoWorker().broken(ox) == "no worker is alive"

    await welcome.add()
    await ox.schedules.add_every("nightly", 30, queue="email", job="welcome")
    await (await ox.store()).record([Sums("email", "", {"failed": 3})])
    world.advance(301)

    assert "3 jobs of queue email failed" in str(await failures.broken(ox))
    assert "the oldest for 301 seconds" in str(await backlog.broken(ox))
    assert str(await nobody.broken(ox)) == "no live worker takes jobs from queue email"
    assert str(await late.broken(ox)).endswith("nightly")
    world.advance(600)
    assert await failures.broken(ox) is None


async def test_rules_of_one_name_are_refused(ox: Muskox):
    with pytest.raises(DeclarationError, match="two rules have one name"):
        Alerts(ox, [Backlog("email", 1), Backlog("email", 2)], [Told()])
    with pytest.raises(OptionError, match="somebody to tell"):
        Alerts(ox, [Backlog("email", 1)], [])


# --- webhooks ------------------------------------------------------------------------------


class Receiver(HTTPServer):
    """Takes what is sent, and answers what it is told to."""

    status = 204
    seen: list[tuple[dict[str, str], bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("Location", self.server.url + "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), _Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_webhook_is_signed_and_tried_again(ox: Muskox, world: FakeWorld, receiver: Receiver):
    switch = Switch()
    Alerts(ox, [switch], [Webhook(receiver.url, secret=SECRET)])
    receiver.status = 500
    await look(ox, world, times=2)  # the first makes the schedule
    receiver.status = 204
    await look(ox, world, times=3)

    (first, _), (headers, body) = receiver.seen
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"a key of twenty-four by.", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert first["webhook-id"] == headers["webhook-id"], "who is told twice can know it"
    told = json.loads(body)
    assert (told["type"], told["data"]["rule"], told["data"]["text"]) == ("alert.fired", "the switch", "it is on")


@pytest.mark.parametrize("status", [302, 404, 503])
async def test_a_webhook_follows_nowhere_and_says_what_it_was_answered(receiver: Receiver, world: FakeWorld, status):
    receiver.status = status
    alert = Alert("r", "fired", "text", "id", *[_moment(world)] * 2)

    with pytest.raises(WebhookRefused, match=f"127.0.0.1 answered {status}"):
        await Webhook(receiver.url, secret=SECRET)(alert)

    assert len(receiver.seen) == 1


def _moment(world: FakeWorld):
    return datetime.fromtimestamp(world.now(), UTC)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org", "example.org", "https://"])
def test_a_webhook_goes_to_the_web(url: str):
    with pytest.raises(OptionError, match="must begin with https"):
        Webhook(url, secret=SECRET)


def test_a_weak_secret_is_refused_and_none_is_shown():
    with pytest.raises(OptionError, match="at least 24 characters"):
        Webhook("https://example.org", secret="short")
    assert SECRET not in repr(Webhook("https://example.org/token", secret=SECRET))
