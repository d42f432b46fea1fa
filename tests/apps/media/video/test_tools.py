"""Which ffmpeg is taken, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from muskox.apps.media.video.errors import VideoToolsMissing
from muskox.apps.media.video.tools import find_tools

PRETENDER = """#!/bin/sh
case "$*" in
*-version*) echo "ffmpeg version VERSION Copyright";;
*-encoders*) echo " V....D ENCODER      an encoder"; echo " A....D aac      AAC"; echo " V....D mjpeg      JPEG";;
*-filters*) for name in scale setsar format fps thumbnail tile concat tpad signalstats metadata; do
    echo " .. $name   V->V  a filter"; done;;
esac
"""


def pretender(folder: Path, *, version: str = "6.1", encoder: str = "libx264") -> str:
    path = folder / "ffmpeg"
    path.write_text(PRETENDER.replace("VERSION", version).replace("ENCODER", encoder))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", ["6.1", "n9.0.2-17-g2a571b6068", "N-112345-gabcdef", "4.4.2-0ubuntu0"])
def test_an_ffmpeg_that_can_do_what_is_needed_is_taken(tmp_path: Path, version: str) -> None:
    found = find_tools(ffmpeg=pretender(tmp_path, version=version))

    assert (found.ffmpeg, found.ffprobe, found.version) == (str(tmp_path / "ffmpeg"), None, version)
    assert not found.maps_tones


def test_the_one_of_the_system_goes_before_the_one_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert find_tools().ffmpeg != pretender(tmp_path)
    assert find_tools().ffmpeg == str(tmp_path / "ffmpeg")


def test_where_the_one_of_the_system_will_not_do_the_wheel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    poor = pretender(tmp_path, encoder="libopenh264")

    assert find_tools().ffmpeg != poor
    with pytest.raises(VideoToolsMissing, match=r"built without libx264.*pip install 'muskox\[media\]'"):
        find_tools(wheel=False)


def test_a_prober_beside_it_is_taken_if_it_works(tmp_path: Path) -> None:
    probe = tmp_path / "ffprobe"
    probe.write_text("#!/bin/sh\nexit 1\n")
    probe.chmod(0o755)
    assert find_tools(ffmpeg=pretender(tmp_path)).ffprobe is None

    probe.write_text("#!/bin/sh\nexit 0\n")
    assert find_tools(ffmpeg=pretender(tmp_path)).ffprobe == str(probe)


@pytest.mark.parametrize(
    ("version", "said"), [("4.2.7", "4.4 is the oldest"), ("3.4", "4.4 is the oldest"), ("", "does not say what it is")]
)
def test_one_that_is_too_old_is_refused(tmp_path: Path, version: str, said: str) -> None:
    with pytest.raises(VideoToolsMissing, match=said):
        find_tools(ffmpeg=pretender(tmp_path, version=version))


def test_where_there_is_none_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(VideoToolsMissing, match=r"no usable ffmpeg .*apt install ffmpeg.*muskox\[media\]"):
        find_tools(wheel=False)
    with pytest.raises(VideoToolsMissing, match="/nowhere/ffmpeg is not there"):
        find_tools(ffmpeg="/nowhere/ffmpeg")
