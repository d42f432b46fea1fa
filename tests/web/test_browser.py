"""The dashboard in a real browser: it lives, it acts, it runs nothing that users wrote, and everybody can use it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from muskox import ActiveJob, Flow, Muskox, Rate
from muskox.core.history import Sample, Sums
from muskox.testing import run_jobs
from muskox.web import Role, create_app
from tests.web.conftest import ACCESS, PASSWORD, served

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
AXE = Path(AXE_FILE_PATH).read_text()

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM.exists() and not os.environ.get("CI"),
        reason=f"{CHROMIUM} is not installed (apt-get install chromium)",
    ),
]

HOSTILE = [
    "<img src=x onerror=owned()>",
    '"><script>owned()</script>',
    "</script><script>owned()</script>",
    "javascript:owned()",
    "${owned()} {{owned()}}",
    "' onmouseover='owned()",
    "<svg/onload=owned()><iframe srcdoc='<script>parent.owned()</script>'>",
]


@dataclass
class Site:
    ox: Muskox
    base: str
    browser: Browser


def program_at(folder: Path) -> Muskox:
    ox = Muskox(f"sqlite:///{folder / 'jobs.db'}")

    @ox.queue("email").processor("welcome", attempts=1)
    async def welcome(job: ActiveJob, to: str = "", fail: bool = False, token: str = "") -> dict[str, str]:
        await job.log(f"writing to {to}")
        await job.progress(50)
        if fail:
            raise RuntimeError(f"no answer from {to}")
        return {"sent": to}

    @ox.queue("hostile").default_processor()
    async def anything(job: ActiveJob) -> None:
        await job.log(str(job.data))
        await job.progress(50)
        raise RuntimeError(str(job.data))

    return ox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(browser: Browser, tmp_path: Path) -> AsyncIterator[Site]:
    """A dashboard without names, on an empty store."""
    ox = program_at(tmp_path)
    async with ox, served(create_app(ox)) as base:
        yield Site(ox, base, browser)


async def open_page(site: Site, **options: object) -> tuple[BrowserContext, Page, list[str]]:
    """A page, and what its console complains about, which is nothing where all is well."""
    context = await site.browser.new_context(base_url=site.base, **options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None)
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    return context, page, complaints


@pytest_asyncio.fixture(loop_scope="module")
async def page(site: Site) -> AsyncIterator[Page]:
    context, page, complaints = await open_page(site)
    yield page
    await context.close()
    # A refusal is answered with 4xx, which a browser reports although it is meant.
    assert [line for line in complaints if "status of 4" not in line] == []


async def test_mission_e1_the_overview_lives(site: Site, page: Page):
    await page.goto("/")
    await expect(page.locator("h1")).to_have_text("Overview")
    await site.ox.queue("email").add_many([("welcome", {})] * 3)
    await expect(page.locator(".tile.waiting b")).to_have_text("3")
    await expect(page.locator(".attention")).to_contain_text("No worker is alive")

    await run_jobs(site.ox)

    await expect(page.locator(".tile.waiting b")).to_have_text("0")
    await expect(page.locator("figcaption .good b")).to_have_text("3")
    await expect(page.get_by_role("row", name="email").locator("a.completed")).to_have_text("3")


async def test_mission_e1_the_overview_looks_back(site: Site, page: Page):
    store = await site.ox.store()
    did = {"completed": 1234, "failed": 5, "r150": 1239, "w160": 1239}
    await store.record(
        [Sums("email", "", did), Sums("email", "welcome", did)], [Sample("email", 7, 0, 0, 1, 1240, 90.0)]
    )
    await page.goto("/")

    await page.get_by_role("button", name="24 hours").click()

    await expect(page.get_by_role("region", name="Totals of the span")).to_contain_text("1,234")
    await expect(page.get_by_role("img", name="age of the oldest 1 min at most")).to_be_visible()
    await page.get_by_text("As a table").first.click()
    await expect(page.get_by_role("region", name="The chart as a table").first).to_contain_text("1,234")
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run()")
    assert [one["id"] for one in found["violations"] if one["impact"] in {"serious", "critical"}] == []

    await site.ox.queue("email").add("welcome", {})
    await page.get_by_label("Queue", exact=True).select_option("email")
    await expect(page.get_by_role("region", name="Totals of the span")).to_contain_text("welcome")


async def test_mission_e2_a_failed_job_is_run_again_with_other_data(site: Site, page: Page):
    job = await site.ox.queue("email").add("welcome", {"to": "ada", "fail": True, "token": "t0psecret"})
    await run_jobs(site.ox)
    await page.goto("/#/queues/email?state=failed")
    await page.click("tbody a.row")
    await expect(page.locator(".failure")).to_contain_text("no answer from ada")
    await expect(page.locator(".log")).to_contain_text("writing to ada")
    await expect(page.locator(".json").first).to_contain_text("••••••")

    await page.get_by_role("button", name="Edit and retry…").click()
    area = page.locator("textarea")
    await area.fill("{no json")
    await page.get_by_role("button", name="Retry", exact=True).last.click()
    await expect(page.locator("dialog .wrong")).to_contain_text("JSON")
    await area.fill('{"to": "bob", "token": "••••••"}')
    await page.get_by_role("button", name="Retry", exact=True).last.click()
    await expect(page.locator("h1 .pill")).to_have_text("waiting")
    await expect(page.locator(".why")).to_contain_text("No worker is alive")
    # Nobody reloads: the page hears of the end by itself.
    await run_jobs(site.ox)
    await expect(page.locator("h1 .pill")).to_have_text("completed")
    stored = await site.ox.queue("email").get(job.id)
    assert stored is not None
    assert stored.data == {"to": "bob", "token": "t0psecret"}


async def test_mission_e2_many_jobs_are_retried_and_selected_ones_removed(site: Site, page: Page):
    queue = site.ox.queue("email")
    await queue.add_many([("welcome", {"fail": True})] * 12)
    await run_jobs(site.ox)
    await page.goto("/#/queues/email?state=failed")

    await page.get_by_role("button", name="Retry all…").click()
    await expect(page.locator("dialog h2")).to_have_text("Retry 12 jobs?")
    await page.locator("dialog .primary").click()
    await expect(page.locator("#toasts")).to_contain_text("Retry: 12 jobs")
    assert (await queue.counts()).waiting == 12

    await page.get_by_role("link", name="waiting 12").click()
    await page.locator("tbody input").nth(0).check()
    await page.locator("tbody input").nth(1).check()
    await page.get_by_role("button", name="Remove", exact=True).click()
    await page.locator("dialog .danger").click()
    await expect(page.locator(".list tbody tr")).to_have_count(10)
    await page.get_by_role("button", name="Pause email").click()
    await expect(page.locator("h1 .pill")).to_have_text("paused")
    assert (await queue.counts()).paused


async def test_a_job_and_a_schedule_are_added_from_the_page(site: Site, page: Page):
    await site.ox.queue("email").add("welcome")
    await page.goto("/#/queues/email")
    await page.get_by_role("button", name="Add a job").click()
    await page.fill("dialog [name=name]", "welcome")
    await page.fill("dialog textarea", '{"to": 12345678901234567890}')
    await page.locator("dialog .primary").click()
    await expect(page.locator(".json").first).to_contain_text("12345678901234567890")

    await page.goto("/#/schedules")
    await page.get_by_role("button", name="Add a schedule").click()
    for name, value in {"name": "tidy/night", "queue": "email", "job": "welcome", "rule": "0 3 * * *"}.items():
        await page.fill(f"dialog [name={name}]", value)
    await expect(page.locator("dialog .moments li")).to_have_count(5)  # while one types, what it means
    await page.locator("dialog .primary").click()
    await page.get_by_role("button", name="Run tidy/night now").click()
    await page.get_by_role("button", name="Pause tidy/night").click()
    await page.get_by_role("link", name="tidy/night").click()
    await expect(page.locator("tbody .pill")).to_have_text("run")
    await page.get_by_role("button", name="Change…").click()
    await page.fill("dialog [name=rule]", "3600")
    await page.fill("dialog textarea", '{"to": "eve"}')
    await page.locator("dialog .primary").click()
    await expect(page.locator("h1 + .soft")).to_contain_text("every")
    await expect(page.locator(".json")).to_contain_text("eve")
    await page.get_by_role("button", name="Delete…").click()
    await page.locator("dialog .danger").click()
    await expect(page.locator(".empty")).to_contain_text("There is no schedule")


async def test_mission_a18_limits_are_put_and_a_key_is_held_from_the_page(site: Site, page: Page):
    queue = site.ox.queue("email")
    await queue.add("welcome", {}, key="ada")
    await page.goto("/#/queues/email")
    await page.get_by_role("button", name="Limits…").click()
    await page.fill("dialog [name=rate_limit]", "100")
    await page.fill("dialog [name=rate_per]", "60")
    await page.fill("dialog [name=concurrency]", "3")
    await page.locator("dialog .primary").click()
    await expect(page.locator(".limits")).to_contain_text("100 per 1 min")
    await expect(page.locator(".limits")).to_contain_text("0 of 3 run")
    assert (await queue.limits()).limits.rate == Rate(100, per=60)
    await page.get_by_role("button", name="Hold…").click()
    await page.locator("dialog .primary").click()
    await expect(page.locator(".limits .held")).to_contain_text("ends in")
    await page.get_by_role("button", name="Let go").click()
    await expect(page.locator(".limits .held")).to_have_count(0)

    await page.get_by_role("link", name="Keys").click()
    await page.get_by_role("button", name="Limits of ada").click()
    await page.locator("dialog [name=any_concurrency]").check()
    await page.fill("dialog [name=weight]", "4")
    await page.locator("dialog .primary").click()
    await expect(page.locator("tbody tr")).to_contain_text("its own")
    await page.get_by_role("button", name="Hold ada").click()
    await page.locator("dialog .primary").click()
    await expect(page.locator("tbody .pill")).to_have_text("held")
    state = await queue.key("ada")
    assert (state.own.concurrency, state.own.weight, state.held_until is not None) == ("unlimited", 4, True)


async def test_a_flow_is_drawn_retried_and_cancelled_from_the_page(site: Site, page: Page):
    queue = site.ox.queue("email")
    flow = Flow("order/17")
    first = flow.add(queue, "welcome", {"fail": True})
    flow.add(queue, "welcome", {}, after=first, on_failure="fail")
    await site.ox.flows.add(flow)
    await page.goto("/#/flows")
    await page.get_by_role("link", name="order/17").click()
    await expect(page.locator("svg a.node")).to_have_count(2)
    await expect(page.locator("svg a.blocked")).to_have_attribute("aria-label", "welcome, blocked, after welcome")
    await run_jobs(site.ox)
    await expect(page.locator("svg a.failed")).to_have_count(2)
    await expect(page.locator("h1 .pill")).to_have_text("failed")

    await page.get_by_role("button", name="Retry 2").click()
    await expect(page.locator("h1 .pill")).to_have_text("running")
    await page.get_by_role("button", name="Cancel…").click()
    await page.locator("dialog .danger").click()
    await expect(page.locator("h1 .pill")).to_have_text("cancelled")
    await page.locator("svg a.node").first.click()
    await expect(page.locator(".facts")).to_contain_text("order/17")


async def test_live_events_come_as_they_happen_and_can_be_narrowed(site: Site, page: Page):
    await page.goto("/#/live?kinds=completed,failed")
    await expect(page.locator(".link")).to_have_text("live")
    async with page.expect_response(re.compile("/api/events")):
        await page.reload()
    await site.ox.queue("email").add_many([("welcome", {}), ("welcome", {"fail": True})])
    await run_jobs(site.ox)

    await expect(page.locator(".feed .pill")).to_have_text(["failed", "completed"])
    await page.get_by_role("button", name="failed", exact=True).click()
    await expect(page).to_have_url(re.compile("kinds=completed$"))


async def test_signing_in_shows_what_one_may_do_and_no_more(browser: Browser, tmp_path: Path):
    ox = program_at(tmp_path)
    async with ox, served(create_app(ox, access=ACCESS)) as base:
        context, page, complaints = await open_page(Site(ox, base, browser))
        await ox.queue("email").add("welcome")
        await page.goto("/#/queues/email")
        await page.fill("[name=name]", f"ada-{Role.VIEW}")
        await page.fill("[name=password]", "wrong one")
        await page.click("text=Sign in")
        await expect(page.locator(".wrong")).to_contain_text("no user has this name and password")
        await page.fill("[name=password]", PASSWORD)
        await page.click("text=Sign in")
        await expect(page.locator("h1")).to_have_text("email")
        await expect(page.locator(".list tbody tr")).to_have_count(1)
        assert await page.locator("main button").all_inner_texts() == ["Search"]
        await page.click("text=Sign out")
        await expect(page.locator("[name=password]")).to_be_visible()
        assert (await context.cookies()) == []
        await context.close()
    assert [line for line in complaints if "status of 4" not in line] == []


async def test_keys_lead_everywhere(site: Site, page: Page):
    await site.ox.queue("email").add_many([("welcome", {})] * 3)
    await page.goto("/")
    await expect(page.locator(".rail")).to_contain_text("email")
    await page.keyboard.type("gw")
    await expect(page.locator("h1")).to_have_text("Workers")
    await page.keyboard.type("g1")
    await expect(page.locator("h1")).to_have_text("email")
    await expect(page.locator(".list tbody tr")).to_have_count(3)
    await page.keyboard.type("jjx")
    await expect(page.locator(".chosen")).to_contain_text("1 selected")
    await page.keyboard.press("Enter")
    await expect(page.locator(".crumbs")).to_contain_text("job")
    await page.keyboard.type("/")
    await expect(page.locator(".find input")).to_be_focused()
    await page.keyboard.type("EMAIL\n")
    await expect(page.locator("h1")).to_have_text("email")
    await page.keyboard.press("Escape")
    await page.keyboard.type("?")
    await expect(page.locator("dialog")).to_contain_text("next and previous row")


async def test_security_s09_s10_nothing_that_users_wrote_runs(site: Site, page: Page):
    queue = site.ox.queue("hostile")
    jobs = [await queue.add(text, {text: text, "list": [text]}, id=text) for text in HOSTILE]
    await site.ox.schedules.add_every("s", 3600, queue="hostile", job=HOSTILE[0], data={"x": HOSTILE[1]})
    flow = Flow(HOSTILE[0])
    flow.add(queue, HOSTILE[1], {}, after=flow.add(queue, HOSTILE[2], {}, label=HOSTILE[3]), key=HOSTILE[4])
    await site.ox.flows.add(flow)
    await queue.add("kept", {}, key=HOSTILE[5], delay=60)
    await queue.set_key(HOSTILE[6], weight=2)
    await run_jobs(site.ox)
    paths = ["/#/flows", f"/#/flows/{quote(HOSTILE[0], safe='')}", "/#/queues/hostile/keys"]
    paths += ["/", "/#/queues/hostile", f"/#/queues/hostile?name={quote(HOSTILE[0])}&text={quote(HOSTILE[1])}"]
    paths += ["/#/schedules", "/#/schedules/s", "/#/live", f"/#/queues/{quote(HOSTILE[0], safe='')}", "/#/audit"]
    paths += [f"/#/queues/hostile/jobs/{quote(job.id, safe='')}" for job in jobs]
    await page.goto("/")
    for path in paths:
        await page.goto(path)
        await expect(page.locator("h1")).to_be_visible()
        await expect(page.locator("[aria-busy]")).to_have_count(0)
        found = await page.evaluate(
            "document.querySelectorAll('#shell img[src=x], #shell script, #shell iframe, #shell svg[onload], "
            "[onerror], [onmouseover], a[href^=javascript]').length + ('owned' in window)"
        )
        assert found == 0, path
    await expect(page.locator("h1")).to_contain_text(HOSTILE[-1][:20])


@pytest.mark.parametrize(("scheme", "width"), [("light", 1360), ("dark", 1360), ("light", 390)])
async def test_every_page_is_accessible_and_no_wider_than_its_window(site: Site, scheme: str, width: int):
    queue = site.ox.queue("email")
    job = await queue.add("welcome", {"to": "ada@example.org", "fail": True, "token": "t0psecret"})
    await queue.add_many([("welcome", {})] * 3)
    await site.ox.schedules.add_every("tidy", 3600, queue="email", job="welcome")
    await site.ox.schedules.run_now("tidy")
    await run_jobs(site.ox)
    await queue.add("nobody", {}, delay=60)
    await queue.add_many([("welcome", {})] * 3)
    await queue.pause()
    await queue.set_limits(rate=Rate(100, per=60), concurrency=4, key_concurrency=2, max_waiting=1000)
    await queue.hold(600, key="a-key")
    flow = Flow("a-flow")
    parts = [flow.add(queue, "welcome", {}, delay=600) for _ in range(3)]
    flow.add(queue, "welcome", {}, after=parts, on_failure="continue")
    await site.ox.flows.add(flow)
    context, page, complaints = await open_page(
        site, viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    places = ["#/", "#/queues/email", "#/queues/email?state=failed", f"#/queues/email/jobs/{job.id}", "#/workers"]
    places += [
        "#/schedules",
        "#/schedules/tidy",
        "#/live",
        "#/audit",
        "#/queues/unknown",
        "#/queues/email/keys",
        "#/flows",
        "#/flows/a-flow",
    ]
    async with site.ox.worker(["email"]):
        await page.goto("/")
        await page.evaluate(AXE)
        for place in places:
            await page.goto(f"/{place}")
            await expect(page.locator("h1")).to_be_visible()
            await expect(page.locator("[aria-busy]")).to_have_count(0)
            found = await page.evaluate("axe.run({resultTypes: ['violations']})")
            said = [
                f"{one['id']}: {node['html'][:150]} {json.dumps(node['any'][:1])[:300]}"
                for one in found["violations"]
                for node in one["nodes"][:3]
            ]
            assert said == [], place
            dialog = {"#/queues/email": "Add a job", "#/schedules": "Add a schedule", places[3]: "Edit and retry…"}
            dialog |= {"#/queues/email?state=failed": "Limits…", "#/queues/email/keys": "Limits of a-key"}
            if place in dialog and width > 1000:
                await page.get_by_role("button", name=dialog[place]).click()
                await expect(page.locator("dialog")).to_be_visible()
                found = await page.evaluate("axe.run('dialog', {resultTypes: ['violations']})")
                assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], place
                await page.keyboard.press("Escape")
            wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert await page.evaluate(wide), place
    await context.close()
    assert [line for line in complaints if "status of 4" not in line] == []
