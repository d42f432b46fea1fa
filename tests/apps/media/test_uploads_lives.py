"""Uploads in several pieces to a server in a process of its own, with senders and servers that die."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.apps.media.sending import MIB, Sender, photo_of, sum_of, word
from tests.runtime.helpers import until

THUMBNAIL = '[{"operation": "generate-thumbnail"}]'
SERVER = """
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from muskox import Muskox
from muskox.apps.media.limits import Limits
from muskox.apps.media.media import Media
from muskox.apps.media.web import problems
from muskox.apps.media.web.routes import media_router
from muskox.apps.notifier.engine import open_engine

folder = Path(sys.argv[1])
ox = Muskox(f"sqlite:///{folder / 'muskox.db'}")
media = Media(ox, open_engine(ox.url), folder / "media", limits=Limits(reserve=1))


async def lifespan(app):
    async with ox, media.running():
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(media_router(media))
problems.install(app)
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


@dataclass
class Served:
    """A server over a folder, which may die and be started again."""

    folder: Path
    port: int
    sender: Sender
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        script = self.folder / "serve.py"
        script.write_text(SERVER)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), str(self.folder), str(self.port)
        )
        async with asyncio.timeout(60):
            while not await self._answers():  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def _answers(self) -> bool:
        try:
            return (await self.sender.http.options("/uploads")).status_code == 204
        except httpx.TransportError:
            return False

    @property
    def uploads(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "media" / "uploads").iterdir())

    @property
    def counted(self) -> int:
        """The offset that is written down."""
        [info] = (self.folder / "media" / "uploads").glob("*.info")
        return int(json.loads(info.read_bytes())["offset"])

    @property
    def written(self) -> int:
        """How many bytes lie there, whether they count or not."""
        [lying] = [path for path in (self.folder / "media" / "uploads").iterdir() if not path.suffix]
        return lying.stat().st_size


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        made = Served(tmp_path, port, Sender(http))
        await made.start()
        try:
            yield made
        finally:
            await made.kill()


async def broken_off(data: bytes) -> AsyncIterator[bytes]:
    """A body whose sender dies after these bytes."""
    for at in range(0, len(data), 65_536):
        yield data[at : at + 65_536]
    raise httpx.ReadError("the line broke")


async def test_case_f16_an_upload_in_five_pieces_is_resumed_after_its_sender_died(served: Served):
    """20 MiB; the sender dies in the third piece, after 3 of its 4 MiB, and goes on from where the server says."""
    site, data = served.sender, photo_of(20 * MIB)
    size = 4 * MIB
    at = await site.begun(data, Upload_Metadata=f"filename {word('../elk.jpg')},operations {word(THUMBNAIL)}")

    first = await site.piece(at, 0, data[:size])
    second = await site.piece(at, size, data[size : 2 * size], **sum_of(data[size : 2 * size]))
    with pytest.raises(httpx.ReadError):
        await site.piece(at, 2 * size, broken_off(data[2 * size : 3 * size - MIB]))
    # The server hears of it a moment later.
    await until(lambda: served.counted == 3 * size - MIB, limit=20)
    resumed = await site.offset(at)
    wrong_offset = await site.piece(at, 2 * size, data[2 * size : 3 * size])
    wrong_sum = await site.piece(at, resumed, data[resumed : 3 * size], **sum_of(b"else"))
    unchanged = await site.offset(at)
    third = await site.piece(at, resumed, data[resumed : 3 * size], **sum_of(data[resumed : 3 * size], "sha1"))
    fourth = await site.piece(at, 3 * size, data[3 * size : 4 * size])
    fifth = await site.piece(at, 4 * size, data[4 * size :])

    assert [answer.status_code for answer in (first, second, third, fourth, fifth)] == [204] * 5
    assert resumed == 3 * size - MIB
    assert (wrong_offset.status_code, wrong_offset.json()["code"]) == (409, "wrong_offset")
    assert (wrong_sum.status_code, unchanged) == (460, resumed)
    assert fifth.headers["upload-offset"] == str(len(data))
    file = (await site.http.get(fifth.headers["content-location"])).json()
    assert (file["name"], file["bytes"], file["width"]) == ("elk.jpg", len(data), 640)
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    [job] = file["jobs"]
    assert (job["state"], [told["operation"] for told in job["operations"]]) == ("waiting", ["generate-thumbnail"])
    assert (await site.http.get(f"/files/{file['id']}/outputs/original")).content == data
    assert (await site.look(at)).headers["content-location"] == f"/files/{file['id']}"
    assert served.uploads == [f"{file['id']}.info"]


async def test_fault_f6_a_server_that_is_killed_in_a_piece_has_what_it_says(served: Served):
    """`kill -9` while 20 MiB come in, and the next server goes on; the file is the one that was sent."""
    sender, data = served.sender, photo_of(20 * MIB)

    async def until_killed() -> AsyncIterator[bytes]:
        yield data[: 12 * MIB]
        # Bytes count now; the server dies with others behind them that do not.
        await until(lambda: 8 * MIB <= served.counted < served.written, limit=30)
        await served.kill()
        yield data[12 * MIB :]

    at = await sender.begun(data)
    with pytest.raises(httpx.TransportError):
        await sender.piece(at, 0, until_killed())
    counted, written = served.counted, served.written
    await served.start()
    offset = await sender.offset(at)
    answer = await sender.piece(at, offset, data[offset:])
    file = (await sender.http.get(answer.headers["content-location"])).json()

    assert 8 * MIB <= offset == counted < written < len(data)
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(len(data)))
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    [kept] = (served.folder / "media" / "blobs").rglob(file["sha256"])
    assert kept.read_bytes() == data
