"""Uploads in several pieces (tus 1.0): what is kept, what is refused, and what a dead server leaves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from muskox.apps.media.images.pool import Pool
from muskox.apps.media.limits import ImageLimits, Limits
from muskox.apps.media.uploads import Uploads
from muskox.apps.media.web import problems
from muskox.apps.media.web.routes import media_router
from tests.apps.media.conftest import Studio, studio_in
from tests.apps.media.sending import MIB, TUS, Sender, photo_of, sum_of, word

CLIPS = '["transcode"]'


@dataclass
class Clock:
    """Lets an application believe that it is later."""

    world: Any
    ahead: float = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def now(self) -> float:
        return float(self.world.now()) + self.ahead


@dataclass
class Site(Sender):
    studio: Studio
    clock: Clock
    resumable: Uploads

    async def sweep(self) -> None:
        await self.studio.media.sweep()
        await self.resumable.sweep()

    @property
    def uploads(self) -> list[str]:
        return sorted(path.name for path in (self.studio.media.storage.root / "uploads").iterdir())


@asynccontextmanager
async def site_in(folder: Path, pool: Pool, **options: Any) -> AsyncIterator[Site]:
    limits = Limits(reserve=1, **options.pop("limits", {}))
    async with studio_in(folder, pool, limits=limits) as studio:
        studio.media.ox.world = clock = Clock(studio.ox.world)
        app = FastAPI()
        uploads = Uploads(studio.media)
        app.include_router(media_router(studio.media, uploads), **options)
        problems.install(app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield Site(http, studio, clock, uploads)


@pytest.fixture
async def site(tmp_path: Path, pool: Pool) -> AsyncIterator[Site]:
    async with site_in(tmp_path, pool) as made:
        yield made


async def test_case_f16_an_upload_that_nobody_went_on_with_is_gone(site: Site):
    data = photo_of(200_000)
    at = await site.begun(data)
    answer = await site.piece(at, 0, data[:100_000])
    age = site.studio.media.limits.upload_age

    site.clock.ahead = age - 60
    later = await site.piece(at, 100_000, data[100_000:150_000])
    site.clock.ahead += age - 60
    in_time = await site.offset(at)
    site.clock.ahead += 120
    late = [await site.look(at), await site.piece(at, 150_000, data[150_000:])]
    await site.sweep()
    swept = site.uploads
    after = await site.look(at)
    site.clock.ahead += age
    await site.sweep()

    assert "GMT" in answer.headers["upload-expires"] != later.headers["upload-expires"]
    assert in_time == 150_000
    assert [told.status_code for told in late] == [410, 410]
    assert swept == [f"{at.rpartition('/')[2]}.info"]
    assert after.status_code == 410
    assert site.uploads == []
    assert (await site.look(at)).status_code == 404


async def test_fault_f6_nothing_is_truncated_or_added_twice(site: Site):
    """Wrong offsets, two senders at once, and more bytes than were announced, said before or not."""
    data = photo_of(300_000)
    at = await site.begun(data)
    await site.piece(at, 0, data[:100_000])
    come, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data[100_000:180_000]
        come.set()
        await go.wait()
        yield data[180_000:200_000]

    async def too_much() -> AsyncIterator[bytes]:
        yield data[200_000:]
        yield b"more"

    slow = asyncio.create_task(site.piece(at, 100_000, slowly()))
    await asyncio.wait_for(come.wait(), 10)
    meanwhile = [
        await site.piece(at, 100_000, data[100_000:]),
        await site.http.delete(at, headers=TUS),
    ]
    counted = await site.offset(at)
    go.set()
    first = await slow
    refused = [
        await site.piece(at, 0, data[:10]),
        await site.piece(at, 200_001, data[200_001:]),
        await site.piece(at, 200_000, data[200_000:] + b"more"),
        await site.piece(at, 200_000, too_much()),
    ]
    left = await site.offset(at)
    last = await site.piece(at, left, data[left:])
    again = await site.piece(at, left, data[left:])

    assert [answer.status_code for answer in meanwhile] == [423, 423]
    assert counted == 100_000
    assert (first.status_code, first.headers["upload-offset"]) == (204, "200000")
    assert [answer.status_code for answer in refused] == [409, 409, 413, 413]
    assert left == 200_000
    assert (last.status_code, again.status_code) == (204, 409)
    file = (await site.http.get(last.headers["content-location"])).json()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(file["jobs"]) == 1


async def test_fault_f6_a_whole_upload_becomes_one_file_whenever_the_server_died(site: Site, monkeypatch):
    """The server dies before the file is kept, before its job is written down, and before that is noted."""
    data = photo_of(100_000)
    media = site.studio.media

    async def dies(*_args: Any, **_kwargs: Any) -> Any:
        raise OSError("the server died")

    ends = []
    for place in ("accept", "_order", None):
        at = await site.begun(data)
        with monkeypatch.context() as patch:
            if place is not None:
                patch.setattr(media, place, dies)
            else:
                patch.setattr("muskox.apps.media.shelf.Hold.finish", lambda _hold: (_ for _ in ()).throw(OSError()))
            broken = await site.piece(at, 0, data)
        if place == "accept":
            await site.sweep()
        ends.append((broken.status_code, (await site.look(at)).headers["content-location"]))
        file = (await site.http.get(ends[-1][1])).json()
        assert len(file["jobs"]) == 1, place

    assert [status for status, _ in ends] == [500, 500, 500]
    assert len(await media.files()) == 3
    assert not [name for name in site.uploads if not name.endswith(".info")]


async def test_security_s44_each_piece_is_checked_by_whoever_guards_the_routes(tmp_path: Path, pool: Pool):
    def known(authorization: Annotated[str, Header()] = "") -> None:
        if authorization != "Bearer secret":
            raise HTTPException(401)

    data = photo_of(50_000)
    async with site_in(tmp_path, pool, dependencies=[Depends(known)]) as site:
        at = await site.begun(data, Authorization="Bearer secret")
        first = await site.piece(at, 0, data[:20_000], Authorization="Bearer secret")

        strangers = [
            await site.begin(10),
            await site.look(at),
            await site.piece(at, 20_000, data[20_000:]),
            await site.http.delete(at, headers=TUS),
            await site.http.post(at, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}),
            await site.piece(at, 20_000, data[20_000:], Authorization="Bearer guessed"),
        ]

        assert first.status_code == 204
        assert [answer.status_code for answer in strangers] == [401] * len(strangers)
        last = await site.piece(at, 20_000, data[20_000:], Authorization="Bearer secret")
        assert last.headers["upload-offset"] == str(len(data))


async def test_security_s44_uploads_are_limited_and_not_listed(tmp_path: Path, pool: Pool, monkeypatch):
    """In number, in bytes, and by the room that all of them together were promised."""
    limits = {"uploads": 3, "image": ImageLimits(bytes=MIB)}
    async with site_in(tmp_path, pool, limits=limits) as site:
        too_long = await site.begin(3 * 1024 * MIB)
        one = await site.begun(photo_of(100_000))
        # A clip may be as long as that; a picture may not, as its first piece gives away.
        two = (await site.begin(2 * MIB)).headers["location"]
        found_out = await site.piece(two, 0, photo_of(50_000))
        gone = await site.look(two)
        unknown = await site.begin(10_000, b"#!/bin/sh\n" * 1000)
        before = site.uploads
        more = [await site.begin(1000) for _ in range(3)]
        ended = await site.http.delete(one, headers=TUS)
        monkeypatch.setattr("shutil.disk_usage", lambda _path: _Free(3 * MIB))
        full = await site.begin(2 * MIB)
        listing = await site.http.get("/uploads")
        paths = [await site.look(f"/uploads/{name}") for name in ("0" * 32, "..%2f..%2fmuskox.db", "x.info")]

        assert (too_long.status_code, found_out.status_code, gone.status_code) == (413, 413, 404)
        assert unknown.status_code == 415
        assert len(before) == 2
        assert [answer.status_code for answer in more] == [201, 201, 429]
        assert (ended.status_code, (await site.look(one)).status_code) == (204, 404)
        assert full.status_code == 507
        assert len(site.uploads) == 4
        assert listing.status_code == 405
        assert [answer.status_code for answer in paths] == [404, 404, 404]


@dataclass
class _Free:
    free: int


async def test_uploads_say_what_they_understand_and_refuse_what_they_do_not(site: Site):
    told = await site.http.options("/uploads")
    at = await site.begun(photo_of(50_000), Upload_Metadata="note")
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}

    refused = {
        "version": await site.http.patch(at, content=b"x", headers={**kind, "Tus-Resumable": "0.2.2"}),
        "no version": await site.http.head(at),
        "type": await site.http.patch(at, content=b"x", headers={**TUS, "Upload-Offset": "0"}),
        "offset": await site.http.patch(at, content=b"x", headers={**TUS, **kind, "Upload-Offset": "-1"}),
        "algorithm": await site.piece(at, 0, b"x", Upload_Checksum="crc32 AAAA"),
        "base64": await site.piece(at, 0, b"x", Upload_Checksum="sha256 ???"),
        "no length": await site.http.post("/uploads", headers=TUS),
        "deferred": await site.http.post("/uploads", headers={**TUS, "Upload-Defer-Length": "1"}),
        "empty": await site.begin(0),
        "metadata": await site.begin(10, Upload_Metadata="filename ???"),
        "operations": await site.begin(10, Upload_Metadata=f"operations {word('{')}"),
        "override": await site.http.post(at, headers={**TUS, "X-HTTP-Method-Override": "PUT"}),
    }

    assert {name: answer.status_code for name, answer in refused.items()} == {
        "version": 412,
        "no version": 412,
        "type": 415,
        "offset": 400,
        "algorithm": 400,
        "base64": 400,
        "no length": 400,
        "deferred": 400,
        "empty": 400,
        "metadata": 400,
        "operations": 422,
        "override": 400,
    }
    assert told.headers["tus-version"] == refused["version"].headers["tus-version"] == "1.0.0"
    assert told.headers["tus-extension"] == "creation,creation-with-upload,checksum,expiration,termination"
    assert told.headers["tus-checksum-algorithm"] == "sha256,sha1"
    assert all(answer.headers["tus-resumable"] == "1.0.0" for answer in (told, *refused.values()) if answer.headers)
    looked = await site.look(at)
    assert (looked.headers["upload-offset"], looked.headers["upload-length"]) == ("0", "50000")
    assert (looked.headers["upload-metadata"], looked.headers["cache-control"]) == ("note", "no-store")


async def test_an_upload_may_be_whole_with_its_first_request_or_sent_by_post(site: Site):
    data = photo_of(60_000)

    at_once = await site.begin(len(data), data, **sum_of(data))
    at = await site.begun(data)
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    posted = await site.http.post(at, content=data, headers={**TUS, **kind})
    wrong = await site.begun(data, Upload_Metadata=f"operations {word(CLIPS)}")
    found_out = await site.piece(wrong, 0, data[:10_000])

    assert (at_once.status_code, at_once.headers["upload-offset"]) == (201, str(len(data)))
    assert at_once.headers["content-location"].startswith("/files/")
    assert (posted.status_code, posted.headers["upload-offset"]) == (204, str(len(data)))
    assert (found_out.status_code, (await site.look(wrong)).status_code) == (422, 404)
