"""`muskox completion`: the lines that teach a shell our commands, options and choices."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the lines that let SHELL complete commands, options and choices.

    For bash, put eval "$(muskox completion bash)" into ~/.bashrc; for zsh the same into ~/.zshrc; for fish, write them
    to ~/.config/fish/completions/muskox.fish.
    """
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None, "the choices are those that there are"
    click.echo(kind(root.command, {}, "muskox", "_MUSKOX_COMPLETE").source())
