"""A Flask application whose jobs run in its context, with the dashboard beside it.

    pip install 'muskox[web]' flask a2wsgi
    flask --app flask_site run
    flask --app flask_site muskox worker

`curl -d address=ada@example.org http://127.0.0.1:5000/users` adds a job; http://127.0.0.1:5000/jobs/ is the dashboard.
"""

from __future__ import annotations

from a2wsgi import ASGIMiddleware
from flask import Flask, current_app, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from muskox import Muskox, SyncActiveJob
from muskox.contrib.flask import Jobs
from muskox.web import create_app

ox = Muskox()
emails = ox.queue("email")

app = Flask(__name__)
app.config["SENDER"] = "shop@example.org"
jobs = Jobs(ox, app, program="flask_site:ox")


@emails.processor(attempts=5)
@jobs.in_context
def welcome(job: SyncActiveJob, address: str) -> str:
    job.log(f"writing to {address}")
    return f"{current_app.config['SENDER']} welcomes {address}"


@app.post("/users")
def register() -> tuple[dict[str, str], int]:
    job = welcome.add_sync(address=request.form["address"])
    return {"id": job.id}, 202


# The dashboard speaks ASGI; this translates. Each stream that a page follows keeps one of your server's threads.
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/jobs": ASGIMiddleware(create_app(ox))})  # type: ignore[method-assign]
