"""The pages in a real browser: registering, watching, the inbox, a reset, and a hostile mail."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from muskox import Muskox
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.bell import Bell
from muskox.apps.mail.inbox import Inbox
from muskox.apps.mail.smtp import Envelope
from muskox.apps.notifier.engine import open_engine
from tests.apps.notifier.conftest import ADA, Program, program

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM.exists() and not os.environ.get("CI"),
        reason=f"{CHROMIUM} is not installed (apt-get install chromium)",
    ),
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as started:
        yield started


@pytest.fixture
async def page(browser: Browser, running: Program) -> AsyncIterator[Page]:
    """A page that fails the test when its console has something to complain about."""
    context = await browser.new_context(base_url=running.base)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    yield page
    await context.close()
    # A refused form answers with 4xx, which a browser reports although it is meant.
    assert [line for line in complaints if "status of 4" not in line] == []


async def register(page: Page, **changes: str) -> None:
    await page.goto("/")
    for name, value in {**ADA, **changes}.items():
        await page.fill(f"#register [name={name}]", value)
    await page.click("#register button")


async def test_mission_c06_the_page_shows_a_mail_from_queued_to_delivered(page):
    await register(page)

    await expect(page.locator("#state")).to_have_text("Delivered")
    types = await page.locator("#events li").evaluate_all("items => items.map(item => item.dataset.type)")
    assert types == ["queued", "sending", "sent", "delivered"]
    await page.click("#open-mail")
    await expect(page.locator("h1")).to_have_text("Welcome to Muskox, Ada")
    await expect(page.frame_locator("#frame").locator("h1")).to_have_text("Welcome, Ada")


async def test_a_refused_registration_says_why_beside_the_form(page):
    await register(page, email="nobody")
    await expect(page.locator("#register .error")).to_contain_text("no @")
    await expect(page.locator("#register [name=email]")).to_have_attribute("aria-invalid", "true")

    await register(page)
    await expect(page.locator("#state")).to_have_text("Delivered")
    await register(page)
    await expect(page.locator("#register .error")).to_contain_text("account with this address")


async def test_mission_c02_a_password_is_reset_from_the_page_through_the_mail(page):
    await register(page)
    await expect(page.locator("#state")).to_have_text("Delivered")
    await expect(page.locator("#open-mail")).to_be_visible()
    welcome = await page.get_attribute("#open-mail", "href")
    assert welcome is not None

    await page.click("#reset button")
    await expect(page.locator("#reset-note")).to_contain_text("If there is an account")
    # The page goes on to show the welcome mail until the reset mail is on its way.
    await expect(page.locator("#open-mail")).not_to_have_attribute("href", welcome, timeout=30_000)
    await expect(page.locator("#events li")).to_have_count(4)
    await expect(page.locator("#open-mail")).to_be_visible()
    await page.click("#open-mail")
    async with page.expect_popup() as opening:
        await page.frame_locator("#frame").get_by_role("link", name="Choose a new password").first.click()
    reset = await opening.value
    await reset.fill("[name=password]", "another horse")
    await expect(reset).not_to_have_url(re.compile("token"))
    await reset.fill("[name=password2]", "another horse")
    await reset.click("button")
    await expect(reset.locator("#done")).to_be_visible()


async def test_the_inbox_shows_a_mail_as_soon_as_it_lands(page, browser, running):
    await page.goto("/dev/inbox")
    await expect(page.locator("#none")).to_be_visible()
    other = await (await browser.new_context(base_url=running.base)).new_page()

    await register(other)

    await expect(page.locator("#mails li .subject")).to_have_text("Welcome to Muskox, Ada")
    await page.click("#mails li a")
    for tab, text in (
        ("text", "Your Muskox account is ready"),
        ("headers", "Message-ID"),
        ("raw", "MIME-Version: 1.0"),
    ):
        await page.click(f"#tab-{tab}")
        await expect(page.locator(f"#part-{tab}")).to_contain_text(text)
        await expect(page.locator("[role=tabpanel]:visible")).to_have_count(1)


async def link_in(page: Page, subject: str, path: str) -> str:
    """Read a link out of the mail of that subject."""
    found = await (await page.request.get("/dev/inbox/wait", params={"subject": subject, "timeout": "15"})).json()
    mail = await (await page.request.get(f"/dev/inbox/messages/{found['id']}")).json()
    link = re.search(rf"http://127\.0\.0\.1:\d+{path}[\w=?-]+", mail["text"])
    assert link is not None, mail["text"]
    return link[0]


async def test_a_list_from_the_front_page_to_a_campaign_and_out_of_it_again(page):
    await page.goto("/")
    await page.fill("#subscribe [name=email]", "nobody")
    await page.click("#subscribe button")
    await expect(page.locator("#subscribe .error")).to_contain_text("no @")
    await page.fill("#subscribe [name=email]", "ada@example.org")
    await page.click("#subscribe button")
    await expect(page.locator("#subscribe-note")).to_contain_text("link to confirm")

    await page.goto(await link_in(page, "Confirm", "/lists/confirm"))
    await page.get_by_role("button", name="Yes, send it to me").click()
    await expect(page.locator("h1")).to_have_text("You are on the list")

    await page.goto("/campaigns/compose")
    await page.fill("[name=headline_text]", "Wool <news>")
    await page.fill("[name=text]", "Much is new.\n\nMore next week.")
    await expect(page.frame_locator("#frame").locator("h1")).to_have_text("Wool <news>")
    await page.get_by_role("button", name="Send it to the list").click()
    await expect(page.locator("#state")).to_have_text("Everybody has been written to", timeout=20_000)
    await expect(page.locator("#counts [data-of=planned] dd")).to_have_text("1")

    await page.goto(await link_in(page, "Wool", "/u/"))
    await page.get_by_role("button", name="Unsubscribe from").click()
    await expect(page.get_by_role("status")).to_contain_text("you get no more of")


async def test_the_preview_of_a_template_is_seen_on_a_phone_and_as_text(page):
    await page.goto("/dev/templates")
    await page.get_by_role("link", name="welcome").click()
    frame = page.locator("#frame")
    await expect(page.frame_locator("#frame").locator("h1")).to_contain_text("Welcome")
    wide = (await frame.bounding_box())["width"]
    await page.click("#phone")
    await expect(page.locator("#phone")).to_have_attribute("aria-pressed", "true")
    assert (await frame.bounding_box())["width"] < wide
    await page.click("#tab-text")
    await expect(page.locator("#part-text")).to_contain_text("Muskox")
    await expect(frame).to_be_hidden()


async def test_case_e40_a_hostile_mail_runs_nothing_and_loads_nothing(browser, running, tmp_path):
    # A page of its own: the console tells of each thing that was blocked, and that is as it should be.
    page = await (await browser.new_context(base_url=running.base)).new_page()
    asked: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.close()

    evil = await asyncio.start_server(listen, "127.0.0.1", 0)
    where = f"http://127.0.0.1:{evil.sockets[0].getsockname()[1]}"
    html = f"""<html><head><meta http-equiv="refresh" content="0;url={where}/refresh">
        <link rel="stylesheet" href="{where}/style"><link rel="preload" as="image" href="{where}/preload">
        <link rel="dns-prefetch" href="//evil.example"><base href="{where}/"></head>
        <body onload="top.document.title='owned'"><script>top.document.title = 'owned'</script>
        <img src="{where}/image" onerror="top.document.title='owned'"><iframe src="{where}/frame"></iframe>
        <video src="{where}/video" autoplay></video><object data="{where}/object"></object>
        <form id="form" action="{where}/form"><input name="x"><button>Log in</button></form>
        <p style="background: url({where}/background)">Hello</p><svg onload="top.document.title='owned'"></svg>
        </body></html>"""
    raw = b"Subject: hostile\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.replace("\n", "\r\n").encode()
    await asyncio.to_thread(put_into_inbox, tmp_path, raw)

    await page.goto("/dev/inbox")
    await page.click("#mails li a")
    frame = page.frame_locator("#frame")
    await expect(frame.locator("p")).to_have_text("Hello")
    await frame.locator("button").click()
    await page.reload(wait_until="networkidle")

    assert asked == []
    assert await page.title() == "hostile · Inbox"
    await expect(frame.locator("p")).to_have_text("Hello")
    evil.close()


def put_into_inbox(folder: Path, raw: bytes) -> None:
    ox = Muskox(f"sqlite:///{folder / 'muskox.db'}")
    engine = open_engine(ox.url)
    Inbox(engine, ox.world, Bell())._keep(Envelope("m1", "a@example.org", parse_address("ada@example.org"), raw, False))
    engine.dispose()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/dev/inbox", "/docs", "/auth/reset?token=x"])
async def test_no_page_is_wider_than_a_phone(browser, running, scheme, path):
    context = await browser.new_context(
        base_url=running.base, viewport={"width": 360, "height": 740}, color_scheme=scheme
    )
    page = await context.new_page()
    await page.goto(path)

    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    await context.close()
