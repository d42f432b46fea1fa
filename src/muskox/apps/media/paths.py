"""Opens, makes and renames what lies under one folder, and never what a link leads out to.

Every part of a path is checked to be a plain name and opened relative to its
parent without following links, so that neither a name with `..` in it nor a
link that somebody puts there while we look reaches other files.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from muskox.apps.media.errors import NoSuchFile, Reason

__all__ = ["DIRECTORY", "PRIVATE", "beneath", "check_name", "descend", "sync_directory"]

PRIVATE = 0o600
DIRECTORY = 0o700

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_name(name: str) -> str:
    """Give a name that is one plain part of a path; raises `NoSuchFile` for any other."""
    if not _NAME.fullmatch(name):
        raise NoSuchFile(Reason.SOURCE_GONE, "no file can have a name like that")
    return name


@contextmanager
def descend(root: str, *parts: str, make: bool = False) -> Iterator[int]:
    """Open the folder beneath `root` and give its descriptor; with `make`, make what is not there.

    Raises `NoSuchFile` where it is not there, or is a link.
    """
    at = os.open(root, _FOLDER)
    try:
        for part in parts:
            check_name(part)
            if make:
                try:
                    os.mkdir(part, DIRECTORY, dir_fd=at)
                except FileExistsError:
                    pass
            inner = _inner(at, part)
            os.close(at)
            at = inner
        yield at
    finally:
        os.close(at)


def beneath(root: str, *parts: str) -> int:
    """Open the file beneath `root` for reading and give its descriptor; raises `NoSuchFile` as `descend` does."""
    *folders, name = parts
    with descend(root, *folders) as at:
        try:
            return os.open(check_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        except OSError as error:
            raise _gone(error) from None


def sync_directory(at: int) -> None:
    """Make what was named or renamed in a folder last through a power cut, where the system can do that."""
    try:
        os.fsync(at)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF}:
            raise


def _inner(at: int, part: str) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=at)
    except OSError as error:
        raise _gone(error) from None


def _gone(error: OSError) -> Exception:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        return NoSuchFile(Reason.SOURCE_GONE, "there is no such file")
    return error
