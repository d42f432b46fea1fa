"""The keys from which tokens and message ids are derived, and the file that keeps one.

Without `SECRET` a key is made at the first start and kept beside the database,
readable by its owner only. Nothing here is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path

from muskox import OptionError, World

__all__ = ["Keyring", "key_in_file", "key_in_text"]

_SIZE = 32
_SHORTEST = 16
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")


class Keyring:
    """The present key, and earlier ones that are still accepted; each is named by a hash of itself."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {hashlib.sha256(b"key id" + key).hexdigest()[:16]: key for key in keys}
        self.current_id = next(iter(self._keys))

    @property
    def current(self) -> bytes:
        return self._keys[self.current_id]

    @property
    def secrets(self) -> list[bytes]:
        """The present key first, then earlier ones."""
        return [self._keys[self.current_id], *(key for id, key in self._keys.items() if id != self.current_id)]

    def derive(self, key_id: str, text: bytes) -> bytes | None:
        """Compute 32 bytes from a text under a key; None when that key is gone."""
        key = self._keys.get(key_id)
        return None if key is None else hmac.digest(key, text, "sha256")


def key_in_text(name: str, text: str) -> bytes:
    """Read a key from a setting; raises `OptionError` when it is too short to be one."""
    if len(text) < _SHORTEST:
        raise OptionError(f"{name} has {len(text)} characters; give at least {_SHORTEST} random ones")
    return text.encode()


def key_in_file(path: Path, world: World) -> bytes:
    """Read the key that lies in a file, made on the first call; several processes may call at once."""
    try:
        if not path.exists():
            _make(path, world)
        path.chmod(0o600)
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OptionError(f"the key cannot be kept in {path}: {reason}; mend that, or set SECRET") from None
    key = bytes.fromhex(text) if _HEX.fullmatch(text) else b""
    if len(key) != _SIZE:
        raise OptionError(f"{path} does not hold a key of {_SIZE} bytes in hexadecimal; move it away to get a new one")
    return key


def _make(path: Path, world: World) -> None:
    # Written aside and then linked, which fails when another process was first: nobody reads half a key.
    aside = path.with_name(f".{path.name}.{world.new_id()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(world.secret(_SIZE).hex() + "\n")
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
    finally:
        aside.unlink()
