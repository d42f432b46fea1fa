"""The HTTP interface: files in, jobs to watch, outputs out, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from muskox.apps.media.images.pool import Pool
from muskox.apps.media.limits import Limits
from muskox.apps.media.web import problems
from muskox.apps.media.web.routes import media_router
from tests.apps.media.conftest import Studio, studio_in
from tests.apps.media.drawing import encoded, plain_png, png_with_text, scene


@dataclass
class Site:
    """The routes over a running application."""

    studio: Studio
    http: httpx.AsyncClient

    async def send(self, data: bytes, operations: Any = None, name: str = "photo.jpg") -> httpx.Response:
        form = {} if operations is None else {"operations": json.dumps(operations)}
        return await self.http.post("/files", files={"file": (name, data)}, data=form)

    async def made(self, data: bytes, operations: Any = None) -> dict[str, Any]:
        """Send a file, wait for the end of its job and give that."""
        answer = await self.send(data, operations)
        assert answer.status_code in {200, 202}, answer.text
        return await self.ended(answer.json()["job"]["id"])

    async def ended(self, id: str) -> dict[str, Any]:
        [*_, (kind, last)] = await self.events(id)
        assert kind == "end"
        return last

    async def events(self, id: str) -> list[tuple[str, dict[str, Any]]]:
        """Everything that the stream of a job tells, until it ends."""
        text = (await self.http.get(f"/jobs/{id}/events", timeout=60)).text
        found = []
        for block in text.replace("\r\n", "\n").split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "data" in fields:
                found.append((fields.get("event", ""), json.loads(fields["data"])))
        return found


@pytest.fixture
async def site(tmp_path: Path, pool: Pool) -> AsyncIterator[Site]:
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio, studio.ox.worker(concurrency=2):
        app = FastAPI()
        app.include_router(media_router(studio.media))
        problems.install(app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield Site(studio, http)


async def test_mission_d03_a_file_is_sent_watched_and_fetched(site: Site):
    data = encoded(scene(2400, 1800))

    answer = await site.send(data, name="../my photo.jpg")

    assert answer.status_code == 202
    file, job = answer.json()["file"], answer.json()["job"]
    assert (file["name"], file["width"], file["height"]) == ("my photo.jpg", 2400, 1800)
    assert (file["sha256"], file["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    told = await site.events(job["id"])
    assert told[0][0] == "state"
    percents = [value["progress"] for kind, value in told if kind in {"state", "end"}]
    assert percents == sorted(percents)
    end = told[-1][1]
    assert (end["state"], end["progress"], end["error"]) == ("completed", 100, None)
    assert [(made["name"], made["width"], made["height"]) for made in end["outputs"]] == [
        ("processed.jpg", 1440, 1080),
        ("thumbnail.jpg", 300, 300),
    ]
    for made in end["outputs"]:
        got = await site.http.get(made["url"])
        assert hashlib.sha256(got.content).hexdigest() == made["sha256"]
        assert got.headers["content-type"] == "image/jpeg"
    assert (await site.http.get(file["links"]["original"])).content == data
    shown = (await site.http.get(f"/files/{file['id']}")).json()
    assert [one["id"] for one in shown["jobs"]] == [job["id"]]


async def test_the_same_file_again_is_answered_at_once(site):
    data = encoded(scene(320, 240))
    await site.made(data)

    again = await site.send(data)

    assert again.status_code == 200
    assert again.json()["cached"] is True
    assert again.json()["job"]["state"] == "completed"
    assert [kind for kind, _ in await site.events(again.json()["job"]["id"])] == ["end"]
    url = again.json()["job"]["outputs"][0]["url"]
    assert (await site.http.get(url)).status_code == 200


async def test_a_body_may_be_the_file_itself(site):
    answer = await site.http.post(
        "/files", params={"name": "a.png", "operations": '["generate-thumbnail"]'}, content=png_with_text()
    )

    job = await site.ended(answer.json()["job"]["id"])
    assert answer.json()["file"]["name"] == "a.png"
    assert [made["name"] for made in job["outputs"]] == ["thumbnail.jpg"]


async def test_case_f9_a_file_is_what_its_bytes_say(site):
    refused = {
        b"<svg xmlns='http://www.w3.org/2000/svg'/>": (415, "unsupported_type"),
        b"%PDF-1.7\n": (415, "unsupported_type"),
        b"<!doctype html><script>alert(1)</script>": (415, "unsupported_type"),
        b"": (400, "empty"),
        b"0123456789": (415, "unsupported_type"),
    }

    for data, (status, code) in refused.items():
        answer = await site.send(data, name="photo.jpg")
        assert (answer.status_code, answer.json()["code"]) == (status, code), data
        assert answer.headers["content-type"] == "application/problem+json"
    assert site.studio.partial == []


async def test_case_f8_what_is_too_much_is_refused_before_a_job_is_made(site, tmp_path):
    plain_png(30_000, 30_000, tmp_path / "bomb.png")

    answer = await site.send((tmp_path / "bomb.png").read_bytes())

    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_pixels")
    assert (await site.studio.ox.queue("images").counts()).waiting == 0


async def test_case_f10_a_corrupt_file_says_so_in_its_job(site):
    data = encoded(scene(640, 480))

    job = await site.made(data[: len(data) * 6 // 10])

    assert (job["state"], job["attempt"], job["outputs"]) == ("failed", 1, [])
    assert job["error"]["reason"] == "corrupt"
    assert (await site.http.get(f"/files/{job['file_id']}/outputs/processed.jpg")).status_code == 404


async def test_case_f15_a_body_without_a_length_is_cut_off_at_the_limit(site):
    most = site.studio.media.limits.image.bytes
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"\xff\xd8\xff\xe0" + bytes(65_532)
        while sent < 60 * 1024 * 1024:
            sent += 65_536
            yield bytes(65_536)

    answer = await site.http.post("/files", content=endless())

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert sent <= most + 1024 * 1024
    assert [path for path in site.studio.media.storage.root.rglob("*") if path.is_file()] == []


BAD = [
    (["explode"], "/operations/0/operation"),
    ([{"operation": "compress", "quality": 101}], "/operations/0/quality"),
    ([{"operation": "resize", "width": -1}], "/operations/0/width"),
    (["resize", {"operation": "compress", "crf": "23; rm"}], "/operations/1"),
]


async def test_case_f33_security_s40_what_cannot_be_made_is_refused_with_a_pointer(site):
    file = (await site.made(encoded(scene(64, 48))))["file_id"]
    before = (await site.studio.ox.queue("images").counts()).completed

    for operations, pointer in BAD:
        for answer in (
            await site.send(encoded(scene(48, 64)), operations),
            await site.http.post(f"/files/{file}/process", json={"operations": operations}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "bad_operations")
            assert [found["pointer"] for found in answer.json()["errors"]] == [pointer]
    counts = await site.studio.ox.queue("images").counts()
    assert (counts.waiting, counts.active, counts.completed) == (0, 0, before)
    assert (await site.send(encoded(scene(48, 64)))).status_code == 202


async def test_something_else_is_made_of_a_file_that_is_there(site):
    first = await site.made(encoded(scene(640, 480)))
    asked = {"operations": [{"operation": "resize", "width": 100}, {"operation": "compress", "format": "webp"}]}

    answer = await site.http.post(f"/files/{first['file_id']}/process", json=asked)
    second = await site.ended(answer.json()["job"]["id"])

    assert answer.status_code == 202
    assert [(made["name"], made["width"]) for made in second["outputs"]] == [("processed.webp", 100)]
    for url in (first["outputs"][0]["url"], second["outputs"][0]["url"]):
        assert (await site.http.get(url)).status_code == 200


async def test_case_f35_a_range_a_tag_and_no_guessing(site):
    job = await site.made(encoded(scene(640, 480)))
    made = job["outputs"][0]
    whole = (await site.http.get(made["url"])).content

    async def ask(**headers: str) -> httpx.Response:
        return await site.http.get(
            made["url"], headers={name.replace("_", "-"): told for name, told in headers.items()}
        )

    part = await ask(Range="bytes=0-99")
    assert (part.status_code, part.content) == (206, whole[:100])
    assert part.headers["content-range"] == f"bytes 0-99/{len(whole)}"
    assert (await ask(Range="bytes=-10")).content == whole[-10:]
    assert (await ask(Range="bytes=100-")).content == whole[100:]
    assert (await ask(Range=f"bytes={len(whole)}-")).status_code == 416
    assert (await ask(Range="bytes=0-99", If_Range='"other"')).content == whole
    assert (await ask(Range="lines=0-1")).content == whole
    known = await ask(If_None_Match=part.headers["etag"])
    assert (known.status_code, known.content) == (304, b"")
    assert part.headers["etag"] == f'"{made["sha256"]}"'
    assert part.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in part.headers["content-security-policy"]
    assert "immutable" in part.headers["cache-control"]
    latest = await site.http.get(f"/files/{job['file_id']}/outputs/processed.jpg")
    assert "immutable" not in latest.headers["cache-control"]


async def test_an_output_that_is_not_there_yet_says_how_far_it_is(tmp_path, pool):
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as studio:
        app = FastAPI()
        app.include_router(media_router(studio.media))
        problems.install(app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            site = Site(studio, http)
            job = (await site.send(encoded(scene(64, 48)))).json()["job"]

            answer = await http.get(f"/files/{job['file_id']}/outputs/processed.jpg")
            assert (answer.status_code, answer.json()["code"], answer.json()["progress"]) == (409, "not_ready", 0)

            cancelled = await http.delete(f"/jobs/{job['id']}")
            assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
            assert (await http.delete(f"/jobs/{job['id']}")).status_code == 409
            assert (await http.delete(f"/files/{job['file_id']}")).status_code == 204
            assert (await http.get(f"/files/{job['file_id']}")).status_code == 404
            assert (await http.get(f"/jobs/{job['id']}")).status_code == 404


@pytest.mark.parametrize("id", ["..%2F..%2Fetc", "0" * 32, "x%00", "%2e%2e", "a" * 300])
async def test_security_s34_an_id_that_nobody_was_given_is_not_found(site, id):
    for path in (f"/files/{id}", f"/files/{id}/outputs/original", f"/jobs/{id}", f"/jobs/{id}/events"):
        assert (await site.http.get(path)).status_code == 404


async def test_security_s34_ids_cannot_be_guessed_and_names_are_only_shown(site):
    first, second = [(await site.send(encoded(scene(64, 48)), name='a"\r\nX: y.jpg')).json() for _ in range(2)]

    assert len(first["file"]["id"]) == 32
    assert first["file"]["id"] != second["file"]["id"]
    answer = await site.http.get(first["file"]["links"]["original"])
    assert answer.headers["content-disposition"].startswith('inline; filename="')
    assert "x" not in answer.headers


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=other\r\n\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n\xff\xd8\xff", "multipart/form-data; boundary=x"),
        (b"no form at all", "multipart/form-data; boundary=x"),
        (b"--x\r\nA: " + b"b" * 10_000, "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
    ],
)
async def test_a_broken_form_is_refused_and_leaves_nothing(site, body, kind):
    answer = await site.http.post("/files", content=body, headers={"content-type": kind})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert site.studio.partial == []


async def test_a_form_may_come_in_pieces_of_any_size(site):
    data = encoded(scene(64, 48))
    form = b'--x\r\nContent-Disposition: form-data; name="operations"\r\n\r\n["resize"]\r\n'
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9.jpg"\r\n\r\n' + data + b"\r\n--x--"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(form), 7):
            yield form[at : at + 7]

    answer = await site.http.post(
        "/files", content=pieces(), headers={"content-type": "multipart/form-data; boundary=x"}
    )

    assert answer.status_code == 202
    assert answer.json()["file"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert answer.json()["file"]["name"] == "é.jpg"
    assert [entry["operation"] for entry in answer.json()["job"]["operations"]] == ["resize"]


async def test_the_page_and_its_parts_are_served(site):
    page = await site.http.get("/media")

    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert (await site.http.get("/media/static/media.js")).headers["content-type"].startswith("text/javascript")
    assert (await site.http.get("/media/static/media.css")).status_code == 200
    assert (await site.http.get("/media/static/media.html")).status_code == 404
