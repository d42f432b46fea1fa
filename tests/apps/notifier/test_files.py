"""Pictures and clips in the notifier: in this process, and on the page in a real browser."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Page, expect

from muskox import JobState
from muskox.apps.notifier import services
from tests.apps.media.drawing import encoded, scene
from tests.apps.media.video.conftest import bundled, pattern, shoot
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


async def test_the_notifier_makes_a_clip_that_plays_and_its_picture(tmp_path):
    clip = tmp_path / "herd.avi"
    await asyncio.to_thread(shoot, bundled(), *pattern("160x90", 1, 10), "-c:v", "mpeg4", str(clip))
    operations = '[{"operation": "transcode", "preset": "ultrafast"}, "generate-preview"]'
    async with notifier_at(tmp_path) as notifier:
        answer = await notifier.http.post(
            "/files", files={"file": ("herd.avi", clip.read_bytes())}, data={"operations": operations}, timeout=60
        )
        assert answer.status_code == 202, answer.text
        job = answer.json()["job"]["id"]
        await notifier.services.ox.queue("videos").result(job, timeout=60)
        made = {told["name"]: told for told in (await notifier.http.get(f"/jobs/{job}")).json()["outputs"]}
        video, poster = [await notifier.http.get(made[name]["url"]) for name in ("video.mp4", "poster.jpg")]

    (tmp_path / "video.mp4").write_bytes(video.content)
    played = await asyncio.to_thread(shoot, bundled(), "-i", str(tmp_path / "video.mp4"), "-f", "null", "-")
    assert video.headers["content-type"] == "video/mp4"
    assert "Video: h264" in played
    assert Image.open(BytesIO(poster.content)).size == (160, 90)


async def test_a_notifier_without_ffmpeg_says_so_and_takes_pictures(tmp_path, monkeypatch, caplog):
    # A process looks once; this one may have looked for another test.
    monkeypatch.setattr(services, "_video_tools", services._video_tools.__wrapped__)
    monkeypatch.setattr("muskox.apps.media.video.tools.imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    async with notifier_at(tmp_path) as notifier:
        clip = await notifier.http.post("/files", content=b"\0\0\0\x18ftypisom" + bytes(5000))
        photo = await notifier.http.post("/files", content=encoded(scene(64, 48)))

    assert (clip.status_code, photo.status_code) == (415, 202)
    assert "kind video are not taken here" in clip.json()["detail"]
    [warned] = [line for line in caplog.messages if "clips are not taken here" in line]
    assert "apt install ffmpeg" in warned


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
