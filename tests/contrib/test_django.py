"""The Django project of the examples: its transaction, its tasks, its staff, its commands."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples" / "django_site"

pytestmark = pytest.mark.slow

STORY = """
import asyncio, json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from shop.asgi import application, dashboard
import httpx
from django.contrib.auth.models import User
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from shop.jobs import ox, emails
from shop.tasks import count_users
try:
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError:
    from django_tasks.signals import task_enqueued, task_finished, task_started
from muskox.contrib.django import user_of

heard = []
def hear(kind, signal):
    signal.connect(lambda task_result, **_: heard.append((kind, task_result.status)), weak=False)
for kind, signal in (("added", task_enqueued), ("started", task_started), ("finished", task_finished)):
    hear(kind, signal)

call_command("migrate", verbosity=0)
ox.sync.migrate()
call_command("check", verbosity=0)

web = Client()
web.raise_request_exception = False
made = web.post("/users/", {"name": "ada"})
assert made.status_code == 202, made.content
told = made.json()
again = web.post("/users/", {"name": "ada"})  # the name is taken: neither row nor jobs
assert again.status_code == 500
assert (emails.sync.counts().total, ox.queue("default").sync.counts().total) == (1, 1)

async def work():
    async with ox.worker():
        await emails.result(told["job"], timeout=30)
        await ox.queue("default").result(told["task"], timeout=30)

before = count_users.get_result(told["task"])
assert (before.status, before.is_finished, before.task.priority) == ("READY", False, 10), before
asyncio.run(work())
after = count_users.get_result(told["task"])
assert (after.status, after.return_value, after.attempts, after.kwargs) == ("SUCCESSFUL", 1, 1, {"active": True}), after
assert heard == [("added", "READY"), ("started", "RUNNING"), ("finished", "SUCCESSFUL")], heard
job = ox.queue("default").sync.get(told["task"])
assert (job.name, job.priority, job.options.attempts) == ("shop.tasks.count_users", 10, 3), job
assert emails.sync.get(told["job"]).result == "Welcome, ada!"

def session_of(user):
    store = SessionStore()
    store[SESSION_KEY], store[BACKEND_SESSION_KEY] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    return store.session_key

boss = session_of(User.objects.create_superuser("boss"))
ada = session_of(User.objects.get(username="ada"))
assert user_of({"sessionid": boss}).username == "boss"
assert user_of({"sessionid": "forged"}) is None and user_of({}) is None

async def look():
    transport = httpx.ASGITransport(application)
    http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
    async with dashboard.router.lifespan_context(dashboard), http:
        nobody = await http.get("/jobs/api/overview")
        user = await http.get("/jobs/api/overview", cookies={"sessionid": ada})
        chief = await http.get("/jobs/api/session", cookies={"sessionid": boss})
        site = await http.get("/admin/login/")
        forged = await http.post("/jobs/api/queues/email/pause", cookies={"sessionid": boss})
    return nobody.status_code, user.status_code, chief.json(), site.status_code, forged.status_code

nobody, user, chief, site, forged = asyncio.run(look())
assert (nobody, user, site, forged) == (401, 401, 200, 403), (nobody, user, site, forged)
assert (chief["name"], chief["role"]) == ("boss", "admin"), chief
ox.sync.close()
print(json.dumps(told))
"""


def ran(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(PROJECT)])}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_django_project_has_jobs_tasks_and_a_dashboard_for_its_staff(tmp_path: Path) -> None:
    if importlib.util.find_spec("django.tasks") is None and importlib.util.find_spec("django_tasks") is None:
        pytest.skip("neither django.tasks (Django 6) nor the package django-tasks is here")

    told = json.loads(ran(tmp_path, "-c", STORY).splitlines()[-1])

    # The command of the project knows where the jobs are, with words of its own for none of ours.
    shown = json.loads(
        ran(tmp_path, str(PROJECT / "manage.py"), "muskox", "jobs", "show", "email", told["job"], "--json")
    )
    assert (shown["state"], shown["result"]) == ("completed", "Welcome, ada!")
