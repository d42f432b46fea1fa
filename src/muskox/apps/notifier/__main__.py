"""`python -m muskox.apps.notifier`: service, worker and inbox in one process.

It says where everything is once it listens, and stops on Ctrl-C or SIGTERM after
the jobs that run. Settings are read from the environment; see `settings.py`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from types import FrameType

import click
import uvicorn
from fastapi import FastAPI

from muskox import MuskoxError
from muskox.apps.notifier.app import create_app
from muskox.apps.notifier.services import Services
from muskox.apps.notifier.settings import Settings, is_loopback, read_environment, read_settings

__all__ = ["main"]

_GOODBYE = 30


@click.command(help="Run the notifier: HTTP service, mail worker and, without SMTP settings, an inbox.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
def main(host: str, port: int) -> None:
    """Start, serve until told to stop, and stop gently."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    listener = _listen(host, port)
    try:
        settings = _settings(host, listener)
        app = create_app(settings)
        asyncio.run(_try_store(app.state.services))
    except MuskoxError as error:
        listener.close()
        raise click.ClickException(str(error)) from None
    server = _Server(app, settings, _address(host, listener))
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    """Uvicorn's server, which says where it is, and lets waiting readers go when it is told to stop."""

    def __init__(self, app: FastAPI, settings: Settings, address: str) -> None:
        # No access log: the token of a reset link stands in its address.
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=_GOODBYE, server_header=False
            )
        )
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._services: Services = app.state.services
        self._settings = settings
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and not self.should_exit:
            _announce(self._services, self._settings, self._address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own, which raises the signal once more at the end: a gentle stop is a success.
        # Work is left to the loop, since the code that was interrupted may hold the lock that it needs.
        if self._loop is not None and self.started:
            self._loop.call_soon_threadsafe(self._services.bell.close)
            if self.should_exit:
                self._loop.call_soon_threadsafe(self._app.state.hurry)
            else:
                self._loop.call_soon_threadsafe(_say, "\nStopping: running jobs may end, waiting ones stay.")
        self.should_exit = True


async def _try_store(services: Services) -> None:
    """Open the store once, so that what is wrong with it is one line and not the trace of a failed start."""
    async with services.ox:
        pass


def _address(host: str, listener: socket.socket) -> str:
    """Where a browser on this machine finds the service."""
    name = f"[{host}]" if ":" in host else host
    near = "127.0.0.1" if host in {"0.0.0.0", "::"} else name  # noqa: S104 - not bound here, only named
    return f"http://{near}:{listener.getsockname()[1]}"


def _settings(host: str, listener: socket.socket) -> Settings:
    settings = read_settings(read_environment(), address=_address(host, listener))
    if settings.smtp is None and not settings.open_inbox and not is_loopback(host):
        raise click.ClickException(
            f"the built-in inbox shows every mail, reset links too, to whoever can reach {host}; "
            "set SMTP_HOST to send mail, or INBOX=open if that is what you want"
        )
    return settings


def _listen(host: str, port: int) -> socket.socket:
    """Take the port, or say why it cannot be taken."""
    # The protocol is named, else asyncio does not recognise TCP, leaves Nagle's algorithm on, and every
    # answer waits 40 ms for an acknowledgement.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise click.ClickException(_refusal(host, port, error)) from None
    return listener


def _refusal(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} on {host} is taken by another program; choose another with --port {port + 1} "
                f"(make run PORT={port + 1}), or --port 0 for any free one"
            )
        case errno.EACCES:
            return f"port {port} may only be taken by the administrator; choose one above 1023 with --port"
        case _:
            return f"cannot listen on {host}, port {port}: {error.strerror or error}; choose another with --host"


def _announce(services: Services, settings: Settings, base: str) -> None:
    smtp = settings.smtp
    lines = [
        "",
        f"  {settings.product} notifier is ready",
        "",
        f"  page     {base}/",
        f"  mail by  {smtp.host}:{smtp.port}" if smtp else f"  inbox    {base}/dev/inbox",
        f"  files    {base}/media",
        f"  API      {base}/docs",
        f"  health   {base}/health/queue",
        f"  jobs in  {services.ox!r}",
        "" if settings.worker else "  no worker here (WORKER=0): start one with python -m muskox.apps.notifier.worker",
        "  Ctrl-C stops it.",
        "",
    ]
    _say("\n".join(lines))


def _say(text: str) -> None:
    """Tell the terminal, which may have gone away; the service goes on without it."""
    try:
        click.echo(text)
    except OSError:
        pass


if __name__ == "__main__":
    main()
