"""The built-in inbox: JSON for tests, pages for people, and mails that can do nothing."""

from __future__ import annotations

import asyncio

from muskox.apps.mail import inbox
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.smtp import Envelope


async def land(notifier, id: str, raw: bytes, to: str = "eve@example.org") -> None:
    async def nothing() -> None:
        pass

    await notifier.services.inbox.deliver(Envelope(id, "a@example.org", parse_address(to), raw, False), nothing)


HOSTILE = b"""Subject: =?utf-8?B?PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==?=\r
From: a@example.org\r
X-Odd: "><img src=x onerror=alert(1)>\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<html><head></head><body><script>parent.document.title="owned"</script>\r
<img src="https://evil.example/pixel.png"><form action="https://evil.example"><button>go</button></form></body></html>\r
"""


async def test_mission_c09_the_inbox_lists_reads_and_removes_mails(notifier):
    await notifier.register()
    await notifier.register(email="bob@example.org", name="Bob")
    for name in ("ada", "bob"):
        await notifier.wait(to=f"{name}@example.org")

    listed = (await notifier.http.get("/dev/inbox/messages")).json()["data"]
    assert {mail["to"] for mail in listed} == {"ada@example.org", "bob@example.org"}
    [bob] = (await notifier.http.get("/dev/inbox/messages", params={"to": "BOB@example.org"})).json()["data"]
    mail = (await notifier.http.get(f"/dev/inbox/messages/{bob['id']}")).json()
    assert "Welcome, Bob" in mail["text"]
    assert {"name": "Auto-Submitted", "value": "auto-generated"} in mail["headers"]
    raw = await notifier.http.get(bob["links"]["raw"])
    assert raw.text.startswith("Date: ")
    assert raw.headers["content-type"].startswith("text/plain")
    assert (await notifier.http.delete(f"/dev/inbox/messages/{bob['id']}")).status_code == 204
    assert (await notifier.http.delete(f"/dev/inbox/messages/{bob['id']}")).status_code == 404
    assert (await notifier.http.delete("/dev/inbox/messages")).json() == {"removed": 1}
    assert (await notifier.http.get("/dev/inbox/messages")).json() == {"data": [], "next": None}


async def test_case_e02_waiting_is_answered_as_soon_as_the_mail_lands(notifier):
    waiting = asyncio.ensure_future(notifier.wait(to="ada@example.org", subject="WELCOME"))

    await notifier.register()

    assert (await waiting)["subject"] == "Welcome to Muskox, Ada"


async def test_waiting_in_vain_ends_with_408(notifier):
    answer = await notifier.http.get("/dev/inbox/wait", params={"to": "nobody@example.org", "timeout": "0"})

    assert (answer.status_code, answer.json()["code"]) == (408, "nothing_came")


async def test_waiting_after_a_mail_waits_for_the_next(notifier):
    await notifier.register()
    first = await notifier.wait(to="ada@example.org")

    query = {"to": "ada@example.org", "after": first["id"], "timeout": "0"}
    assert (await notifier.http.get("/dev/inbox/wait", params=query)).status_code == 408


async def test_a_percent_sign_in_a_search_is_only_a_percent_sign(notifier):
    await land(notifier, "m1", b"Subject: 100% wool\r\n\r\nx\r\n")
    await land(notifier, "m2", b"Subject: 1000 wool\r\n\r\nx\r\n")

    found = (await notifier.http.get("/dev/inbox/messages", params={"subject": "100%"})).json()["data"]
    assert [mail["subject"] for mail in found] == ["100% wool"]


async def test_the_same_message_lies_there_once(notifier):
    for _ in range(3):
        await land(notifier, "m1", b"Subject: x\r\n\r\nx\r\n")

    assert len((await notifier.http.get("/dev/inbox/messages")).json()["data"]) == 1


async def test_security_s11_a_mail_is_shown_without_any_rights(notifier):
    await land(notifier, "m1", HOSTILE)
    mail = await notifier.wait(to="eve@example.org")

    html = await notifier.http.get(mail["links"]["html"])
    policy = html.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "form-action 'none'" in policy


async def test_security_s09_what_a_mail_says_is_text_on_our_pages(notifier):
    await land(notifier, "m1", HOSTILE)
    mail = await notifier.wait(to="eve@example.org")

    for path in ("/dev/inbox", mail["links"]["page"], "/dev/inbox?to=%22%3E%3Cscript%3E&subject=%3Cb%3E"):
        text = (await notifier.http.get(path)).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert '"><script>' not in text
        assert "<b>" not in text


async def test_mails_that_nobody_can_decode_are_shown_all_the_same(notifier):
    await land(notifier, "m1", b"Subject: =?x?\xff\r\nContent-Type: text/plain; charset=no-such\r\n\r\n\xff\xfe\r\n")
    mail = await notifier.wait(to="eve@example.org")

    assert (await notifier.http.get(mail["links"]["page"])).status_code == 200
    assert (await notifier.http.get(f"/dev/inbox/messages/{mail['id']}")).status_code == 200


async def test_the_oldest_mails_make_room_for_new_ones(notifier, monkeypatch):
    monkeypatch.setattr(inbox, "MOST", 3)
    for number in range(5):
        await land(notifier, f"m{number}", f"Subject: mail {number}\r\n\r\nx\r\n".encode())

    listed = (await notifier.http.get("/dev/inbox/messages")).json()["data"]
    assert [mail["subject"] for mail in listed] == ["mail 4", "mail 3", "mail 2"]
