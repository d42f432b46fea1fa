"""`muskox dashboard`: serve the dashboard of a program; `muskox access`: make the lines that let people in.

What it shows and who may do what is in `muskox.web`; here it is started, and
not where anybody could reach it without being known.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from muskox import Muskox
from muskox.cli.family import OnStore, on_store, shown

__all__ = ["access", "dashboard"]

_GOODBYE = 5
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_ROLES = ("view", "operate", "admin")


@click.command(cls=OnStore)
@on_store
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", "-p", default=8321, show_default=True, type=click.IntRange(0, 65_535),
              help="0 takes a free one.")  # fmt: skip
@click.option("--access", "access_file", metavar="FILE", type=click.Path(path_type=Path),
              help="Users and tokens, as `muskox access` writes them.  [MUSKOX_ACCESS]")  # fmt: skip
@click.option("--allow-host", "hosts", metavar="NAME", multiple=True,
              help="A name under which it is reached; may be repeated.  [any with --access]")  # fmt: skip
@click.option("--read-only", is_flag=True, help="Change nothing, whoever asks.")
@click.option("--audit", metavar="FILE", type=click.Path(path_type=Path),
              help="Append each change to this file: who, when, what.")  # fmt: skip
@click.option("--mask", metavar="NAME", multiple=True,
              help="Hide fields of job data with this in their name, too; may be repeated.")  # fmt: skip
def dashboard(
    ox: Muskox, *, host: str, port: int, access_file: Path | None, hosts: tuple[str, ...], **options: Any
) -> None:
    """Serve the dashboard and its HTTP interface until it is stopped. Needs muskox[web].

    Without --access it shows everything to whoever is on this machine, and refuses to listen to others.
    MUSKOX_DASHBOARD_SECRET, where it is set, signs sessions, so that they outlive a restart.
    """
    ox.follow_supervisor()
    web = _web()
    logging.basicConfig(stream=sys.stderr, format=_FORMAT, level=logging.WARNING)
    logging.getLogger("muskox").setLevel(logging.INFO)
    named = access_file or os.environ.get("MUSKOX_ACCESS")
    access = web.read_access(Path(named)) if named else web.Access()
    if not access and not web.is_loopback(host):
        raise click.UsageError(
            f"{host} can be reached by others, and nobody has been given access; make a file with "
            "`muskox access user NAME` and give it as --access FILE, or leave out --host"
        )
    secret = os.environ.get("MUSKOX_DASHBOARD_SECRET", "")
    if secret and len(secret) < 16:
        raise click.UsageError("MUSKOX_DASHBOARD_SECRET needs at least 16 characters, made by chance")
    app = web.create_app(
        ox, access=access, hosts=hosts or (None if access else ()), secret=secret.encode() or None,
        read_only=options["read_only"], audit=options["audit"], mask=options["mask"],
    )  # fmt: skip
    listener = _listen(host, port)
    try:
        asyncio.run(_try_store(ox))
    except BaseException:
        listener.close()
        raise
    _serve(app, listener, _welcome(ox, host, listener, open_to_all=not access))


def _web() -> Any:
    try:
        import muskox.web
    except ModuleNotFoundError as error:
        raise click.ClickException(f"the dashboard needs {error.name}: pip install 'muskox[web]'") from None
    return muskox.web


async def _try_store(ox: Muskox) -> None:
    """Open the store once, so that what is wrong with it is one line and not the trace of a failed start."""
    async with ox:
        pass


def _serve(app: Any, listener: socket.socket, welcome: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Uvicorn's server, which says where it is, and lets streams go when it is told to stop."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            self.loop = asyncio.get_running_loop()
            await super().startup(sockets)
            if self.started and not self.should_exit:
                click.echo(welcome)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Not uvicorn's own, which raises the signal once more at the end: a gentle stop is a success.
            if self.started:
                self.loop.call_soon_threadsafe(app.state.desk.let_go)
            self.force_exit = self.should_exit
            self.should_exit = True

    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_GOODBYE,
        timeout_keep_alive=15, h11_max_incomplete_event_size=65_536, proxy_headers=False,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = Server(config)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port, or say why it cannot be taken."""
    # The protocol is named, else asyncio does not recognise TCP, and every answer waits for Nagle's algorithm.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(f"port {port} on {host} is taken; choose another, or --port 0") from None
        raise click.ClickException(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    return listener


def _welcome(ox: Muskox, host: str, listener: socket.socket, *, open_to_all: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    near = "127.0.0.1" if host in {"0.0.0.0", "::"} else name  # noqa: S104 - not bound here, only named
    base = f"http://{near}:{listener.getsockname()[1]}"
    whom = "this machine only; others need --access" if open_to_all else "those who sign in or have a token"
    lines = (
        "", f"  dashboard  {base}/", f"  API        {base}/api/openapi.json", f"  jobs in    {shown(ox)}",
        f"  open to    {whom}", "  Ctrl-C stops it.", "",
    )  # fmt: skip
    return "\n".join(lines)


# --- access ------------------------------------------------------------------------------


@click.group()
def access() -> None:
    """Make users and tokens for the dashboard: lines for the file that --access names."""


@access.command("user")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="view", show_default=True, help="What they may do.")
@click.option("--file", metavar="FILE", type=click.Path(path_type=Path), help="Append the lines to it.  [stdout]")
@click.password_option(help="Else it is asked for.")
def make_user(name: str, *, role: str, file: Path | None, password: str) -> None:
    """Make the lines for a user NAME with a password, of which only a hash is in them."""
    web = _web()
    hashed = web.hash_password(password, salt=Muskox().world.secret(16))
    web.User(name, hashed, web.Role(role))
    _put(file, f'[users."{name}"]\nrole = "{role}"\npassword = "{hashed}"\n')


@access.command("token")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="view", show_default=True, help="What it may do.")
@click.option("--file", metavar="FILE", type=click.Path(path_type=Path), help="Append the lines to it.  [stdout]")
@click.option("--days", type=click.IntRange(1), metavar="N", help="How long it is good.  [for ever]")
def make_token(name: str, *, role: str, file: Path | None, days: int | None) -> None:
    """Make the lines for a token NAME, and print the token itself, which is not in them, to stderr."""
    web, world = _web(), Muskox().world
    token = f"mx_{base64.urlsafe_b64encode(world.secret(32)).decode().rstrip('=')}"
    digest = web.digest_of(token)
    web.Token(name, digest, web.Role(role))
    until = "" if days is None else f"expires_at = {_day(world.now() + days * 86_400)}\n"
    click.echo(f"{token}\n", err=True)
    _put(file, f'[tokens."{name}"]\nrole = "{role}"\nsha256 = "{digest}"\n{until}')


def _put(file: Path | None, lines: str) -> None:
    """Print the lines, or append them to a file that nobody else may read."""
    if file is None:
        click.echo(lines)
        return
    file.touch(mode=0o600)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{lines}\n")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
