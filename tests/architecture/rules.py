"""The rules of the house: each goes from the source tree to the lines that break it.

A rule's message says what is wrong and what to do instead; `plan.py` holds what may be edited.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Callable, Iterator

from tests.architecture.house import House, Module, defined, words_in
from tests.architecture.plan import (
    CORE_MAY,
    CORE_MAY_NOT,
    FOREIGN_WORDS,
    LATE_IMPORTS,
    MAX_FILE,
    MAX_FUNCTION,
    MAY_IMPORT,
    OWNERS,
    TOP_FLOOR,
    WORDS_OF_HOSTS,
    WORLD_METHODS,
    WORLD_MODULES,
    WORLD_NAMES,
    WORLDS,
    room_of,
)

Rule = Callable[[House], Iterator[str]]
RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    """Count a function among the rules."""
    RULES.append(check)
    return check


@rule
def every_file_can_be_read(house: House) -> Iterator[str]:
    yield from house.unreadable


@rule
def imports_point_down(house: House) -> Iterator[str]:
    for module in house:
        allowed = MAY_IMPORT[module.room]
        for found in house.imports(module):
            if found.package == "muskox" and room_of(found.target) not in allowed:
                fault = f"{module.room} may not import {found.target}; it may use {', '.join(sorted(allowed))}"
                yield module.at(found.node, fault)


@rule
def imports_are_absolute_and_named(house: House) -> Iterator[str]:
    for module in house:
        for node in module.nodes:
            if isinstance(node, ast.ImportFrom) and node.level:
                yield module.at(node, "relative import; write the whole name")
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                yield module.at(node, "star import; name what you need")


@rule
def imports_make_no_cycle(house: House) -> Iterator[str]:
    graph = {
        module.name: {found.target for found in house.imports(module)} & house.modules.keys() - {module.name}
        for module in house
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield "import cycle: " + " ← ".join(error.args[1])


@rule
def imports_stand_on_top(house: House) -> Iterator[str]:
    for module in house:
        if module.name in LATE_IMPORTS or module.room == "cli":
            continue
        inside = {node for function in module.functions for node in ast.walk(function)}
        for node in inside:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield module.at(node, "import inside a function; move it up (LATE_IMPORTS names who may)")
        for node in module.nodes:
            if isinstance(node, ast.Call) and module.full_name(node.func) in {"importlib.import_module", "__import__"}:
                yield module.at(node, "import by a name known only at run time (LATE_IMPORTS names who may)")


@rule
def the_top_floor_uses_public_names(house: House) -> Iterator[str]:
    public = house.modules["muskox"].public_names if "muskox" in house.modules else []
    for module in house if public else ():
        if not module.room.startswith(TOP_FLOOR):
            continue
        for node, name in _names_taken(house, module):
            if name not in public and not name.startswith("__") and f"muskox.{name}" not in house.modules:
                yield module.at(node, f"muskox.{name} is not public; use what muskox.__all__ lists, or list it")


def _names_taken(house: House, module: Module) -> Iterator[tuple[ast.AST, str]]:
    for found in house.imports(module):
        if found.target == "muskox" and found.name:
            yield found.node, found.name
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "muskox":
            yield node, node.attr


@rule
def public_names_are_listed(house: House) -> Iterator[str]:
    if "muskox" not in house.modules:
        return
    root = house.modules["muskox"]
    names = [(node, name) for node in root.tree.body for name in defined(node)]
    names += [
        (node, alias.asname or alias.name)
        for node in root.nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muskox.")
        for alias in node.names
    ]
    for node, name in names:
        if not name.startswith("_") and name not in root.public_names:
            yield root.at(node, f"{name} is not in __all__; list it, or begin it with an underscore")


@rule
def foreign_packages_have_an_owner(house: House) -> Iterator[str]:
    for module in house:
        for found in house.imports(module):
            owners = OWNERS.get(found.package)
            if owners is not None and not any(f"{module.room}.".startswith(f"{owner}.") for owner in owners):
                belongs = ", ".join(owners) or "nobody"
                yield module.at(found.node, f"{module.room} may not import {found.package}: it belongs to {belongs}")


@rule
def the_core_only_calculates(house: House) -> Iterator[str]:
    allowed = sys.stdlib_module_names - CORE_MAY_NOT | CORE_MAY | {"muskox"}
    for module in house:
        for found in house.imports(module):
            if module.room == "core" and found.package not in allowed:
                yield module.at(found.node, f"core may not import {found.target}; take what it would give as a value")


@rule
def only_a_world_asks_the_machine(house: House) -> Iterator[str]:
    remedy = "take a World (muskox/core/seam.py) and ask that"
    for module in house:
        if module.name in WORLDS:
            continue
        for found in house.imports(module):
            if found.package in WORLD_MODULES or f"{found.target}.{found.name}" in WORLD_NAMES:
                yield module.at(found.node, f"imports {found.target}; {remedy}")
        for node in module.nodes:
            if isinstance(node, ast.Attribute) and (
                node.attr in WORLD_METHODS or module.full_name(node) in WORLD_NAMES
            ):
                yield module.at(node, f"uses {ast.unparse(node)}; {remedy}")


@rule
def every_module_says_what_it_is_for(house: House) -> Iterator[str]:
    for module in house:
        body = module.tree.body
        if not ast.get_docstring(module.tree):
            yield module.at(module.tree, "no docstring; say what the module is for, and one thing it does not do")
        elif len(body) > 1 and ast.unparse(body[1]) != "from __future__ import annotations":
            yield module.at(body[1], "`from __future__ import annotations` comes first")


@rule
def files_are_read_in_one_sitting(house: House) -> Iterator[str]:
    for path, text in house.files.items():
        lines = len(text.splitlines())
        if lines > MAX_FILE:
            yield f"{path}: {lines} lines, at most {MAX_FILE}; split it by reason to change"


@rule
def functions_have_one_duty(house: House) -> Iterator[str]:
    for module in house:
        for function in module.functions:
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MAX_FUNCTION:
                fault = f"{function.name} has {lines} lines, at most {MAX_FUNCTION}; look for its second duty"
                yield module.at(function, fault)


@rule
def words_come_from_the_glossary(house: House) -> Iterator[str]:
    for module in house:
        if module.name in WORDS_OF_HOSTS:
            continue
        for node in module.nodes:
            for name in defined(node):
                yield from (module.at(node, fault) for fault in _foreign(name))
    for path, text in house.files.items():
        if path.suffix in {".sql", ".lua"}:
            yield from (f"{path}: {fault}" for fault in _foreign(re.sub(r"--.*", "", text)))


def _foreign(text: str) -> Iterator[str]:
    for word, ours in FOREIGN_WORDS.items():
        if words_in(text) & {word, f"{word}s"}:
            yield f"{word!r} is not our word; say {ours}"
