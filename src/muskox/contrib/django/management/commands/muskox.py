"""`manage.py muskox …`: the command line, on the program that the settings name."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management.base import BaseCommand

from muskox.contrib import _command

__all__ = ["Command"]


class Command(BaseCommand):  # type: ignore[misc]
    """Hands what follows on to `muskox`, whose options are its own."""

    help = "Run workers, look at jobs and manage them: all that `muskox` does."

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Run `muskox` with the words behind the name of this command."""
        _command.run("muskox.contrib.django.setup:ox", argv[2:])
