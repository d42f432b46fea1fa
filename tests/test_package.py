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


@pytest.mark.parametrize("target", ["setup", "run", "test"])
def test_the_makefile_says_what_a_shell_understands_in_a_new_clone(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    said = subprocess.run(
        ["make", "--dry-run", target], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout

    assert "sync --frozen" in said
    checked = subprocess.run(["sh", "-n"], input=said, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


# A process in which there is only what the extras named in its arguments bring.
WITHOUT_THE_REST = """
import sys
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement

there, left = set(), [(name, "") for name in ["muskox"]] + [("muskox", extra) for extra in sys.argv[2:]]
seen = set()
while left:
    name, extra = one = left.pop()
    if one in seen:
        continue
    seen.add(one)
    there.add(name)
    try:
        needed = requires(name) or []
    except Exception:  # of another platform
        continue
    for need in map(Requirement, needed):
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            left += [(need.name.lower().replace("_", "-"), more) for more in ("", *need.extras)]
away = {
    module for module, owners in packages_distributions().items()
    if not any(owner.lower().replace("_", "-") in there for owner in owners)
}

class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away and name.partition(".")[0] != "packaging":
            raise ModuleNotFoundError(f"{name} comes with none of {sys.argv[2:]}", name=name)

sys.meta_path.insert(0, Away())
__import__(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("module", "extras"),
    [
        ("muskox.cli", []),
        ("muskox.store.redis", ["redis"]),
        ("muskox.store.postgres", ["postgres"]),
        ("muskox.web.app", ["web"]),
        ("muskox.apps.mail.sending", ["mail"]),
        ("muskox.apps.media.media", ["media"]),
        ("muskox.apps.notifier.app", ["notifier"]),
        ("muskox.apps.notifier.worker", ["notifier"]),
        ("muskox.contrib.outbox", ["sqlalchemy"]),
    ],
)
def test_an_extra_brings_all_that_its_modules_import(module: str, extras: list[str]) -> None:
    command = [sys.executable, "-c", WITHOUT_THE_REST, module, *extras]

    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
