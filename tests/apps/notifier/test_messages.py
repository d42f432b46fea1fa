"""Looking at a message: its state, its history as JSON, and live."""

from __future__ import annotations

import asyncio
import json

import httpx

from muskox.apps.mail.smtp import SmtpServer, Timeouts, Tls
from tests.apps.notifier.conftest import notifier_at, program
from tests.apps.sink import sink

QUICK = Timeouts(connect=5, greeting=5, command=5, block=5, commit=5)


def plain(port: int) -> SmtpServer:
    return SmtpServer("127.0.0.1", port, tls=Tls.NONE, timeouts=QUICK)


async def test_mission_c05_a_mail_is_really_sent_in_html_and_text(tmp_path):
    async with sink() as server, notifier_at(tmp_path, smtp=plain(server.port)) as notifier:
        body = await notifier.register(name="Zoë & Co")

        message = await notifier.ended(body["welcome_message_id"])
        assert (message["state"], message["smtp"]["code"]) == ("sent", 250)
        [mail] = server.mails
        assert b"multipart/alternative" in mail
        assert mail.index(b"text/plain") < mail.index(b"text/html")
        assert b"Zo=C3=AB &amp; Co" in mail.replace(b"=\r\n", b"")
        assert (await notifier.http.get("/dev/inbox")).status_code == 404


async def test_mission_c06_the_state_of_a_message_is_told_with_all_that_is_known(tmp_path):
    async with sink() as server, notifier_at(tmp_path, smtp=plain(server.port)) as notifier:
        server.answers(RCPT="550 5.1.1 no such user")
        body = await notifier.register()

        message = await notifier.ended(body["welcome_message_id"])
        assert (
            message.items()
            >= {
                "id": body["welcome_message_id"],
                "kind": "welcome",
                "state": "bounced",
                "reason": "unknown_mailbox",
                "to": "ada@example.org",
                "attempts": 1,
                "max_attempts": 8,
                "next_attempt_at": None,
                "smtp": {"code": 550, "enhanced": "5.1.1", "response": "5.1.1 no such user"},
                "progress": 100,
            }.items()
        )
        for moment in ("created_at", "expires_at", "terminal_at"):
            assert message[moment].endswith("Z")


async def test_mission_c06_the_history_of_a_message_is_paged_by_number(tmp_path):
    async with sink() as server, notifier_at(tmp_path, smtp=plain(server.port)) as notifier:
        body = await notifier.register()
        id = body["welcome_message_id"]
        await notifier.ended(id)

        whole = (await notifier.http.get(f"/messages/{id}/events")).json()
        rest = (await notifier.http.get(f"/messages/{id}/events", params={"after": 2})).json()
        assert [(event["seq"], event["type"]) for event in whole["data"]] == [
            (1, "queued"),
            (2, "sending"),
            (3, "sent"),
        ]
        assert whole["next"] == 3
        assert [event["seq"] for event in rest["data"]] == [3]
        assert whole["data"][2].items() >= {"smtp_code": 250, "phase": "done", "attempt": 1, "source": "smtp"}.items()


async def test_a_message_that_is_not_there_is_not_found(notifier):
    for path in ("/messages/none", "/messages/none/events", "/messages/%00", "/messages/..%2f"):
        answer = await notifier.http.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_mission_c06_events_come_live_and_the_stream_ends_with_the_message(tmp_path):
    async with (
        sink() as server,
        program(
            tmp_path, SMTP_HOST="127.0.0.1", SMTP_PORT=str(server.port), SMTP_TLS="none", SMTP_FROM="a@example.org"
        ) as running,
        httpx.AsyncClient(base_url=running.base, timeout=30) as http,
    ):
        server.answers(RCPT="451 4.3.0 later")
        body = (
            await http.post("/users", json={"email": "ada@example.org", "name": "Ada", "password": "correct horse"})
        ).json()
        path = f"/messages/{body['welcome_message_id']}/events"

        heard = []
        async with http.stream("GET", path, headers={"accept": "text/event-stream"}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    heard.append(json.loads(line[5:])["type"])
                if "deferred" in heard:
                    break
        assert heard == ["queued", "sending", "deferred"]

        async with http.stream("GET", path, headers={"accept": "text/event-stream", "last-event-id": "2"}) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    assert json.loads(line[5:])["seq"] == 3
                    break


async def test_a_browser_that_reconnects_after_the_end_is_told_to_stop(notifier):
    body = await notifier.register()
    id = body["welcome_message_id"]
    message = await notifier.until(id, lambda message: message["state"] == "delivered")

    headers = {"accept": "text/event-stream", "last-event-id": "4"}
    assert message
    assert (await notifier.http.get(f"/messages/{id}/events", headers=headers)).status_code == 204


async def test_a_stream_lets_go_when_the_service_stops(tmp_path):
    async with (
        sink() as server,
        program(
            tmp_path, SMTP_HOST="127.0.0.1", SMTP_PORT=str(server.port), SMTP_TLS="none", SMTP_FROM="a@example.org"
        ) as running,
        httpx.AsyncClient(base_url=running.base, timeout=30) as http,
    ):
        server.answers(RCPT="451 4.3.0 later")
        body = (
            await http.post("/users", json={"email": "ada@example.org", "name": "Ada", "password": "correct horse"})
        ).json()

        async with http.stream(
            "GET", f"/messages/{body['welcome_message_id']}/events", headers={"accept": "text/event-stream"}
        ) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            stopping = asyncio.ensure_future(running.stop(seconds=15))
            async for _ in lines:
                pass
            assert await stopping == 0
