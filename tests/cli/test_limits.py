"""Limits from a terminal: shown, changed, held."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run, added


def test_limits_are_shown_and_only_what_is_named_is_changed(run: Run) -> None:
    run("limits", "email", "--rate", "100/60+5", "--concurrency", "5")
    said = run("limits", "email", "--concurrency", "none", "--key-concurrency", "1").stdout

    assert "rate            100 per 60 s, 5 at once" in said
    assert "concurrency     none" in said
    assert "key concurrency 1" in said
    found = json.loads(run("limits", "email", "--json").stdout)
    assert found["limits"] == {"rate": {"limit": 100, "per": 60.0, "burst": 5}, "key_concurrency": 1}
    assert (found["active"], found["held_until"]) == (0, None)


def test_a_key_has_limits_of_its_own(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--key", "acme.com")
    run("limits", "email", "--key", "acme.com", "--concurrency", "3", "--weight", "2")

    found = json.loads(run("limits", "email", "--key", "acme.com", "--json").stdout)

    assert (found["own"], found["waiting"]) == ({"concurrency": 3, "weight": 2}, 1)
    assert "weight          2" in run("limits", "email", "--key", "acme.com").stdout


def test_a_queue_and_a_key_are_held(run: Run) -> None:
    assert run("hold", "email", "60").stdout == "queue email is held for 60 seconds\n"
    assert run("hold", "email", "60", "--key", "a").stdout == "key a of queue email is held for 60 seconds\n"
    assert "held until" in run("limits", "email").stdout

    assert run("hold", "email", "0").stdout == "queue email is not held any more\n"
    assert "held until" not in run("limits", "email").stdout


def test_the_key_of_a_job_is_shown(run: Run) -> None:
    id = added(run, "email", "welcome", "{}", "--key", "acme.com")

    assert "key       acme.com" in run("jobs", "show", "email", id).stdout
    assert json.loads(run("jobs", "show", "email", id, "--json").stdout)["key"] == "acme.com"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["limits", "email", "--rate", "many"], "'many' is not 100/60"),
        (["limits", "email", "--concurrency", "-1"], "'-1' is not a whole number"),
        (["limits", "email", "--concurrency", "0"], "concurrency must be between 1"),
        (["limits", "email", "--rate", "0/1"], "rate limit must be between 1"),
        (["limits", "email", "--weight", "2"], "there is no limit 'weight' for a queue"),
        (["hold", "email", "--", "-5"], "hold must be between 0"),
    ],
)
def test_what_cannot_be_is_refused_as_wrong_use(run: Run, words: list[str], said: str) -> None:
    result = run(*words)

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
