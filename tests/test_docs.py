"""The documentation is true: its code runs, its commands exist, its links lead somewhere, its lists are complete.

`python -m tests.test_docs` writes docs/reference/cli.md anew from the command line itself.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

import muskox
from muskox.cli import main
from muskox.core import errors, events
from muskox.core.errors import OptionError
from muskox.processors import ProcessorOptions
from muskox.queue import AddOptions
from muskox.rules import ScheduleOptions
from muskox.runtime.worker import Settings
from muskox.store.sqlite.database import parse
from muskox.timed import TimedOptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted(DOCS.rglob("*.md"))]
OURS = [page for page in PAGES if "decisions" not in page.parts]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is where its first line stands."""

    kind: str
    line: int
    text: str


def blocks(page: Path, kind: str) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], text[: m.start(2)].count("\n"), m[2]) for m in found if m[1] == kind]


def named(pages: list[Path]) -> list[Any]:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages]


# --- tests that are named --------------------------------------------------------------------


@pytest.mark.parametrize("page", ["features", "dashboards"])
def test_the_tests_that_a_page_of_comparison_names_are_there(page: str) -> None:
    text = (DOCS / "explanation" / f"{page}.md").read_text()
    rows = [row for row in text.splitlines() if "`tests/" in row]

    for row in rows:
        for path, tests in re.findall(r"`(tests/[\w/]+\.py)`((?:[:,]? `test_\w+`)*)", row):
            code = (ROOT / path).read_text()
            missing = [test for test in re.findall(r"`(test_\w+)`", tests) if f"def {test}(" not in code]
            assert missing == [], f"{path} has no such tests"
    assert len(rows) > 20


# --- code ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, from which modules can be imported; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("page", named([page for page in OURS if blocks(page, "python")]))
def test_the_code_of_a_page_runs(page: Path, folder: Path) -> None:
    asyncio.run(_run(page, folder))


async def _run(page: Path, folder: Path) -> None:
    """Run the blocks one after another in one namespace; one that begins with `# name.py` is also that file."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        file = re.match(r"# (\w+)\.py\n", block.text)
        if file is not None:
            (folder / f"{file[1]}.py").write_text(block.text)
            importlib.invalidate_caches()
            names |= {k: v for k, v in vars(importlib.import_module(file[1])).items() if not k.startswith("__")}
            continue
        source = "\n" * block.line + block.text
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)
        if inspect.iscoroutine(running):
            await running


# --- commands --------------------------------------------------------------------------------


def commands(page: Path) -> list[str]:
    """What a page says to type that begins with `muskox`."""
    lines = [line.removeprefix("$ ") for block in blocks(page, "console") for line in block.text.splitlines()]
    lines += re.findall(r"`(muskox [a-z][^`]*)`", page.read_text())
    return [line for line in lines if line.startswith("muskox ")]


@pytest.mark.parametrize("page", named([page for page in OURS if commands(page)]))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for line in commands(page):
        _, name, *words = shlex.split(line)
        command = main.commands.get(name)
        if isinstance(command, click.Group) and words:
            command = command.commands.get(words.pop(0))
        assert command is not None, f"{page.name}: there is no command {line!r}"
        parser = command.make_parser(click.Context(command))
        _, left, _ = parser.parse_args(words)  # raises for an option that is not there
        assert not left, f"{page.name}: {line!r} has arguments too many"


# --- links and lines --------------------------------------------------------------------------


@pytest.mark.parametrize("page", named(PAGES))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} is not there"
        assert not anchor or anchor in _anchors(found), f"{target} has no such heading"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", named(OURS))
def test_a_line_holds_one_sentence(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in prose.splitlines() if not line.startswith("|")]

    assert [line for line in lines if re.search(r"[.!?:]\*{0,2} [A-Z`]\w+", line) and _is_two(line)] == []


def _is_two(line: str) -> bool:
    return re.search(r"[.!?]\*{0,2} [A-Z]", re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "x", line)) is not None


def test_every_page_is_reached_from_the_index() -> None:
    text = (DOCS / "index.md").read_text()

    missing = [page for page in OURS if page.is_relative_to(DOCS) and page.relative_to(DOCS).as_posix() not in text]

    assert [page.name for page in missing] == ["index.md"]


def test_the_tests_that_the_readme_names_are_there() -> None:
    wanted = set(re.findall(r"`(test_\w+)`", (ROOT / "README.md").read_text()))
    there = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }

    assert wanted
    assert wanted - there == set()


# --- the reference is complete ------------------------------------------------------------------


def told(page: str) -> set[str]:
    """The words of a reference page that stand as code."""
    spans = re.findall(r"`([^`\n]+)`", (REFERENCE / page).read_text())
    return {word for span in spans for word in re.findall(r"\w+", span)}


def test_every_event_is_in_the_reference() -> None:
    fields = {name for cls in events.KINDS.values() for name in cls.__struct_fields__} - {"at_us"}

    assert (set(events.KINDS) | fields) - told("events.md") == set()


def test_every_error_is_in_the_reference() -> None:
    assert set(errors.__all__) - told("errors.md") == set()


@pytest.mark.parametrize(
    "names",
    [
        AddOptions.__annotations__,
        ProcessorOptions.__annotations__,
        ScheduleOptions.__annotations__,
        TimedOptions.__annotations__,
        muskox.Retention.__struct_fields__,
        muskox.Fixed.__struct_fields__,
        muskox.Exponential.__struct_fields__,
        muskox.Steps.__struct_fields__,
        Settings.__struct_fields__,
    ],
)
def test_every_option_is_in_the_reference(names: Any) -> None:
    assert set(names) - told("options.md") == set()


def test_every_option_of_a_url_is_in_the_reference() -> None:
    with pytest.raises(OptionError) as refused:
        parse("sqlite:///a.db?nothing=1")

    known = set(str(refused.value).partition("known are ")[2].split(", "))
    assert known
    assert known - told("settings.md") == set()


def test_every_public_name_is_in_the_reference() -> None:
    there = told("api.md") | told("options.md") | told("errors.md")

    assert set(muskox.__all__) - there == set()


@pytest.mark.parametrize(
    "cls",
    [muskox.Muskox, muskox.Queue, muskox.AppQueue, muskox.BoundProcessor, muskox.Job, muskox.Schedules, muskox.Flows],
)
def test_every_verb_is_in_the_reference(cls: type) -> None:
    internal = {
        "add_within",
        "data_text",
        "steps_text",
        "result_text",
        "progress_text",
        "added_us",
        "due_us",
        "started_us",
        "ended_us",
        "arrival_us",
    }
    verbs = {name for name in dir(cls) if not name.startswith("_")} - internal

    assert verbs - told("api.md") == set()


# --- the page of the command line ------------------------------------------------------------------


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    assert (REFERENCE / "cli.md").read_text() == cli_page(), "run: python -m tests.test_docs"


def cli_page() -> str:
    """The reference of all commands, from the commands."""
    intro = inspect.cleandoc(main.help or "")
    return "\n".join(["# Command line", "", *_sentences(intro), *_commands(main.commands.values()), ""])


def _commands(commands: Iterable[click.Command], group: str = "") -> Iterator[str]:
    """Each command in the order of the help, those of a group after it."""
    for command in commands:
        yield _command(command, group)
        if isinstance(command, click.Group):
            yield from _commands(command.commands.values(), f"{command.name} ")


def _command(command: click.Command, group: str) -> str:
    name = f"{group}{command.name}"
    words = [
        param.make_metavar(click.Context(command)) for param in command.params if isinstance(param, click.Argument)
    ]
    lines = [
        "",
        f"## muskox {name}",
        "",
        "```text",
        " ".join(["muskox", name, *words]),
        "```",
        "",
    ]
    lines += [*_sentences(inspect.cleandoc(command.help or "")), "", "| option | default | meaning |", "|---|---|---|"]
    for option in command.params:
        if isinstance(option, click.Option):
            value = "" if option.is_flag else f" {_metavar(option)}"
            usual, said = _default(option)
            lines.append(f"| {', '.join(f'`{name}{value}`' for name in reversed(option.opts))} | {usual} | {said} |")
    if lines[-1] == "|---|---|---|":
        del lines[-3:]
    return "\n".join(lines)


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice) and option.metavar is None:
        return "·".join(option.type.choices)
    return option.metavar or ("N" if "int" in option.type.name else "TEXT")


def _default(option: click.Option) -> tuple[str, str]:
    """What counts when the option is left out, which its help may say in brackets, and the rest of the help."""
    text, _, said = (option.help or "").partition("  [")
    return (said.rstrip("]") if said else str(option.default) if option.show_default else ""), text


def _sentences(text: str) -> list[str]:
    """One sentence per line, paragraphs apart."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(re.sub(r"(?<=[.:]) (?=[A-Z])", "\n", part) for part in paragraphs).split("\n")


if __name__ == "__main__":
    (REFERENCE / "cli.md").write_text(cli_page())
