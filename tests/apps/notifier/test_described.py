"""The description of the interface: complete, and the same for people and programs."""

from __future__ import annotations


async def test_every_route_is_described_with_its_answers(notifier):
    described = (await notifier.http.get("/openapi.json")).json()
    page = (await notifier.http.get("/docs")).text

    for path, methods in described["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in methods.values():
            assert operation["summary"]
            assert operation["responses"].keys() & {"200", "201", "202", "204"}
    answers = described["paths"]["/auth/reset"]["post"]["responses"]
    assert answers.keys() == {"204", "404", "410", "422"}
    assert "application/problem+json" in answers["422"]["content"]
