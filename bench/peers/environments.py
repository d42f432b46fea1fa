"""Makes the environment of a system from its pins, once, in a cache folder outside of the repository.

The folder is $MUSKOX_BENCH_CACHE, else `~/.cache/muskox-bench`. A changed pin or another Python makes a
new environment. What cannot be made raises `Unavailable` with the reason, and the side is left out.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

__all__ = ["Unavailable", "node", "python", "version"]

PINS = Path(__file__).parent / "pins"
LIMIT = 600.0
READY = ".ready"


class Unavailable(Exception):
    """An environment could not be made, or a side could not do what was asked."""


def python(name: str) -> Path:
    """The interpreter of the environment pinned in `pins/NAME.txt`."""
    pins = PINS / f"{name}.txt"
    folder = _folder(name, pins.read_bytes() + platform.python_version().encode())
    interpreter = folder / "bin" / "python"
    if not (folder / READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _do([sys.executable, "-m", "venv", str(folder)])
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
        _do(pip)
        (folder / READY).touch()
    return interpreter


def node(name: str) -> Path:
    """The folder with the node modules pinned in `pins/NAME/package.json`."""
    pins = PINS / name / "package.json"
    if not shutil.which("node") or not shutil.which("npm"):
        raise Unavailable("there is no node or npm on this machine")
    folder = _folder(name, pins.read_bytes())
    if not (folder / READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(pins, folder)
        _do(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)])
        (folder / READY).touch()
    return folder


def version(name: str) -> str:
    """The version of the system that an environment is for: its first pin; of ours, that of the code."""
    if not name:
        try:
            return importlib.metadata.version("muskox")
        except importlib.metadata.PackageNotFoundError:
            return ""  # run from its folder; the report tells the revision
    if (PINS / name).is_dir():
        pinned = msgspec.json.decode((PINS / name / "package.json").read_bytes())["dependencies"]
        return f"{next(iter(pinned.values()))}{_node_version()}"
    return (PINS / f"{name}.txt").read_text().splitlines()[0].partition("==")[2]


def _node_version() -> str:
    if not shutil.which("node"):
        return ""
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return f" on Node {said.stdout.strip().removeprefix('v')}"


def _folder(name: str, pinned: bytes) -> Path:
    cache = os.environ.get("MUSKOX_BENCH_CACHE")
    root = Path(cache) if cache else Path.home() / ".cache" / "muskox-bench"
    return root / f"{name}-{hashlib.sha256(pinned).hexdigest()[:8]}"


def _do(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no reason given"]
        raise Unavailable(f"`{' '.join(command[:4])} …` failed: {words[-1]}")
