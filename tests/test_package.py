"""The wheel: everything that the program reads is in it, and a base install is lean."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    with ZipFile(file) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_every_file_of_the_source(wheel: ZipFile) -> None:
    source = {file.relative_to(SRC).as_posix() for file in SRC.glob("muskox/**/*") if _is_part(file)}

    packed = {name for name in wheel.namelist() if name.startswith("muskox/")}

    assert packed == source
    assert "muskox/py.typed" in packed


def test_the_wheel_puts_nothing_beside_the_package(wheel: ZipFile) -> None:
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"muskox", "muskox-0.1.0.dist-info"}


def test_the_wheel_carries_the_licence(wheel: ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert "muskox-0.1.0.dist-info/licenses/LICENSE" in wheel.namelist()


def test_a_base_install_is_lean(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    names = {line.partition(">")[0].partition(";")[0] for line in required}

    assert names == {"click", "cronsim", "msgspec", "python-dotenv", "rich", "tzdata"}
    assert [line for line in required if line.startswith("tzdata")] == ["tzdata; sys_platform == 'win32'"]


def test_the_extra_all_holds_what_the_others_hold(metadata: Message) -> None:
    lines = [line.partition(" extra == ") for line in metadata.get_all("Requires-Dist", [])]

    of_all = {requirement for requirement, _, extra in lines if extra == "'all'"}

    assert of_all == {requirement for requirement, _, extra in lines if extra not in {"", "'all'"}}


def test_the_command_is_declared(wheel: ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]

    assert "muskox = muskox.cli:main" in wheel.read(name).decode()


def _is_part(file: Path) -> bool:
    """Whether a file below src belongs to the program, and is no cache and no trace of a run."""
    return file.is_file() and "__pycache__" not in file.parts and not file.match("*.db*")
