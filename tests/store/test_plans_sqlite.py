"""How SQLite goes about the statements: along an index, whatever the number of jobs. Explained, not timed."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from muskox.store.sql import statements
from muskox.store.sqlite.schema import apply

SQL = {
    name: text
    for file in ("statements.sql", "looks.sql", "moving.sql", "schedules.sql", "keys.sql", "flows.sql")
    for name, text in statements("muskox.store.sqlite", file).items()
}
SLOW_ON_PURPOSE = {name for name in SQL if name.startswith("audit")} | {"integrity"}
BY_A_BOUNDED_SORT = {
    "flow_page", "flow_records", "first_to_go", "holders", "page_active", "pick_oldest", "unended_jobs",
}  # fmt: skip
"""They sort what there is little of: the jobs that run now, one job for each priority, a page, one flow."""
WALKED = ("muskox_jobs", "muskox_schedules", "muskox_ledger", "muskox_flows", "muskox_nodes", "muskox_edges")


@pytest.fixture(scope="module")
def db():
    """The tables of a new database."""
    with closing(sqlite3.connect(":memory:")) as made:
        apply(made)
        yield made


def plan(db, name):
    statement = SQL[name]
    named = dict.fromkeys(re.findall(r":([a-z_]+)", statement), "[]")
    values = named or ["[]"] * statement.count("?")
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize("name", sorted(SQL.keys() - SLOW_ON_PURPOSE))
def test_mission_a16_no_statement_walks_through_all_jobs(db, name):
    steps = plan(db, name)

    assert [
        step for step in steps if re.fullmatch(r"SCAN muskox_(jobs|logs|ledger|flows|nodes|edges)( AS \w+)?", step)
    ] == []
    if name not in BY_A_BOUNDED_SORT and any(table in step for step in steps for table in WALKED):
        assert [step for step in steps if "TEMP B-TREE FOR ORDER BY" in step] == []


@pytest.mark.parametrize("name", sorted(SQL.keys() - SLOW_ON_PURPOSE))
def test_mission_a16_no_statement_walks_through_all_jobs_of_a_queue(db, name):
    """As one does that searches the index of ids by the queue alone: ids come from outside, and lead the search."""
    assert [step for step in plan(db, name) if "INDEX muskox_jobs_id (queue=?)" in step] == []


def test_mission_a16_figures_are_read_and_never_counted(db):
    assert not any("muskox_jobs" in step for step in plan(db, "counts"))
