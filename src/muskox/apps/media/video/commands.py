"""The words that ffmpeg is called with. Each is made here, from numbers and from paths that are ours.

Nothing is run here, and there is never a shell.
"""

from __future__ import annotations

from pathlib import Path

from muskox.apps.media.operations import Preview, Transcode
from muskox.apps.media.video.facts import Facts, VideoFacts
from muskox.apps.media.video.plans import Storyboard, fits, pieces
from muskox.apps.media.video.tools import Tools

__all__ = ["Source", "clip", "decode_ends", "encode", "measure", "opened", "poster", "remux", "sheet"]

MOST_ALLOCATED = 512 * 1024 * 1024
LONG = 60.0
"""From so many seconds on, pictures for looking at are taken from key frames only."""

_TO_SDR = (
    "zscale=pin=bt2020:min=bt2020nc:tin={transfer}:t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
    "format=yuv420p"
)
_PLAIN = ["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn"]
# Else the encoder writes its own name and version into the file.
_EXACT = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", "-metadata:s", "encoder="]
_MP4 = ["-movflags", "+faststart", "-max_muxing_queue_size", "4096", "-f", "mp4"]


class Source:
    """A file to read: where it is, what it is and by which tools it is read."""

    def __init__(self, path: Path, demuxer: str, facts: Facts, tools: Tools, *, threads: int) -> None:
        if facts.video is None:
            raise ValueError(f"{path} has no moving pictures")
        self.path = path
        self.demuxer = demuxer
        self.facts = facts
        self.video: VideoFacts = facts.video
        self.tools = tools
        self.threads = threads
        self.duration = facts.duration
        """How long it is; to be set once it is measured, where the head of the file does not say."""

    @property
    def untonemapped(self) -> bool:
        """Whether its colours are left as they are, although they are meant for another kind of screen."""
        return self.video.hdr and not self.tools.maps_tones

    def begin(self) -> list[str]:
        return [
            self.tools.ffmpeg,
            *("-nostdin", "-hide_banner", "-nostats", "-loglevel", "error", "-y"),
            *("-max_alloc", str(MOST_ALLOCATED)),
            *("-progress", "pipe:1", "-stats_period", "0.2"),
            *("-filter_threads", str(self.threads), "-filter_complex_threads", str(self.threads)),
        ]

    def opened(self, *words: str) -> list[str]:
        return ["-threads", str(self.threads), *words, *opened(self.path, self.demuxer)]

    def picture(self, size: tuple[int, int]) -> str:
        """The filters that every picture goes through: colours, size, square pixels."""
        # What such a file does not say of its colours is as its kind has it; else there would be no way to convert.
        tones = [_TO_SDR.format(transfer=self.video.transfer)] if self.video.hdr and self.tools.maps_tones else []
        matrix = ":out_color_matrix=bt709" if self.video.rgb else ""
        return ",".join([*tones, f"scale={size[0]}:{size[1]}:flags=bicubic:out_range=tv{matrix}", "setsar=1"])


def opened(path: Path, demuxer: str) -> list[str]:
    """The words with which ffmpeg and ffprobe open a file: as what it is, from this disk, and nothing else.

    The demuxer is forced, and none may be opened in its stead by what stands in the file.
    """
    return [
        *("-protocol_whitelist", "file"),
        *("-format_whitelist", demuxer),
        *("-f", demuxer),
        *("-i", f"file:{path.absolute()}"),
    ]


def encode(source: Source, options: Transcode, out: Path) -> list[str]:
    """H.264 and AAC in an MP4 file that a browser can begin to play at once."""
    video, audio = source.video, source.facts.audio
    rate = [f"fps={options.max_rate}"] if video.fps is not None and video.fps > options.max_rate else []
    filters = [*rate, source.picture(fits(video.upright, options.width, options.height))]
    colours = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    sound = ["-c:a", "aac", "-b:a", f"{options.audio_bitrate}k", "-ac", "2", "-ar", "48000"]
    return [
        *source.begin(),
        *source.opened(),
        *_mapped(source.facts),
        *_PLAIN,
        *("-vf", ",".join(filters), "-c:v", "libx264", "-preset", options.preset, "-crf", str(options.crf)),
        *("-profile:v", "high", "-pix_fmt", "yuv420p", "-threads:v", str(source.threads)),
        *("-force_key_frames", "expr:gte(t,n_forced*2)"),
        *(colours if video.rgb or (video.hdr and not source.untonemapped) else []),
        *(sound if audio is not None else ["-an"]),
        *_EXACT,
        *_MP4,
        _to(out),
    ]


def remux(source: Source, out: Path) -> list[str]:
    """The streams as they are, in a new container."""
    return [*source.begin(), *source.opened(), *_mapped(source.facts), *_PLAIN, "-c", "copy", *_EXACT, *_MP4, _to(out)]


def poster(source: Source, options: Preview, out: Path, *, any_frame: bool = False) -> list[str]:
    """The most typical picture of the middle, of those that are neither black nor white; `any_frame`: of all."""
    duration = source.duration
    where = [] if duration is None else ["-ss", f"{duration * 0.1:.3f}", "-t", f"{duration * 0.8:.3f}"]
    rate = 2.0 if duration is None else min(max(40 / duration, 0.01), 8.0)
    typical = [] if any_frame else ["signalstats", _luma(38, "greater"), _luma(228, "less")]
    size = fits(source.video.upright, options.poster_width, 8192)
    filters = [f"fps={rate:.4f}", source.picture(size), *typical, "thumbnail=48", "format=yuvj420p"]
    return [
        *source.begin(),
        *source.opened(*where, *_keys_only(duration)),
        *("-map", f"0:{source.video.index}", *_PLAIN, "-an", "-vf", ",".join(filters), "-frames:v", "1"),
        *("-c:v", "mjpeg", "-q:v", "3", *_EXACT, "-f", "image2", "-update", "1"),
        _to(out),
    ]


def clip(source: Source, options: Preview, out: Path) -> list[str]:
    """A short, silent and small video."""
    parts = pieces(source.duration, options)
    inputs = [word for start, length in parts for word in source.opened("-ss", f"{start:.3f}", "-t", f"{length:.3f}")]
    size = fits(source.video.upright, options.clip_width, 8192)
    graph = ";".join(
        f"[{at}:{source.video.index}]{source.picture(size)},fps=25,format=yuv420p[v{at}]" for at in range(len(parts))
    )
    joined = "".join(f"[v{at}]" for at in range(len(parts)))
    return [
        *source.begin(),
        *inputs,
        *("-filter_complex", f"{graph};{joined}concat=n={len(parts)}[out]", "-map", "[out]"),
        *(*_PLAIN, "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-profile:v", "high"),
        *("-pix_fmt", "yuv420p", "-threads:v", str(source.threads)),
        *_EXACT,
        *_MP4,
        _to(out),
    ]


def sheet(source: Source, plan: Storyboard, out: Path) -> list[str]:
    """The pictures of a storyboard on one sheet."""
    filters = [
        f"fps={1 / plan.interval:.6f}",
        source.picture((plan.width, plan.height)),
        # The last picture once more where the video ends before its time.
        f"tpad=stop={plan.columns * plan.rows}:stop_mode=clone",
        f"tile={plan.columns}x{plan.rows}",
        "format=yuvj420p",
    ]
    return [
        *source.begin(),
        *source.opened(*_keys_only(source.duration)),
        *("-map", f"0:{source.video.index}", *_PLAIN, "-an", "-vf", ",".join(filters), "-frames:v", "1"),
        *("-c:v", "mjpeg", "-q:v", "4", *_EXACT, "-f", "image2", "-update", "1"),
        _to(out),
    ]


def measure(source: Source) -> list[str]:
    """Read all packets of the picture and decode none: the last report tells how long it is."""
    return [*source.begin(), *source.opened(), "-map", f"0:{source.video.index}", "-c", "copy", "-f", "null", "-"]


def decode_ends(source: Source) -> list[str]:
    """Decode the first and the last second, and complain of whatever is wrong."""
    inputs = [*source.opened("-t", "1"), *source.opened("-sseof", "-1")]
    return [*source.begin(), *inputs, *_mapped(source.facts), *_mapped(source.facts, 1), "-f", "null", "-"]


def _mapped(facts: Facts, file: int = 0) -> list[str]:
    """The first picture and the first sound of an input, by their places in the file."""
    streams = [stream.index for stream in (facts.video, facts.audio) if stream is not None]
    return [word for index in streams for word in ("-map", f"{file}:{index}")]


def _luma(value: int, how: str) -> str:
    return f"metadata=select:key=lavfi.signalstats.YAVG:value={value}:function={how}"


def _keys_only(duration: float | None) -> list[str]:
    return ["-skip_frame", "nokey"] if duration is not None and duration > LONG else []


def _to(out: Path) -> str:
    return f"file:{out.absolute()}"
