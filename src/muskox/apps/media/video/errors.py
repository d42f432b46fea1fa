"""What goes wrong with encoders, beside the reasons that all of media knows."""

from __future__ import annotations

from muskox import MuskoxError
from muskox.apps.media.errors import Broken, Reason

__all__ = ["EncoderFailed", "VideoToolsMissing"]


class VideoToolsMissing(MuskoxError):
    """There is no ffmpeg here that can do what is needed; the message says how to get one."""


class EncoderFailed(Broken):
    """An encoder ended by itself, but not well; `code` is how, `complaint` the end of what it said."""

    def __init__(self, code: int, complaint: str) -> None:
        said = complaint.rpartition("\n")[2][-300:] or "it said nothing"
        super().__init__(Reason.ENCODER_FAILED, f"the encoder ended with code {code}: {said}")
        self.code = code
        self.complaint = complaint
