"""Pictures and clips in the notifier: in this process, and on the page in a real browser."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from muskox import JobState
from tests.apps.media.drawing import encoded, scene
from tests.apps.notifier.conftest import Program, notifier_at, program
from tests.apps.notifier.test_browser import browser, pytestmark  # noqa: F401 - a fixture, and where to run

__all__ = ["browser"]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as started:
        yield started


async def test_the_notifier_takes_files_larger_than_other_requests(tmp_path):
    data = encoded(scene(900, 600), "PNG") + bytes(1_048_576)
    assert len(data) > 1_048_576
    async with notifier_at(tmp_path) as notifier:
        answer = await notifier.http.post(
            "/files", files={"file": ("photo.png", data)}, headers={"idempotency-key": "x"}, timeout=60
        )
        refused = await notifier.http.post("/users", content=data, headers={"content-type": "application/json"})

        assert (answer.status_code, refused.status_code) == (202, 413)
        job = answer.json()["job"]
        result = await notifier.services.ox.queue("images").result(job["id"], timeout=60)
        assert (await notifier.services.ox.queue("images").get(job["id"])).state is JobState.COMPLETED
        kept = tmp_path / "muskox-media" / result["original"]
        assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(data).digest()


async def test_a_page_of_another_site_may_not_send_files(tmp_path):
    async with notifier_at(tmp_path) as notifier:
        answer = await notifier.http.post("/files", content=b"x", headers={"origin": "https://evil.example"})

        assert answer.status_code == 403


async def test_mission_d03_a_photo_is_dropped_on_the_page_and_seen_before_and_after(browser, running, tmp_path):
    (tmp_path / "reindeer.jpg").write_bytes(encoded(scene(2400, 1800), quality=95))
    (tmp_path / "broken.jpg").write_bytes(encoded(scene(640, 480))[:9000])
    (tmp_path / "text.jpg").write_text("no picture at all")
    context = await browser.new_context(base_url=running.base, viewport={"width": 360, "height": 740})
    page: Page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    await page.goto("/")
    await page.get_by_role("link", name="Files").click()

    await page.set_input_files("#file", [tmp_path / name for name in ("reindeer.jpg", "broken.jpg", "text.jpg")])

    done = page.locator(".work", has_text="reindeer.jpg")
    await expect(done.locator(".state")).to_have_text("Done", timeout=60_000)
    await expect(done.locator(".facts")).to_contain_text("2400 × 1800")
    await expect(done.locator(".after figcaption")).to_contain_text("1440 × 1080")
    await expect(done.locator(".after figcaption b")).to_contain_text("% smaller")
    for picture in (".before img", ".after img"):
        await expect(done.locator(picture)).to_be_visible()
        assert await done.locator(picture).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    await expect(done.get_by_role("link", name="thumbnail.jpg")).to_be_visible()
    broken = page.locator(".work", has_text="broken.jpg")
    await expect(broken.locator(".state")).to_contain_text("cannot be read", timeout=60_000)
    refused = page.locator(".work", has_text="text.jpg")
    await expect(refused.locator(".state")).to_contain_text("Refused", timeout=60_000)
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    # A refused file answers with 4xx, which a browser reports although it is meant.
    assert [line for line in complaints if "status of 4" not in line] == []
    await context.close()
