"""What the type checker tells users is what `api.py` says that it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def check(file: Path, folder: Path) -> str:
    """What mypy says about a file, with a cache of its own."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--cache-dir", str(folder), str(file)]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_right_uses_pass_and_wrong_ones_are_errors(cache: Path) -> None:
    assert "Success: no issues found" in check(HERE / "api.py", cache)


def test_each_wrong_use_is_an_error_when_it_is_not_marked(cache: Path, tmp_path: Path) -> None:
    text = (HERE / "api.py").read_text()
    marked = [number for number, line in enumerate(text.splitlines(), 1) if "# type: ignore[" in line]
    (tmp_path / "unmarked.py").write_text(text.replace("# type: ignore[", "# ["))

    said = check(tmp_path / "unmarked.py", cache)

    lines = [int(line.split(":")[1]) for line in said.splitlines() if ": error: " in line]
    assert sorted(set(lines)) == marked
