"""A reset mail goes out while a newsletter does: it overtakes, whatever waits."""

from __future__ import annotations

import asyncio

from muskox.apps.mail.smtp import SmtpServer, Tls
from tests.apps.notifier.conftest import notifier_at
from tests.apps.notifier.people import put_on_list
from tests.apps.sink import sink

ISSUE = {"list": "newsletter", "context": {"headline_text": "News", "paragraphs": ["Much is new."]}}
PEOPLE = 300
RESETS = 3
CONCURRENCY = 4
HELD = 7 * CONCURRENCY
"""As many jobs as a worker has at most: those that run and, while runs are short, six times as many claimed ahead."""


async def test_case_e27_a_reset_overtakes_a_newsletter_that_is_under_way(tmp_path):
    """By the order at the server, not by a clock: ahead of the reset comes what the worker had claimed already.

    Twice, since a reset is two jobs: one looks the address up, one sends.
    Among the mails of the newsletter, and with no priority, it would come last.
    """
    overtaken = []
    async with sink() as server:
        smtp = SmtpServer("127.0.0.1", server.port, tls=Tls.NONE)
        async with notifier_at(tmp_path, smtp=smtp, concurrency=CONCURRENCY) as here:
            await asyncio.gather(*(here.register(email=f"ada{n}@example.org") for n in range(RESETS)))
            await server.until(lambda: len(server.mails) == RESETS)
            await asyncio.to_thread(put_on_list, here.services, PEOPLE)
            id = (await here.http.post("/campaigns", json=ISSUE)).json()["id"]
            for n in range(RESETS):
                await server.until(lambda n=n: len(server.mails) > RESETS + 20 * n, seconds=30)
                asked = await here.http.post("/auth/password-reset", json={"email": f"ada{n}@example.org"})
                assert asked.status_code == 202
                before = len(server.mails)
                await server.until(lambda n=n: resets(server.mails) > n, seconds=30)
                [place] = [i for i, mail in enumerate(server.mails) if is_reset(mail, f"ada{n}@")]
                overtaken.append(place - before)
            counts = (await here.http.get(f"/campaigns/{id}")).json()["counts"]

    assert max(overtaken) <= 2 * HELD + CONCURRENCY < counts["queued"]


def is_reset(mail: bytes, to: str) -> bool:
    head = mail.partition(b"\r\n\r\n")[0]
    return b"new password" in head and to.encode() in head


def resets(mails: list[bytes]) -> int:
    return sum(is_reset(mail, "ada") for mail in mails)
