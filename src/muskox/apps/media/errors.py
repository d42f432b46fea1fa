"""What goes wrong with files, as exceptions that carry a reason for programs.

MediaError
├── Refused        another attempt would end the same way (also Muskox's FinalError)
│   └── BadOptions an operation is not as it must be; says where
├── Broken         worth another attempt: a disk, a lack of memory, a lost child
├── DiskLow        there is no room for what shall be kept
├── UploadRefused  a piece of an upload cannot be taken; what is there of it stays
└── NoSuchFile     there is no file of that id, or no output of that name

A job keeps no exception, only its text: that begins with the reason, and
`reason_in` finds it there again.
"""

from __future__ import annotations

from enum import StrEnum

from muskox import Failure, FailureKind, FinalError

__all__ = [
    "BadOptions",
    "Broken",
    "DiskLow",
    "MediaError",
    "NoSuchFile",
    "Reason",
    "Refused",
    "UploadRefused",
    "reason_in",
]


class Reason(StrEnum):
    """Why a file was not taken or not made; part of the HTTP interface."""

    BAD_OPERATIONS = "bad_operations"
    BAD_OPTIONS = "bad_options"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    CORRUPT = "corrupt"
    DISK_FULL = "disk_full"
    DISK_LOW = "disk_low"
    EMPTY = "empty"
    ENCODER_FAILED = "encoder_failed"
    EXPIRED = "expired"
    IO_ERROR = "io_error"
    LEASE_LOST = "lease_lost"
    LOCKED = "locked"
    NO_VIDEO = "no_video"
    OUT_OF_MEMORY = "out_of_memory_kill"
    SOURCE_GONE = "source_gone"
    STALLED = "stalled"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    TOO_MANY_FRAMES = "too_many_frames"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_UPLOADS = "too_many_uploads"
    UNSUPPORTED_CODEC = "unsupported_codec"
    UNSUPPORTED_TYPE = "unsupported_type"
    VERIFY_FAILED = "verify_failed"
    WRONG_OFFSET = "wrong_offset"


class MediaError(Exception):
    """Catch this to catch everything that the media application raises on purpose."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text


class Refused(MediaError, FinalError):
    """The file or the order is at fault: one attempt, and no other."""


class BadOptions(Refused):
    """An operation is unknown or has an option that it may not have; `pointer` says where, as RFC 6901 does."""

    def __init__(self, text: str, pointer: str) -> None:
        super().__init__(Reason.BAD_OPERATIONS, text)
        self.pointer = pointer


class Broken(MediaError):
    """The machine is at fault, and the next attempt may succeed."""


class DiskLow(MediaError):
    """The disk has too little room left to take a file of that size."""


class UploadRefused(MediaError):
    """A piece does not fit to what is there of its upload, or the upload is not to be had now."""


class NoSuchFile(MediaError):
    """There is no such file or output, or it has been deleted."""


def reason_in(failure: Failure | None) -> Reason | None:
    """The reason that a failure of a job was told with; None where it is none of ours."""
    if failure is None:
        return None
    match failure.kind:
        case FailureKind.TIMEOUT:
            return Reason.TIMEOUT
        case FailureKind.STALLED:
            return Reason.LEASE_LOST
        case _:
            told = failure.message.partition(":")[0]
            return Reason(told) if told in set(Reason) else None
