"""A blocking web service, as Flask and Django have them: user row and welcome job in one transaction.

It speaks WSGI with the standard library alone, so it runs with nothing but Muskox; in Flask the body of
`register` would be the same.

    python flask_like.py
    muskox worker flask_like:ox
    curl -d address=ada@example.org http://127.0.0.1:8001/
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import make_server

from muskox import Muskox, SyncActiveJob

FILE = "shop.db"
ox = Muskox(f"sqlite:///{FILE}")  # the same file as the shop's own tables
emails = ox.queue("email")


@emails.processor(attempts=5)
def welcome(job: SyncActiveJob, address: str) -> str:
    job.log(f"writing to {address}")
    return f"Welcome, {address}!"


def register(address: str) -> str:
    """Store the user and the job, both or neither; returns the id of the job."""
    with closing(sqlite3.connect(FILE)) as shop, shop:
        shop.execute("CREATE TABLE IF NOT EXISTS users (address TEXT PRIMARY KEY)")
        shop.execute("INSERT INTO users VALUES (?)", (address,))
        return emails.sync.add("welcome", {"address": address}, within=shop).id


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    size = int(environ.get("CONTENT_LENGTH") or 0)
    form = parse_qs(environ["wsgi.input"].read(size).decode())
    try:
        status, answer = "202 Accepted", register(form["address"][0])
    except KeyError:
        status, answer = "400 Bad Request", "give an address"
    except sqlite3.IntegrityError:
        status, answer = "409 Conflict", "this address is registered already"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{answer}\n".encode()]


if __name__ == "__main__":
    with make_server("127.0.0.1", 8001, app) as server:
        server.serve_forever()
