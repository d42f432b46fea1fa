"""`transcode`: what becomes of videos of all sorts (F17 to F20), and what is refused (F26 to F29)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from muskox.apps.media.errors import Reason, reason_in
from muskox.apps.media.limits import VideoLimits
from muskox.apps.media.video.boxes import index_comes_first
from muskox.apps.media.video.tools import Tools
from tests.apps.media.video.conftest import H264, TRANSCODE, Film, Rig, bundled, pattern, rig, shoot, tone

VIDEO = "video.mp4"
SHORT = """for last; do :; done
exec $REAL -v error -y -f lavfi -i testsrc=s=64x36:d=1 -c:v libx264 -pix_fmt yuv420p -movflags +faststart -f mp4 "$last"
"""


def found(folder: Path, name: str) -> list[Path]:
    return list(folder.rglob(name))


async def test_case_f17_a_video_becomes_an_mp4_that_plays_everywhere(studio: Rig, film: Film) -> None:
    # Two seconds of the clip that the case describes, and a fifth of its pixels; the words are the same.
    words = ["-c:v", "mpeg4", "-c:a", "libvorbis", "-metadata", "title=CANARY", "-metadata:s:v", "title=CANARY"]
    source = film("a.mkv", *pattern("640x360"), *tone(), *words)

    manifest, folder = await studio.made(source, TRANSCODE)

    facts = await studio.look(folder / VIDEO)
    assert facts.video is not None
    assert facts.audio is not None
    assert (facts.video.codec, facts.video.pixels) == ("h264", "yuv420p")
    assert (facts.video.width, facts.video.height) == (640, 360)
    assert (facts.audio.codec, facts.audio.channels, facts.audio.rate) == ("aac", 2, 48000)
    assert facts.duration == pytest.approx(2, abs=0.5)
    assert index_comes_first(folder / VIDEO)
    data = (folder / VIDEO).read_bytes()
    # Of the encoder there may be its name, and never its version.
    assert re.findall(rb"CANARY|Lavf|Lavc\d", data) == []
    assert set(facts.tags) <= {"major_brand", "minor_version", "compatible_brands"}
    [made] = manifest.outputs
    assert (made.name, made.width, made.height, made.facts) == (VIDEO, 640, 360, {})
    assert manifest.facts["codec"] == "mpeg4"
    assert studio.leftovers == []


async def test_the_profile_is_high_where_the_preset_allows(studio: Rig, film: Film) -> None:
    source = film("p.avi", *pattern("160x90", 1), "-c:v", "mpeg4")

    _, folder = await studio.made(source, [{"operation": "transcode"}])

    facts = await studio.look(folder / VIDEO)
    assert facts.video is not None
    assert facts.video.profile == "High"


@pytest.mark.parametrize(
    ("words", "size"),
    [
        pytest.param([*pattern("3840x2160", 0.2), "-c:v", "mpeg4"], (1920, 1080), id="larger-than-asked-for"),
        pytest.param([*pattern("1081x721", 0.5), "-c:v", "ffv1"], (1080, 720), id="odd-sides"),
        pytest.param([*pattern("72x58", 0.5), "-vf", "setsar=16/15", "-c:v", "ffv1"], (76, 58), id="wide-pixels"),
        pytest.param([*pattern("64x48", 0.5), "-vf", "setsar=1/2", "-c:v", "ffv1"], (64, 96), id="tall-pixels"),
    ],
)
async def test_case_f18_sides_are_even_pixels_square_and_nothing_grows(
    studio: Rig, film: Film, words: list[str], size: tuple[int, int]
) -> None:
    _, folder = await studio.made(film("size.mkv", *words), TRANSCODE)

    facts = await studio.look(folder / VIDEO)
    assert facts.video is not None
    assert (facts.video.width, facts.video.height, facts.video.square) == (*size, True)


async def test_case_f18_a_picture_that_lies_is_stood_up(studio: Rig, film: Film, tools: Tools, tmp_path: Path) -> None:
    lying, turned = tmp_path / "lying.mp4", tmp_path / "turned.mov"
    # Red above and blue below, as it is stored.
    halves = ["-f", "lavfi", "-i", "color=red:s=64x24:d=0.5", "-f", "lavfi", "-i", "color=blue:s=64x24:d=0.5"]
    shoot(tools.ffmpeg, *halves, "-filter_complex", "vstack", *H264, str(lying))
    # Only a newer one than Debian's can say that a picture lies.
    shoot(bundled(), "-display_rotation", "90", "-i", str(lying), "-c", "copy", str(turned))

    _, folder = await studio.made(turned, TRANSCODE)

    facts = await studio.look(folder / VIDEO)
    assert facts.video is not None
    assert (facts.video.width, facts.video.height, facts.video.rotation) == (48, 64, 0)
    corner = ["-vf", "crop=8:8:4:28,scale=1:1,format=rgb24", "-frames:v", "1", "-f", "rawvideo"]
    shoot(tools.ffmpeg, "-i", str(folder / VIDEO), *corner, str(tmp_path / "left.raw"))
    red, _, blue = (tmp_path / "left.raw").read_bytes()
    assert red > 150 > blue


async def test_case_f19_without_sound_there_is_no_track_for_it(studio: Rig, film: Film) -> None:
    _, folder = await studio.made(film("mute.mkv", *pattern("64x36", 0.5), "-c:v", "ffv1"), TRANSCODE)

    assert (await studio.look(folder / VIDEO)).audio is None


async def test_case_f19_subtitles_chapters_and_places_are_left_out(
    studio: Rig, film: Film, tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nCANARY\n")
    (tmp_path / "c.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=CANARY\n")
    source = tmp_path / "all.mov"
    shoot(
        tools.ffmpeg, *pattern("64x36", 1), *tone(1), "-i", str(tmp_path / "s.srt"), "-i", str(tmp_path / "c.txt"),
        "-map", "0", "-map", "1", "-map", "2", "-map_chapters", "3", "-c:v", "mpeg4", "-c:a", "pcm_s16le", "-ac", "6",
        "-c:s", "mov_text", "-metadata", "location=+48.2082+016.3738/", "-metadata", "comment=CANARY", str(source),
    )  # fmt: skip
    before = await studio.look(source)
    assert (before.streams > 2, before.chapters, before.audio and before.audio.channels) == (True, 1, 6)

    _, folder = await studio.made(source, TRANSCODE)

    after = await studio.look(folder / VIDEO)
    assert after.audio is not None
    assert (after.streams, after.others, after.chapters, after.audio.channels) == (2, 0, 0, 2)
    data = (folder / VIDEO).read_bytes()
    assert [text for text in (b"CANARY", b"48.2082", b"loci", b"\xa9xyz") if text in data] == []


async def test_case_f20_what_is_as_it_should_be_only_changes_its_container(
    studio: Rig, film: Film, tools: Tools
) -> None:
    words = ["-profile:v", "high", "-c:a", "aac", "-metadata", "title=CANARY", "-metadata:s:a", "title=CANARY"]
    source = film("good.mp4", *pattern(), *tone(), *H264, *words)
    assert not index_comes_first(source)

    manifest, folder = await studio.made(source, TRANSCODE)

    assert manifest.outputs[0].facts == {"remuxed": True}
    assert index_comes_first(folder / VIDEO)
    assert _packets(tools, source) == _packets(tools, folder / VIDEO)
    assert b"CANARY" not in (folder / VIDEO).read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["-pix_fmt", "yuv444p", "-profile:v", "high444"], id="4:4:4"),
        pytest.param(["-c:a", "ac3"], id="other-sound"),
        pytest.param(["-c:a", "aac", "-ac", "6"], id="six-channels"),
    ],
)
async def test_what_a_browser_would_not_play_is_encoded_anew(studio: Rig, film: Film, words: list[str]) -> None:
    manifest, folder = await studio.made(film("odd.mp4", *pattern("64x36", 0.5), *tone(0.5), *H264, *words), TRANSCODE)

    facts = await studio.look(folder / VIDEO)
    assert manifest.outputs[0].facts == {}
    assert facts.video is not None
    assert facts.audio is not None
    assert (facts.video.pixels, facts.audio.codec, facts.audio.channels) == ("yuv420p", "aac", 2)


async def test_a_screen_of_high_range_is_brought_to_the_usual_one(studio: Rig, film: Film, tools: Tools) -> None:
    colours = "format=yuv420p10le,setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
    words = ["-vf", colours, "-c:v", "libx264", "-pix_fmt", "yuv420p10le"]
    manifest, folder = await studio.made(film("hdr.mkv", *pattern("64x36", 0.5), *words), TRANSCODE)

    facts = await studio.look(folder / VIDEO)
    assert facts.video is not None
    assert facts.video.pixels == "yuv420p"
    if tools.maps_tones:
        assert facts.video.transfer == "bt709"
    else:
        assert manifest.facts["hdr_untonemapped"] is True


async def test_case_f26_a_playlist_in_disguise_opens_nothing(tmp_path: Path, studio: Rig, film: Film) -> None:
    asked: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    (tmp_path / "secret.txt").write_text("CANARY")
    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.txt\n#EXTINF:1,\nhttp://127.0.0.1:{port}/x.ts\n"
        # As the box of an MP4, as the chunk of an AVI, and as a stream: what it is called by its first bytes.
        heads = {
            "mp4": b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00",
            "avi": b"RIFF\x00\x10\x00\x00AVI LIST\x00\x00\x00\x00",
            "matroska": b"\x1a\x45\xdf\xa3\x8bB\x82\x88matroska",
        }
        for name, head in heads.items():
            disguised = tmp_path / f"x.{name}"
            disguised.write_bytes(head + playlist.encode())
            job = await studio.ended(await studio.add(disguised, TRANSCODE), "failed")
            assert (reason_in(job.failure), job.attempt) == (Reason.CORRUPT, 1)

    assert asked == []
    assert studio.published == []
    assert studio.leftovers == []


async def test_case_f27_a_name_is_data_and_never_a_word_of_a_command(
    tmp_path: Path, studio: Rig, film: Film, tools: Tools
) -> None:
    odd = tmp_path / "-i;$(touch x).mkv"
    odd.write_bytes(film("plain.mkv", *pattern("64x36", 0.5), "-c:v", "ffv1").read_bytes())

    _, folder = await studio.made(odd, TRANSCODE)

    assert (folder / VIDEO).exists()
    assert found(tmp_path, "x") == []


async def test_case_f29_what_is_not_as_long_as_it_should_be_is_never_published(
    tmp_path: Path, tools: Tools, film: Film
) -> None:
    source = film("ten.mkv", *pattern("64x36", 10, 5), "-c:v", "ffv1")
    async with rig(tmp_path, tools, encoder=SHORT) as built:
        job = await built.ended(await built.add(source, TRANSCODE), "failed")

        assert (reason_in(job.failure), job.attempt) == (Reason.VERIFY_FAILED, 2)
        assert built.published == []
        assert built.leftovers == []


@pytest.mark.parametrize("share", [0.02, 0.6])
async def test_fault_f3_a_video_that_is_cut_off_is_corrupt_at_once(
    tmp_path: Path, studio: Rig, film: Film, share: float
) -> None:
    whole = film("whole.mkv", *pattern("160x90", 4), "-c:v", "mpeg4").read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: int(len(whole) * share)])

    job = await studio.ended(await studio.add(cut, TRANSCODE), "failed")

    assert (reason_in(job.failure), job.attempt) == (Reason.CORRUPT, 1)
    assert studio.published == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (VideoLimits(bytes=1000), Reason.TOO_LARGE),
        (VideoLimits(width=32, height=32), Reason.TOO_MANY_PIXELS),
        (VideoLimits(duration=0.5), Reason.TOO_LONG),
        (VideoLimits(rate=10), Reason.TOO_MANY_FRAMES),
        (VideoLimits(streams=1), Reason.TOO_MANY_STREAMS),
    ],
)
async def test_security_s39_what_is_beyond_a_limit_is_refused_before_it_is_decoded(
    tmp_path: Path, tools: Tools, film: Film, limits: VideoLimits, reason: Reason
) -> None:
    source = film("limits.mkv", *pattern("64x36", 1), *tone(1), "-c:v", "ffv1")
    async with rig(tmp_path, tools, limits=limits, encoder="touch encoded; exit 1") as built:
        job = await built.ended(await built.add(source, TRANSCODE), "failed")

    assert (reason_in(job.failure), job.attempt) == (reason, 1)
    assert found(tmp_path, "encoded") == []


async def test_sound_alone_is_no_video(studio: Rig, film: Film) -> None:
    job = await studio.ended(await studio.add(film("sound.mkv", *tone(1), "-c:a", "flac"), TRANSCODE), "failed")

    assert (reason_in(job.failure), job.attempt) == (Reason.NO_VIDEO, 1)


def _packets(tools: Tools, path: Path) -> str:
    """A hash of the packets of the picture as they are."""
    argv = [
        "-v",
        "error",
        "-i",
        str(path),
        "-map",
        "0:v",
        "-c",
        "copy",
        "-f",
        "streamhash",
        f"{path.parent}/hash-{path.name}",
    ]
    shoot(tools.ffmpeg, *argv)
    return (path.parent / f"hash-{path.name}").read_text()
