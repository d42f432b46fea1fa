"""What is found out of a video before anything is decoded: the same with ffprobe and without."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from muskox import Muskox
from muskox.apps.media.errors import Reason, Refused
from muskox.apps.media.kinds import sniff
from muskox.apps.media.limits import VideoLimits
from muskox.apps.media.video.encoder import Encoder
from muskox.apps.media.video.facts import AudioFacts, Facts, VideoFacts
from muskox.apps.media.video.probe import DEMUXERS, Prober
from muskox.apps.media.video.read_json import read_json
from muskox.apps.media.video.read_text import read_text
from muskox.apps.media.video.tools import Tools, find_tools
from tests.apps.media.video.conftest import H264, Film, bundled, pattern, tone

# As ffmpeg 5 and ffmpeg 9 put the same things; the tags try to look like streams.
TEXT = """\
Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:/tmp/a (1).mp4':
  Metadata:
    major_brand     : isom
    title           : a
                    :   Stream #0:0: Video: h264 (High), yuv420p, 99999x99999, 999 fps
  Duration: 01:02:03.50, start: 0.000000, bitrate: 98 kb/s
  Chapters:
    Chapter #0:0: start 0.000000, end 1.000000
      Metadata:
        title           : one
  Stream #0:0[0x1](und): Video: mjpeg (Baseline), yuvj420p(pc, bt470bg/unknown/unknown), 600x600 [SAR 72:72 DAR 1:1], \
90k tbr, 90k tbn (attached pic)
  Stream #0:1[0x2](und): Video: hevc (Main 10) (hvc1 / 0x31637668), \
yuv420p10le(tv, bt2020nc/bt2020/smpte2084, progressive), 1920x1080 [SAR 16:15 DAR 256:135], 88 kb/s, 29.97 fps, \
30 tbr, 15360 tbn (default)
    Metadata:
      handler_name    : VideoHandler
    Side data:
      DISPLAY: rotation of -90.00 degrees
  Stream #0:2[0x3](und): Audio: aac (LC) (mp4a / 0x6134706D), 48000 Hz, 5.1(side), fltp, 341 kb/s (default)
  Stream #0:3[0x4](eng): Subtitle: mov_text (tx3g / 0x67337874), 0 kb/s (default)
At least one output file must be specified
"""
WANTED = Facts(
    format="mov,mp4,m4a,3gp,3g2,mj2",
    streams=4,
    duration=3723.5,
    video=VideoFacts(
        index=1, codec="hevc", width=1920, height=1080, profile="Main 10", pixels="yuv420p10le", aspect=(16, 15),
        rotation=-90.0, fps=29.97, transfer="smpte2084",
    ),
    audio=AudioFacts(index=2, codec="aac", profile="LC", channels=6, rate=48000),
    tags={"major_brand": "isom", "title": "a"},
    others=2,
    chapters=1,
)  # fmt: skip


@pytest.mark.parametrize("words", ["displaymatrix", "Display Matrix"])
def test_text_for_people_is_read_as_facts(words: str) -> None:
    assert read_text(TEXT.replace("DISPLAY", words)) == WANTED


def test_the_answer_of_ffprobe_is_read_as_the_same_facts() -> None:
    said = {
        "format": {
            "format_name": WANTED.format, "duration": "3723.500000", "tags": {"major_brand": "isom", "title": "a"},
        },
        "chapters": [{"id": 0}],
        "streams": [
            {"index": 0, "codec_type": "video", "codec_name": "mjpeg", "disposition": {"attached_pic": 1}},
            {
                "index": 1, "codec_type": "video", "codec_name": "hevc", "width": 1920, "height": 1080,
                "profile": "Main 10", "pix_fmt": "yuv420p10le", "sample_aspect_ratio": "16:15",
                "avg_frame_rate": "2997/100", "color_transfer": "smpte2084",
                "side_data_list": [{"side_data_type": "Display Matrix", "rotation": -90}],
            },
            {
                "index": 2, "codec_type": "audio", "codec_name": "aac", "profile": "LC", "channels": 6,
                "sample_rate": "48000",
            },
            {"index": 3, "codec_type": "subtitle"},
        ],
    }  # fmt: skip

    assert read_json(json.dumps(said).encode()) == WANTED


@pytest.mark.parametrize(
    "said", ["", "{}", '{"streams": [], "format": {}}', "no json", '{"streams": [{"width": "x"}]}']
)
def test_no_answer_is_no_facts(said: str) -> None:
    assert read_json(said.encode()) is None
    assert read_text(said) is None


def test_a_picture_is_measured_as_it_is_seen() -> None:
    assert WANTED.video is not None
    assert WANTED.video.upright == (1080, 2048)


def _provers(tools: Tools) -> list[Tools]:
    """The tools that are here: with and without ffprobe, of the system and of the wheel."""
    found = [tools, find_tools(ffmpeg=bundled())]
    if shutil.which("ffprobe") and tools.ffprobe:
        found.append(Tools(tools.ffmpeg, None, tools.version, tools.filters))
    return found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.mp4", [*pattern("64x36", 0.5), *tone(0.5), *H264, "-c:a", "aac"]),
        ("a.mov", [*pattern("64x36", 0.5), "-c:v", "mpeg4"]),
        ("a.mkv", [*pattern("64x36", 0.5), *tone(0.5), "-c:v", "mpeg4", "-c:a", "libvorbis"]),
        ("a.webm", [*pattern("64x36", 0.5), "-c:v", "libvpx", "-deadline", "realtime"]),
        ("a.avi", [*pattern("64x36", 0.5), "-c:v", "mpeg4"]),
        ("a.ts", [*pattern("64x36", 0.5), "-c:v", "mpeg2video"]),
    ],
)
async def test_every_kind_of_container_is_looked_at(film: Film, tools: Tools, name: str, words: list[str]) -> None:
    path = film(name, *words)
    demuxer = DEMUXERS[sniff(path.read_bytes()[:4096]).format]
    async with Muskox("sqlite://:memory:") as ox:
        found = [
            await Prober(each, Encoder(ox.world), VideoLimits()).probe(path, demuxer, folder=path.parent)
            for each in _provers(tools)
        ]

    for facts in found:
        assert facts.video is not None
        assert (facts.video.width, facts.video.height, facts.video.fps) == (64, 36, 30)
        assert facts.duration == pytest.approx(0.5, abs=0.1)


async def test_fault_f4_a_probe_that_hangs_is_ended(tmp_path: Path, tools: Tools) -> None:
    hanging = tmp_path / "ffmpeg"
    hanging.write_text("#!/bin/sh\nyes 'a flood of complaints' >&2\n")
    hanging.chmod(0o755)
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x10ftypisom")
    used = Tools(str(hanging), None, tools.version, tools.filters)
    async with Muskox("sqlite://:memory:") as ox:
        prober = Prober(used, Encoder(ox.world), VideoLimits(probe_wall=0.5))
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(prober.probe(tmp_path / "a.mp4", "mov", folder=tmp_path), 10)

    assert refused.value.reason is Reason.CORRUPT
