"""Headers on every answer, and requests that do not get through."""

from __future__ import annotations

import pytest

from muskox.apps.notifier.idempotency import LARGEST_REQUEST
from tests.apps.notifier.conftest import ADA

PATHS = [
    "/",
    "/docs",
    "/dev/inbox",
    "/health/queue",
    "/static/style.css",
    "/nothing",
    "/messages/x",
    "/openapi.json",
    "/auth/reset?token=x",
]


@pytest.mark.parametrize("path", PATHS)
async def test_security_s12_every_answer_has_the_headers(notifier, path):
    answer = await notifier.http.get(path)

    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/messages/%00", "/dev/inbox?to=a%00b", "/auth/reset?token=%00", "/dev/inbox/a%00"])
async def test_fault_d03_nothing_is_found_under_a_name_with_a_nul(notifier, path):
    answer = await notifier.http.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/docs", "/dev/inbox"])
async def test_security_s09_no_page_has_inline_script_or_anything_from_elsewhere(notifier, path):
    text = (await notifier.http.get(path)).text

    assert "<script>" not in text
    assert " style=" not in text
    assert " onclick" not in text
    assert "//cdn" not in text
    assert "https://" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_security_s07_another_site_may_not_ask_for_changes(notifier, headers):
    for method, path in (("POST", "/users"), ("DELETE", "/dev/inbox/messages"), ("POST", "/auth/password-reset")):
        answer = await notifier.http.request(method, path, json=ADA, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")


async def test_security_s07_a_form_cannot_pretend_to_be_json(notifier):
    answer = await notifier.http.post("/users", content=b'{"email": "a@b.org"}', headers={"content-type": "text/plain"})

    assert answer.status_code == 422


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "a@127.0.0.1", ""])
async def test_security_s08_a_name_that_is_not_ours_is_refused(notifier, host):
    answer = await notifier.http.get("/dev/inbox", headers={"host": host})

    assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "10.0.0.7"])
async def test_addresses_and_localhost_are_ours(notifier, host):
    assert (await notifier.http.get("/dev/inbox", headers={"host": host})).status_code == 200


async def test_a_request_that_is_too_large_is_refused(notifier):
    large = b'{"email": "' + b"a" * LARGEST_REQUEST + b'"}'

    async def pieces():
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    json = {"content-type": "application/json"}
    told = await notifier.http.post("/users", content=large, headers=json)
    untold = await notifier.http.post("/users", content=pieces(), headers=json)

    assert (told.status_code, untold.status_code) == (413, 413)


async def test_an_error_of_ours_says_nothing_of_the_inside(notifier, monkeypatch):
    def fail(*_args):
        raise RuntimeError("password of the database")

    monkeypatch.setattr(notifier.services.inbox.__class__, "find", fail)

    answer = await notifier.http.get("/dev/inbox/messages")

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "password" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
