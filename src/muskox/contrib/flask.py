"""Muskox in a Flask application: jobs run in its context, and `flask muskox` is the command line.

The dashboard is an ASGI application; how to mount it beside Flask is in docs/how-to/embed.md.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click
import flask

from muskox import Muskox, OptionError
from muskox.contrib import _command

__all__ = ["Jobs"]

P = ParamSpec("P")
T = TypeVar("T")


class Jobs:
    """The extension: `jobs = Jobs(ox, app)`, or `jobs.init_app(app)` where the application is made later.

    `program` is where `ox` is, as module:object, for `flask muskox worker` and all that starts further processes.
    """

    def __init__(self, ox: Muskox, app: flask.Flask | None = None, *, program: str | None = None) -> None:
        self.ox = ox
        self._program = program
        self._app: flask.Flask | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Give an application its jobs: `app.extensions["muskox"]`, and the command `flask muskox`."""
        self._app = app
        app.extensions["muskox"] = self
        app.cli.add_command(self._command())

    def in_context(self, function: Callable[P, T]) -> Callable[P, T]:
        """Have a processor run in the context of the application, with its configuration and extensions.

        Below the decorator of the processor: `@emails.processor()` `@jobs.in_context` `def welcome(…)`.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._made().app_context():
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._made().app_context():
                return function(*args, **kwargs)

        return called

    def _made(self) -> flask.Flask:
        if self._app is None:
            raise OptionError("these jobs belong to no Flask application yet; call init_app(app) where it is made")
        return self._app

    def _command(self) -> click.Command:
        @click.command(
            "muskox", context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
        )
        @click.argument("words", nargs=-1, type=click.UNPROCESSED)
        def command(words: tuple[str, ...]) -> None:
            """Run workers, look at jobs and manage them: all that `muskox` does."""
            _command.run(self._program, words)

        return command
