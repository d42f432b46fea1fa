"""Videos by the front of the media application: in, made, looked at, cancelled, swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from muskox.apps.media.errors import Reason, Refused
from muskox.apps.media.images.pool import Pool
from muskox.apps.media.limits import Limits, VideoLimits
from muskox.apps.media.video.tools import Tools
from tests.apps.media.conftest import studio_in
from tests.apps.media.video.conftest import PREVIEW, TRANSCODE, Film, pattern


async def test_mission_d03_a_video_comes_in_and_its_outputs_come_out(
    tmp_path: Path, pool: Pool, tools: Tools, film: Film
) -> None:
    data = film("in.mkv", *pattern("64x36", 1), "-c:v", "mpeg4").read_bytes()
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1), tools=tools) as made, made.ox.worker():
        look = await made.upload(data, [*TRANSCODE, *PREVIEW], name="holiday.jpg")

        file = await made.media.file(look.run.file_id)
        assert (file.kind, file.format, file.facts["width"], file.facts["height"]) == ("video", "matroska", 64, 36)
        assert file.facts["duration"] == pytest.approx(1, abs=0.1)
        job = await made.settled(look)
        assert job.state == "completed", job.failure
        _, after = await made.media.run(look.run.id)
        assert after.manifest is not None
        assert {output.name for output in after.manifest.outputs} > {"video.mp4", "poster.jpg", "storyboard.vtt"}

        again = await made.upload(data, [*TRANSCODE, *PREVIEW])
        assert (again.run.cached, again.state) == (True, "completed")
        assert made.partial == []


async def test_what_is_beyond_a_limit_is_refused_at_the_door(
    tmp_path: Path, pool: Pool, tools: Tools, film: Film
) -> None:
    data = film("door.mkv", *pattern("64x36", 1), "-c:v", "mpeg4").read_bytes()
    limits = Limits(reserve=1, video=VideoLimits(duration=0.5))
    async with studio_in(tmp_path, pool, limits=limits, tools=tools) as made:
        with pytest.raises(Refused) as refused:
            await made.upload(data)

        assert refused.value.reason is Reason.TOO_LONG
        assert made.partial == []


async def test_without_tools_no_video_is_taken(tmp_path: Path, pool: Pool, film: Film) -> None:
    data = film("door.mkv", *pattern("64x36", 1), "-c:v", "mpeg4").read_bytes()
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as made:
        with pytest.raises(Refused) as refused:
            await made.upload(data)

    assert refused.value.reason is Reason.UNSUPPORTED_TYPE
