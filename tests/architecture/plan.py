"""What the rules go by: rooms, floors, owners, limits and words, each with its reason.

Data only: to allow or forbid something one edits a line here, not a rule.
"""

from __future__ import annotations

MAX_FILE = 400
MAX_FUNCTION = 60

# --- floors: which rooms a room may import from. What stands in no line is forbidden.

STORES = ("sqlite", "postgres", "redis")
_STORE_ROOMS = {"core", "protocol", "store", *(f"store.{one}" for one in STORES)}
_CONTRACT = {"core", "protocol", "open_store"}
_BELOW_APP = _STORE_ROOMS | {"open_store", "front", "runtime", "processors", "timed", "running", "app", "sync"}
MAY_IMPORT: dict[str, set[str]] = {
    "core": {"core"},
    "protocol": {"core", "protocol"},
    "store": {"core", "protocol", "store"},
    **{f"store.{one}": {"core", "protocol", "store", f"store.{one}"} for one in STORES},
    "open_store": _STORE_ROOMS,
    "world": {"core"},
    "runtime": _CONTRACT | {"runtime"},
    "front": _CONTRACT | {"front"},
    "sync": _BELOW_APP,
    "processors": _BELOW_APP,
    "timed": _BELOW_APP,
    "running": _BELOW_APP,
    "app": _BELOW_APP | {"world"},
    "testing": _BELOW_APP | {"world", "testing"},
    "public": _BELOW_APP | {"world"},
    "web": {"public", "contrib", "web"},
    "cli": {"public", "cli", "web"},
    "contrib": {"public", "contrib"},
    "apps": {"public", "apps"},
    "apps.mail": {"public", "apps", "apps.mail"},
    "apps.media": {"public", "apps", "apps.media"},
    "apps.notifier": {"public", "contrib", "web", "apps", "apps.mail", "apps.media", "apps.notifier"},
}
TOP_FLOOR = ("web", "cli", "contrib", "apps")


def room_of(module: str) -> str:
    """The room in which a module stands."""
    match module.split("."):
        case ["muskox"]:
            return "public"
        case ["muskox", "store"]:
            return "open_store"
        case ["muskox", "store", "protocol", *_]:
            return "protocol"
        case ["muskox", "store", one, *_]:
            return f"store.{one}" if one in STORES else "store"
        case ["muskox", "runtime", "world"]:
            return "world"
        case ["muskox", "__main__"]:
            return "cli"
        case ["muskox", "apps", one, *_] if f"apps.{one}" in MAY_IMPORT:
            return f"apps.{one}"
        case ["muskox", room, *_] if room in MAY_IMPORT:
            return room
        case _:
            return "front"


# --- what the core may use: it calculates, and nothing else.

CORE_MAY = {"cronsim", "msgspec"}
CORE_MAY_NOT = {"asyncio", "logging", "os", "random", "socket", "time"}

# --- foreign packages with an owner: no other room imports them. A package in no line may be used
# wherever it is needed.

_WEB = ("web", "contrib", "apps")
OWNERS: dict[str, tuple[str, ...]] = {
    "aiosqlite": (),
    "apsw": (),
    "asyncpg": (),
    "click": ("cli", "contrib", "apps"),
    "django": ("contrib",),
    "fastapi": _WEB,
    "flask": ("contrib",),
    "hiredis": ("store.redis",),
    "opentelemetry": ("contrib",),
    "prometheus_client": ("contrib",),
    "psycopg": ("store.postgres",),
    "psycopg_pool": ("store.postgres",),
    "redis": ("store.redis",),
    "rich": ("cli", "apps"),
    "sqlalchemy": ("contrib", "apps"),
    "sqlite3": ("store.sqlite",),
    "sse_starlette": _WEB,
    "starlette": _WEB,
    "uvicorn": ("cli", *_WEB),
}

# --- modules that may import inside a function, or by a name known only at run time. The commands in
# `cli` may too: they load the user's program and what they draw with when they run. All others
# import on top, where one sees what a module needs.

LATE_IMPORTS: dict[str, str] = {
    "muskox": "a public name loads its module when it is first used, so that a producer never loads the runtime",
    "muskox.running": "only running a worker loads the runtime",
    "muskox.runtime.child": "a child process imports the program whose processor it runs",
    "muskox.store": "open_store imports the one store that the URL names",
}

# --- what only a world asks the machine for, so that tests and simulations can hand in another one.

WORLDS: dict[str, str] = {
    "muskox.runtime.world": "the real one",
    "muskox.testing": "the one whose clock is moved by hand; its dice come from a seed",
}
WORLD_MODULES = {"random", "secrets", "time", "uuid"}
WORLD_METHODS = {"call_at", "call_later", "create_task"}
WORLD_NAMES = {
    "asyncio.create_task",
    "asyncio.ensure_future",
    "asyncio.sleep",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "os.getrandom",
    "os.urandom",
}

# --- words of other systems that have no other honest use in ours, and what we say. Left out are those
# that the glossary avoids for a job but that mean something else as well (task, message, fetch, lock …).

FOREIGN_WORDS: dict[str, str] = {
    "ack": "settle",
    "actor": "processor",
    "broker": "store",
    "consumer": "processor or worker",
    "dequeue": "claim",
    "enqueue": "add",
    "enqueued": "added",
    "handler": "processor or listener",
    "nack": "release",
    "payload": "data",
    "requeue": "release or retry",
    "retries": "attempts",
}
WORDS_OF_HOSTS: dict[str, str] = {
    "muskox.contrib.django.tasks": "Django calls the methods of a backend by its own names",
}
"""Modules whose names somebody else has chosen."""
