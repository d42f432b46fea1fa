"""The comparison with other systems: what its report says, and that each side is measured as it should be."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.child import ROOT
from bench.peers import environments
from bench.peers.compare import Plan, compare
from bench.peers.environments import Unavailable
from bench.peers.field import FIELD, OURS, Peer, field
from bench.peers.measures import SIDES, Side
from bench.peers.page import fill
from bench.peers.table import Comparison, Standing, markdown, ratios

PLAN = {"rounds": 3, "seconds": 4.0, "only": (), "server": {}, "killed": 0.0}
HERE = {"slots": (1,), "settings": "", "bulk": "", "guarantee": "", "killed": "", "kept": "", "pins": ""}


def standing(name, reason="", **figures):
    return Standing(name, "", "", "at least once", "runs again", "nothing", figures=figures, reason=reason)


def found_of(*sides, store="redis"):
    return Comparison(store, PLAN, {side.name: side for side in sides})


def test_a_ratio_is_the_median_of_the_ratios_of_each_round():
    ours = standing(OURS, drain=[10.0, 90.0, 40.0])
    theirs = standing("BullMQ (Node)", drain=[10.0, 10.0, 10.0])

    told = {ratio.name: ratio for ratio in ratios(found_of(ours, theirs))}

    assert told["drain, times BullMQ (Node)"].value == 4.0
    assert told["drain, times BullMQ (Node)"].reached


def test_the_best_of_the_others_is_the_one_to_beat_and_is_named():
    ours = standing(OURS, add=[100.0])
    huey = standing("Huey", add=[200.0])
    huey.guarantee = "at most once"

    told = {ratio.name: ratio for ratio in ratios(found_of(ours, standing("arq", add=[50.0]), huey))}

    assert told["add, times the best (Huey)"].value == 0.5
    assert told["add, times the best (Huey)"].reached is False
    assert told["add, at least once, times the best (arq)"].value == 2.0
    assert told["add, at least once, times the best (arq)"].reached is None


def test_the_tables_go_between_the_marks_of_their_store_and_nothing_else_changes():
    page = "before\n<!-- redis -->\nold\n<!-- /redis -->\nafter\n"

    once = fill(page, "redis", "new")

    assert once == "before\n<!-- redis -->\n\nnew\n\n<!-- /redis -->\nafter\n"
    assert fill(once, "redis", "new") == once
    with pytest.raises(ValueError, match="no marks <!-- sqlite -->"):
        fill(page, "sqlite", "new")


def test_the_page_tells_of_everyone_who_takes_part():
    page = Path(ROOT / "docs" / "explanation" / "compared.md").read_text()

    missing = [peer.name for peers in FIELD.values() for peer in peers if f"| {peer.name} |" not in page]

    assert missing == []


def test_who_has_no_figure_is_passed_over_and_stands_in_the_table_with_the_reason():
    ours = standing(OURS, drain=[10.0])
    gone = standing("BullMQ (Node)", reason="there is no node or npm on this machine")

    text = markdown(found_of(ours, gone))

    assert ratios(found_of(ours, gone)) == []
    assert "| BullMQ (Node) | – | – | – | – | – | – | – | – |" in text
    assert "| BullMQ (Node) | there is no node or npm on this machine |" in text


def test_the_report_says_the_command_and_the_settings_that_gave_it():
    found = found_of(standing(OURS, drain=[10.0]))
    found.plan = PLAN | {"server": {"appendonly": "no"}}

    text = markdown(found)

    assert "python -m bench compare --store redis --rounds 3 --seconds 4 --server appendonly=no" in text
    assert "no snapshots; appendonly=no." in text


@pytest.mark.parametrize("store", FIELD)
def test_each_side_has_a_program_pins_and_a_version(store):
    for peer in FIELD[store]:
        assert (SIDES / peer.program).exists()
        assert peer.name == OURS or environments.version(peer.pins)
        assert peer.guarantee
        assert peer.killed
        assert peer.kept


def test_ours_takes_part_whoever_else_is_asked_for():
    assert [peer.name for peer in field("redis", ("bullmq (n", "rq"))] == [OURS, "BullMQ (Node)", "RQ"]


def test_a_job_that_ran_twice_spoils_the_figure():
    spec = importlib.util.spec_from_file_location("side", SIDES / "side.py")
    side = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(side)
    runs = side.Runs(2, loud=False)

    for index in (0, 0, 1):
        runs.note(index)

    with pytest.raises(RuntimeError, match="1 of 2 jobs did not run exactly once, the first is 0"):
        runs.check()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["side_muskox.py", "side_huey.py"])
def test_a_side_adds_runs_and_answers_as_agreed(program):
    if program == "side_huey.py":
        pytest.importorskip("huey")
    side = Side(Peer(name="one", program=program, **HERE), "sqlite")

    assert side.add(20) > 0
    assert side.drain(50) > 0
    assert side.bytes_each(100) > 0
    idle = side.idle(samples=3, calm=0.1)
    assert idle.startup > 0
    assert idle.memory > 1
    assert idle.latency > 0


@pytest.mark.slow
def test_a_job_whose_worker_was_killed_is_awaited_and_no_longer_than_told():
    side = Side(Peer(name="one", program="side_muskox.py", **HERE), "sqlite")

    assert side.returns(limit=0.5) is None  # its lease is 30 s


@pytest.mark.slow
def test_a_side_that_fails_is_left_out_and_troubles_nobody(monkeypatch):
    [ours] = [peer for peer in FIELD["sqlite"] if peer.name == OURS]
    broken = Peer(name="Broken", program="no_such_program.py", **HERE)
    monkeypatch.setitem(FIELD, "sqlite", (broken, ours))
    lines = []

    found = compare(Plan("sqlite", rounds=1, seconds=0.0, samples=2, waiting=50, trial=0.0, calm=0.1), lines.append)

    assert "No such file" in found.sides["Broken"].reason
    assert found.sides["Broken"].figures == {}
    assert set(found.sides[OURS].figures) == {
        "add", "bulk", "drain", "startup", "latency", "memory", "idle", "bytes",
    }  # fmt: skip
    assert any(line.startswith("Broken: left out") for line in lines)


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSKOX_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "PINS", tmp_path)
    (tmp_path / "wrong.txt").write_text("--no-index\nno-such-distribution==1.0\n")

    with pytest.raises(Unavailable, match="no-such-distribution"):
        environments.python("wrong")

    assert not list(tmp_path.glob("wrong-*/.ready"))


def test_a_program_of_a_side_needs_nothing_of_ours_to_be_loaded():
    said = subprocess.run(
        [sys.executable, "-c", "import side, sys; print('muskox' in sys.modules)"],
        cwd=SIDES, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert json.loads(said.stdout.lower()) is False
    assert "muskox" not in Path(SIDES / "side.py").read_text()
