"""Reads the source tree and answers questions about it; judges nothing.

A tree that is empty, half written or made up in a test does as well as the real one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.architecture.plan import room_of

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One thing that a module imports: `target` is a module, `name` what is taken out of it."""

    target: str
    name: str | None
    node: ast.stmt

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


class Module:
    """One file of Python, parsed."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name = name
        self.path = path
        self.tree = tree
        self.room = room_of(name)
        self.nodes = list(ast.walk(tree))

    def at(self, node: ast.AST, fault: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {fault}"

    @property
    def functions(self) -> list[Function]:
        return [node for node in self.nodes if isinstance(node, Function)]

    @property
    def public_names(self) -> list[str]:
        """What stands in the module's `__all__`, if that is written out."""
        for node in self.tree.body:
            if "__all__" in defined(node) and isinstance(node, ast.Assign | ast.AnnAssign):
                texts = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else []
                return [text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)]
        return []

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What the imported names stand for: after `import datetime as dt`, dt → datetime."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found |= {alias.asname: alias.name for alias in node.names if alias.asname}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return found

    def full_name(self, node: ast.expr) -> str:
        """The name behind an expression such as `dt.datetime.now`; nothing behind any other kind."""
        match node:
            case ast.Name(id=name):
                return self.aliases.get(name, name)
            case ast.Attribute(value=value, attr=attr) if before := self.full_name(value):
                return f"{before}.{attr}"
            case _:
                return ""


class House:
    """The code below a folder that holds the package `muskox`."""

    def __init__(self, src: Path) -> None:
        self.files: dict[Path, str] = {}
        self.modules: dict[str, Module] = {}
        self.unreadable: list[str] = []
        for file in sorted(src.glob("muskox/**/*")):
            if file.suffix in {".py", ".sql", ".lua", ".js"}:
                self._read(file.relative_to(src), file.read_text("utf-8"))

    def _read(self, path: Path, text: str) -> None:
        self.files[path] = text
        if path.suffix != ".py":
            return
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        try:
            self.modules[name] = Module(name, path, ast.parse(text))
        except SyntaxError as error:
            self.unreadable.append(f"{path}:{error.lineno}: cannot be read: {error.msg}")

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())

    def imports(self, module: Module) -> Iterator[Import]:
        """All that a module imports, wherever it does so and if only for its types."""
        for node in module.nodes:
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, None, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield Import(whole, None, node) if whole in self.modules else Import(node.module, alias.name, node)


def defined(node: ast.AST) -> list[str]:
    """The names that a statement or a parameter brings in; names that it only uses do not count."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.arg(arg=name) | ast.alias(asname=str(name)):
            return [name]
        case ast.Assign(targets=targets):
            return [name for target in targets for name in _assigned(target)]
        case ast.AnnAssign(target=target) | ast.For(target=target) | ast.AsyncFor(target=target):
            return _assigned(target)
        case ast.comprehension(target=target) | ast.NamedExpr(target=target):
            return _assigned(target)
        case ast.withitem(optional_vars=ast.expr() as target):
            return _assigned(target)
        case _:
            return []


def _assigned(target: ast.expr) -> list[str]:
    """The names in a target, which may be a tuple of targets; for `self.x` that is x."""
    names = [node for node in ast.walk(target) if isinstance(node, ast.Name | ast.Attribute)]
    stored = [node for node in names if isinstance(node.ctx, ast.Store)]
    return [node.id if isinstance(node, ast.Name) else node.attr for node in stored]


def words_in(text: str) -> set[str]:
    """The words of identifiers, in small letters: `on_ackTimeout` → on, ack, timeout."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)}
