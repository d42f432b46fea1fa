"""What all commands share: which program or store they speak to, and how errors become exit codes.

No command stands here.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from muskox import (
    DataError,
    DeclarationError,
    Muskox,
    MuskoxError,
    OptionError,
    StoreUnavailable,
    StoreUnsupported,
)

__all__ = ["AS_JSON", "YES", "Family", "OnStore", "load", "look_up", "on_store", "shown", "speak"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_WRONG_USE = (OptionError, DataError, DeclarationError, StoreUnsupported)
"""Errors that the same command would always give: exit code 2."""


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
YES = click.option("--yes", "-y", is_flag=True, help="Do not ask first.")


class Refused(click.ClickException):
    """The job or the store does not allow it: exit code 1."""


class Away(click.ClickException):
    """The store gives no answer: exit code 3, for programs that try again later."""

    exit_code = 3


class Family(click.Group):
    """The commands in the order in which they were added, with our errors told as click's are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except _WRONG_USE as error:
            raise click.UsageError(str(error)) from None
        except StoreUnavailable as error:
            raise Away(str(error)) from None
        except MuskoxError as error:
            raise Refused(str(error)) from None


class OnStore(click.Command):
    """A command whose first argument, the program, may be left out: it is known by its colon, which no queue has."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = self._first_word(args)
        alone = sum(isinstance(param, click.Argument) for param in self.params) == 1
        if at is not None and not alone and ":" not in args[at]:
            args = [*args[:at], "", *args[at:]]
        return super().parse_args(ctx, args)

    def _first_word(self, args: Sequence[str]) -> int | None:
        """Where the first argument is that is no option and no option's value."""
        valued = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag and not param.count
            for name in param.opts
        }
        skip = False
        for at, word in enumerate(args):
            if skip:
                skip = False
            elif word == "--":
                return at + 1 if at + 1 < len(args) else None
            elif word.startswith("-") and word != "-":
                skip = word in valued
            else:
                return at
        return None


def on_store(command: F) -> F:
    """Give a command its first argument PROGRAM and the option --url; it receives the `Muskox` as `ox`."""
    url = click.option("--url", metavar="URL", help="The store, in place of a program.", callback=_keep_url,
                       expose_value=False, is_eager=True)  # fmt: skip
    program = click.argument("ox", metavar="[PROGRAM]", required=False, default="", callback=_find)
    return program(url(command))


def _keep_url(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta["muskox.url"] = value


def _find(ctx: click.Context, _: click.Parameter, value: str) -> Muskox:
    url: str | None = ctx.meta.get("muskox.url")
    if url and value:
        raise click.UsageError(f"{value} and --url both say where the jobs are; give one of them")
    if "://" in value:
        raise click.UsageError(f"{value} is the URL of a store and no program; give it as --url {value}")
    program = value or ("" if url else os.environ.get("MUSKOX_PROGRAM", ""))
    return load(program) if program else Muskox(url)


def speak(ox: Muskox, work: Callable[[Muskox], Coroutine[Any, Any, T]]) -> T:
    """Open the store, do the work, close it again; returns what the work returned."""

    async def all_of_it() -> T:
        async with ox:
            return await work(ox)

    return asyncio.run(all_of_it())


def shown(ox: Muskox) -> str:
    """The URL of the store with its password hidden."""
    return repr(ox).removeprefix("<Muskox ").removesuffix(">")


# --- finding a program ---------------------------------------------------------------


def load(program: str) -> Muskox:
    """Import the `Muskox` that `module:object` (also `module.object`) names.

    The current folder is looked in first. Raises `click.UsageError`, exit code 2, saying what is wrong.
    """
    name, found = look_up(program)
    if not isinstance(found, Muskox):
        _refuse(f"{program!r} is no Muskox but {type(found).__qualname__}", _offer(name))
    return found


def look_up(program: str) -> tuple[str, Any]:
    """Import what `module:object` names, whatever it is; returns the module's name and the object."""
    name, _, path = program.partition(":") if ":" in program else program.rpartition(".")
    if not name or not path or program.endswith(".py"):
        _refuse(f"{program!r} does not say which object to use", f"write module:object, such as {_like(program)}:ox")
    folder = str(Path.cwd())
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)
    found: Any = _import(name, program)
    for part in path.split("."):
        if not hasattr(found, part):
            _refuse(f"module {name!r} has no object {path!r}", _offer(name))
        found = getattr(found, part)
    return name, found


def _import(name: str, program: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            _show(error)
            _refuse(f"importing {name!r} failed, as it needs {error.name!r}, which is not installed", "install it")
        _refuse(
            f"there is no module {error.name!r} for {program!r}",
            f"run the command where it can be imported (this is {Path.cwd()}), or put its folder on PYTHONPATH",
        )
    except Exception as error:  # noqa: BLE001 - the user's module is foreign code and may raise anything
        _show(error)
        _refuse(f"importing {name!r} failed with {type(error).__qualname__}", "the traceback above says where")


def _show(error: BaseException) -> None:
    """Print the traceback of an import without our own part of it and the import system's."""
    trace = error.__traceback__
    while trace is not None and ("importlib" in trace.tb_frame.f_code.co_filename or trace.tb_frame.f_code is _CODE):
        trace = trace.tb_next
    click.echo("".join(traceback.format_exception(type(error), error, trace)), err=True, nl=False)


_CODE = _import.__code__


def _offer(name: str) -> str:
    """Which programs a module has, as advice."""
    there = [key for key, value in vars(sys.modules[name]).items() if isinstance(value, Muskox)]
    if there:
        return f"it has {', '.join(f'{name}:{key}' for key in there)}"
    return "give the name of a muskox.Muskox at module level"


def _like(program: str) -> str:
    """A guess at the module that somebody meant who wrote a file name or half of a name."""
    return program.removesuffix(".py").replace(os.sep, ".").strip(".:") or "jobs"


def _refuse(fact: str, remedy: str) -> NoReturn:
    raise click.UsageError(f"{fact}; {remedy}")
