"""The source keeps to the plan of the house, and the rules that say so catch those who do not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import muskox
from tests.architecture.house import House, Module
from tests.architecture.plan import OWNERS
from tests.architecture.rules import RULES, Rule

TESTS = Path(__file__).parent
SRC = TESTS.parent / "src"
RULE = {rule.__name__: rule for rule in RULES}

# What breaks a rule, as files of a small made-up house, and a part of what the rule must answer.
BROKEN: list[tuple[str, dict[str, str], str]] = [
    ("every_file_can_be_read", {"core/job.py": "def"}, "core/job.py:1: cannot be read"),
    # floors
    ("imports_point_down", {"core/job.py": "from muskox.store import protocol"}, "core may not import muskox.store"),
    ("imports_point_down", {"core/job.py": "import muskox"}, "core may not import muskox"),
    ("imports_point_down", {"store/protocol.py": "from muskox.store.sql import rows"}, "protocol may not"),
    ("imports_point_down", {"store/sql.py": "from muskox.store.sqlite.store import SQLite"}, "store may not"),
    ("imports_point_down", {"store/redis/store.py": "from muskox.store.sqlite import x"}, "store.redis may not"),
    ("imports_point_down", {"store/sqlite/store.py": "from muskox.store import open_store"}, "store.sqlite may not"),
    ("imports_point_down", {"store/sqlite/store.py": "import muskox.runtime.world"}, "store.sqlite may not"),
    ("imports_point_down", {"runtime/worker.py": "from muskox.queue import Queue"}, "runtime may not"),
    ("imports_point_down", {"runtime/worker.py": "from muskox.store.sqlite import x"}, "runtime may not"),
    ("imports_point_down", {"runtime/worker.py": "from muskox.runtime.world import RealWorld"}, "runtime may not"),
    ("imports_point_down", {"runtime/world.py": "from muskox.runtime.loop import Loop"}, "world may not"),
    ("imports_point_down", {"queue.py": "from muskox.runtime.active import ActiveJob"}, "front may not"),
    ("imports_point_down", {"queue.py": "from muskox.app import Muskox"}, "front may not"),
    ("imports_point_down", {"streams.py": "from muskox.store.sql import rows"}, "front may not"),
    ("imports_point_down", {"sync.py": "from muskox.runtime.world import RealWorld"}, "sync may not"),
    ("imports_point_down", {"processors.py": "from muskox.runtime.world import RealWorld"}, "processors may not"),
    ("imports_point_down", {"app.py": "from muskox.testing import FlakyStore"}, "app may not"),
    ("imports_point_down", {"app.py": "from muskox.web.api import api"}, "app may not"),
    ("imports_point_down", {"__init__.py": "from muskox.testing import FlakyStore"}, "public may not"),
    ("imports_point_down", {"web/api.py": "from muskox.core.job import Job"}, "web may not"),
    ("imports_point_down", {"cli/worker.py": "def run():\n    import muskox.runtime.worker"}, "cli may not"),
    ("imports_point_down", {"__main__.py": "from muskox.app import Muskox"}, "cli may not"),
    ("imports_point_down", {"contrib/flask.py": "from muskox.web.api import api"}, "contrib may not"),
    ("imports_point_down", {"apps/mail/send.py": "from muskox.testing import FlakyStore"}, "apps.mail may not"),
    (
        "imports_point_down",
        {"testing.py": "", "apps/mail/send.py": "from muskox import testing"},
        "apps.mail may not import muskox.testing",
    ),
    ("imports_point_down", {"apps/mail/send.py": "from muskox.apps.notifier import users"}, "apps.mail may not"),
    (
        "imports_point_down",
        {"queue.py": "if TYPE_CHECKING:\n    from muskox.runtime.active import ActiveJob"},
        "queue.py:2: front may not",
    ),
    ("imports_are_absolute_and_named", {"core/job.py": "from . import errors"}, "relative import"),
    ("imports_are_absolute_and_named", {"core/job.py": "from muskox.core.errors import *"}, "star import"),
    (
        "imports_make_no_cycle",
        {"a.py": "from muskox.core import b", "core/b.py": "from muskox.c import C", "c.py": "import muskox.a"},
        "import cycle: muskox.",
    ),
    ("imports_stand_on_top", {"queue.py": "class Queue:\n    def f(self):\n        import json"}, "queue.py:3"),
    ("imports_stand_on_top", {"queue.py": "import importlib\nimportlib.import_module('json')"}, "queue.py:2"),
    ("imports_stand_on_top", {"queue.py": "from importlib import import_module as get\nget('json')"}, "queue.py:2"),
    ("imports_stand_on_top", {"queue.py": "__import__('json')"}, "queue.py:1"),
    # public names
    (
        "the_top_floor_uses_public_names",
        {"__init__.py": "__all__ = ['Muskox']", "web/api.py": "from muskox import Muskox, secret"},
        "muskox.secret is not public",
    ),
    (
        "the_top_floor_uses_public_names",
        {"__init__.py": "__all__: list[str] = ['Muskox']", "apps/mail/a.py": "import muskox\nmuskox.secret()"},
        "apps/mail/a.py:2: muskox.secret is not public",
    ),
    ("public_names_are_listed", {"__init__.py": "from muskox.app import Muskox\n__all__ = []"}, "Muskox is not in"),
    ("public_names_are_listed", {"__init__.py": "def helper(): ..."}, "helper is not in"),
    # owners
    ("foreign_packages_have_an_owner", {"queue.py": "import sqlite3"}, "it belongs to store.sqlite"),
    ("foreign_packages_have_an_owner", {"store/sql.py": "import sqlite3"}, "store may not import sqlite3"),
    ("foreign_packages_have_an_owner", {"store/postgres/store.py": "import redis.asyncio"}, "store.postgres may not"),
    ("foreign_packages_have_an_owner", {"apps/notifier/db.py": "from sqlite3 import Row"}, "apps.notifier may not"),
    ("foreign_packages_have_an_owner", {"app.py": "from psycopg import Connection"}, "app may not import psycopg"),
    ("foreign_packages_have_an_owner", {"store/sqlite/store.py": "import aiosqlite"}, "it belongs to nobody"),
    ("foreign_packages_have_an_owner", {"app.py": "from fastapi import FastAPI"}, "app may not import fastapi"),
    ("foreign_packages_have_an_owner", {"runtime/worker.py": "import rich.table"}, "runtime may not import rich"),
    ("the_core_only_calculates", {"core/job.py": "import asyncio"}, "core may not import asyncio"),
    ("the_core_only_calculates", {"core/job.py": "from os.path import join"}, "core may not import os.path"),
    ("the_core_only_calculates", {"core/job.py": "import pydantic"}, "core may not import pydantic"),
    # the world
    ("only_a_world_asks_the_machine", {"runtime/loop.py": "import time"}, "imports time"),
    ("only_a_world_asks_the_machine", {"apps/mail/a.py": "from uuid import uuid4"}, "imports uuid"),
    ("only_a_world_asks_the_machine", {"store/sqlite/a.py": "from asyncio import sleep"}, "imports asyncio"),
    ("only_a_world_asks_the_machine", {"a.py": "import asyncio\nasync def f(): await asyncio.sleep(1)"}, "a.py:2"),
    ("only_a_world_asks_the_machine", {"a.py": "import asyncio as aio\naio.create_task(x)"}, "a.py:2"),
    ("only_a_world_asks_the_machine", {"a.py": "group.create_task(x)"}, "uses group.create_task"),
    ("only_a_world_asks_the_machine", {"a.py": "import os\nos.urandom(8)"}, "uses os.urandom"),
    ("only_a_world_asks_the_machine", {"a.py": "from datetime import datetime\nf(datetime.now)"}, "a.py:2"),
    ("only_a_world_asks_the_machine", {"a.py": "import datetime as dt\ndt.datetime.utcnow()"}, "a.py:2"),
    # reading
    ("every_module_says_what_it_is_for", {"core/__init__.py": ""}, "no docstring"),
    ("every_module_says_what_it_is_for", {"core/a.py": '"""A."""\nimport json'}, "a.py:2"),
    ("files_are_read_in_one_sitting", {"core/a.py": "x = 1\n" * 401}, "core/a.py: 401 lines"),
    ("files_are_read_in_one_sitting", {"store/sqlite/statements.sql": "SELECT 1;\n" * 401}, "401 lines"),
    ("functions_have_one_duty", {"core/a.py": "async def f():\n" + "    x = 1\n" * 60}, "f has 61 lines"),
    # words
    ("words_come_from_the_glossary", {"queue.py": "def enqueue(): ..."}, "say add"),
    ("words_come_from_the_glossary", {"queue.py": "class AckHandlers: ..."}, "say settle"),
    ("words_come_from_the_glossary", {"queue.py": "def add(job_payload): ..."}, "say data"),
    ("words_come_from_the_glossary", {"queue.py": "self.broker, x = 1, 2"}, "say store"),
    ("words_come_from_the_glossary", {"queue.py": "retries: int = 3"}, "say attempts"),
    ("words_come_from_the_glossary", {"queue.py": "for consumer in x: ..."}, "say processor or worker"),
    ("words_come_from_the_glossary", {"store/redis/lua/claim.lua": "local payload = 1"}, "say data"),
]  # fmt: skip

# What looks like a breach and is none.
SOUND: list[tuple[str, dict[str, str]]] = [
    ("imports_point_down", {"core/job.py": "import json\nfrom muskox.core.errors import OptionError"}),
    ("imports_point_down", {"store/__init__.py": "from muskox.store.protocol import Store"}),
    ("imports_point_down", {"store/sqlite/store.py": "import muskox.store.sql\nimport muskox.store.sqlite.writer"}),
    ("imports_point_down", {"queue.py": "from muskox.store import open_store\nfrom muskox.schedules import Schedules"}),
    ("imports_point_down", {"app.py": "from muskox.runtime.world import RealWorld\nfrom muskox.sync import Bridge"}),
    ("imports_point_down", {"testing.py": "import muskox.app, muskox.runtime.world, muskox.store.sqlite"}),
    ("imports_point_down", {"apps/notifier/a.py": "import muskox\nfrom muskox.apps.mail import Mailer"}),
    ("imports_point_down", {"cli/dashboard.py": "import muskox.web.api\nfrom muskox.cli.render import table"}),
    ("imports_make_no_cycle", {"core/a.py": "import muskox.core.b", "core/b.py": "import muskox.core.gone"}),
    ("imports_stand_on_top", {"running.py": "def run():\n    import json", "cli/jobs.py": "def ls():\n    import csv"}),
    ("the_top_floor_uses_public_names", {"__init__.py": "__all__ = ['A']", "web/a.py": "import muskox\nmuskox.A"}),
    ("the_top_floor_uses_public_names", {"__init__.py": "__all__ = ()", "web/a.py": "from muskox import Muskox"}),
    (
        "public_names_are_listed",
        {"__init__.py": "from importlib import import_module\nfrom muskox.app import A\n__all__ = ['A']\n_HOMES = {}"},
    ),
    ("foreign_packages_have_an_owner", {"apps/notifier/a.py": "import sqlalchemy, fastapi", "a.py": "import msgspec"}),
    ("foreign_packages_have_an_owner", {"store/sqlite/writer.py": "import sqlite3"}),
    ("the_core_only_calculates", {"core/a.py": "import msgspec\nfrom datetime import datetime"}),
    ("only_a_world_asks_the_machine", {"runtime/world.py": "import time", "testing.py": "import random"}),
    ("only_a_world_asks_the_machine", {"a.py": "world.now()\nworld.sleep(1)\nworld.spawn(x)"}),
    ("only_a_world_asks_the_machine", {"a.py": "from datetime import datetime\ndatetime.fromisoformat('x')"}),
    ("every_module_says_what_it_is_for", {"core/__init__.py": '"""Core."""'}),
    ("functions_have_one_duty", {"core/a.py": "def f():\n" + "    x = 1\n" * 59}),
    ("words_come_from_the_glossary", {"queue.py": "job.add(payload=logging.Handler())\ndef package(back): ..."}),
    ("words_come_from_the_glossary", {"store/redis/lua/claim.lua": "-- never an ack\nredis.call('XACK', k)"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def source() -> House:
    return House(SRC)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(source: House, rule: Rule) -> None:
    assert list(rule(source)) == []


@pytest.mark.parametrize(("name", "files", "answer"), BROKEN)
def test_a_breach_is_found(tmp_path: Path, name: str, files: dict[str, str], answer: str) -> None:
    house = _build(tmp_path, files)

    faults = list(RULE[name](house))

    assert any(answer in fault for fault in faults), faults


@pytest.mark.parametrize(("name", "files"), SOUND)
def test_what_is_allowed_is_left_alone(tmp_path: Path, name: str, files: dict[str, str]) -> None:
    house = _build(tmp_path, files)

    assert list(RULE[name](house)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_an_empty_house_keeps_the_rule(tmp_path: Path, rule: Rule) -> None:
    assert list(rule(House(tmp_path))) == []


def test_every_rule_is_seen_to_catch_something() -> None:
    assert {name for name, _, _ in BROKEN} == RULE.keys()


def test_importing_muskox_loads_no_driver_no_framework_and_no_runtime() -> None:
    program = "import sys, muskox; print('\\n'.join(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    foreign = [name for name in loaded if name.partition(".")[0] in OWNERS]
    # What a program declares with is there; what runs jobs is not.
    declaring = {f"muskox.runtime.{name}" for name in ("active", "registry", "world")}
    runtime = [name for name in loaded if name.startswith("muskox.runtime.") and name not in declaring]
    assert (foreign, runtime) == ([], [])


@pytest.mark.parametrize("name", muskox.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(muskox, name) is not None


def test_no_public_name_stands_twice() -> None:
    assert sorted(set(muskox.__all__)) == sorted(muskox.__all__)


def test_tests_wait_for_facts_and_never_sleep() -> None:
    files = [file for file in TESTS.rglob("*.py") if not file.is_relative_to(TESTS / "end_to_end")]

    assert [fault for file in files for fault in _sleeps(file.relative_to(TESTS.parent), file.read_text())] == []


def test_a_sleep_in_a_test_is_found() -> None:
    text = """
    import asyncio, time as t
    async def test_it(world):
        t.sleep(1)
        if world:
            await asyncio.sleep(delay=2)
        await asyncio.sleep(0)
        await world.sleep(1)
        async def processor():
            await asyncio.sleep(30)
        while world.now() < 5:
            await asyncio.sleep(0.01)
    """

    assert _sleeps(Path("a.py"), dedent(text)) == ["a.py:4: sleeps", "a.py:6: sleeps"]


def _sleeps(path: Path, text: str) -> list[str]:
    """The lines of tests that wait for time to pass.

    No such waiting are `sleep(0)`, which lets others run; a loop that looks for
    its fact now and then; and a processor inside a test that takes its time.
    """
    module = Module("tests", path, ast.parse(text))
    steps = [node for test in module.functions if test.name.startswith("test_") for node in _own_steps(test)]
    calls = [node for node in steps if isinstance(node, ast.Call)]
    sleeps = [call for call in calls if module.full_name(call.func) in {"asyncio.sleep", "time.sleep"}]
    return [module.at(call, "sleeps") for call in sleeps if [ast.unparse(arg) for arg in call.args] != ["0"]]


def _own_steps(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.While | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _own_steps(child)


def _build(root: Path, files: dict[str, str]) -> House:
    for name, text in files.items():
        path = root / "muskox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return House(root)
