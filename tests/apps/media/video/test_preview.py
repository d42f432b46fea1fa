"""`generate-preview`: the poster, the clip and the storyboard (F28)."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from muskox.apps.media.operations import Preview
from muskox.apps.media.video.facts import VideoFacts
from muskox.apps.media.video.plans import pieces, storyboard
from muskox.apps.media.video.tools import Tools
from muskox.apps.media.video.verify import check_picture
from tests.apps.media.video.conftest import PREVIEW, TRANSCODE, Film, Rig, pattern, shoot

CUE = re.compile(
    r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})\nstoryboard\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)"
)


async def test_case_f28_a_video_is_shown_before_it_is_played(studio: Rig, film: Film, tools: Tools) -> None:
    black = ["-f", "lavfi", "-i", "color=black:s=640x360:d=2:r=10"]
    words = ["-filter_complex", "[0][1]concat", "-c:v", "mpeg4"]
    source = film("late.mkv", *black, *pattern("640x360", 8, 10), *words)

    manifest, folder = await studio.made(source, [*PREVIEW, *TRANSCODE])

    assert [made.name for made in manifest.outputs] == [
        "video.mp4", "poster.jpg", "preview.mp4", "storyboard.jpg", "storyboard.vtt",
    ]  # fmt: skip
    assert _luma(tools, folder / "poster.jpg") > 40
    check_picture(folder / "poster.jpg", (640, 360))
    clip = await studio.look(folder / "preview.mp4")
    assert clip.video is not None
    assert (clip.duration, clip.video.width, clip.audio) == (pytest.approx(6, abs=0.3), 480, None)
    cues = CUE.findall((folder / "storyboard.vtt").read_text())
    made = manifest.output("storyboard.jpg")
    assert made is not None
    assert len(cues) == made.facts["tiles"] == 10
    assert _seconds(*cues[0][:3]) == 0
    assert _seconds(*cues[-1][3:6]) == pytest.approx(10, abs=0.1)
    assert all(before[3:6] == after[:3] for before, after in pairwise(cues))
    check_picture(folder / "storyboard.jpg", (10 * 160, 90))
    # The first picture is from the black part, and the last from the pattern, so they lie where their cues say.
    assert _luma(tools, folder / "storyboard.jpg", "crop=160:90:0:0") < 30
    assert _luma(tools, folder / "storyboard.jpg", "crop=160:90:1440:0") > 40
    assert studio.leftovers == []


@pytest.mark.parametrize("colour", ["black", "white"])
async def test_a_video_without_a_picture_worth_showing_has_a_poster_all_the_same(
    studio: Rig, film: Film, colour: str
) -> None:
    source = film("dull.mkv", "-f", "lavfi", "-i", f"color={colour}:s=64x36:d=1:r=10", "-c:v", "ffv1")

    manifest, folder = await studio.made(source, [{"operation": "generate-preview", "storyboard": False}])

    assert [made.name for made in manifest.outputs] == ["poster.jpg", "preview.mp4"]
    check_picture(folder / "poster.jpg", (64, 36))


@pytest.mark.parametrize(
    ("duration", "parts"),
    [
        (3.0, [(0.0, 3.0)]),
        (12.0, [(0.0, 6.0)]),
        (None, [(0.0, 6.0)]),
        (100.0, [(20.0, 2.0), (50.0, 2.0), (80.0, 2.0)]),
    ],
)
def test_a_clip_is_the_beginning_or_three_pieces_of_a_long_video(
    duration: float | None, parts: list[tuple[float, float]]
) -> None:
    assert pieces(duration, Preview()) == parts


@pytest.mark.parametrize(
    ("duration", "sheet"), [(0.4, (1, 1, 1)), (10.0, (10, 10, 1)), (10.2, (11, 10, 2)), (7200.0, (100, 10, 10))]
)
def test_a_storyboard_has_a_picture_for_each_second_and_a_hundred_at_most(
    duration: float, sheet: tuple[int, int, int]
) -> None:
    plan = storyboard(VideoFacts(index=0, codec="h264", width=1920, height=1080), duration)

    cues = CUE.findall(plan.cues("storyboard.jpg"))
    assert (plan.count, plan.columns, plan.rows) == sheet
    assert len(cues) == plan.count
    assert _seconds(*cues[-1][3:6]) == pytest.approx(duration, abs=0.001)
    assert all(int(x) + 160 <= plan.columns * 160 and int(y) + 90 <= plan.rows * 90 for *_, x, y, _, _ in cues)


def _luma(tools: Tools, picture: Path, *filters: str) -> float:
    """The mean brightness of a picture."""
    graph = ",".join([*filters, "signalstats", "metadata=print:file=-"])
    argv = ["-v", "error", "-i", str(picture), "-vf", graph, "-f", "null", "-"]
    found = re.search(r"YAVG=([\d.]+)", shoot(tools.ffmpeg, *argv))
    assert found
    return float(found[1])


def _seconds(hours: str, minutes: str, seconds: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
