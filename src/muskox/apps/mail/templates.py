"""Turns a template and its context into subject, text and HTML.

Templates are files of ours; what users typed is only ever a value in them. HTML
is escaped, text is not, a missing variable is an error and not an empty string.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateNotFound, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from muskox.apps.mail.errors import RenderError, TemplateUnknown
from muskox.apps.mail.plain import text_from_html

__all__ = ["MailTemplate", "Rendered", "Templates"]

LARGEST = 2_000_000
"""No rendered part may have more characters than this."""

_SCHEMES = frozenset({"http", "https", "mailto"})


@dataclass(frozen=True, slots=True)
class MailTemplate:
    """A mail that can be sent: files `<name>.html` and, when there is one, `<name>.txt`.

    `samples` are contexts to look at and to test it with, by what they show.
    """

    name: str
    subject: str
    samples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template said for one context."""

    subject: str
    text: str
    html: str


class Templates:
    """The templates of an application, from folders; the first folder that has a file wins."""

    def __init__(self, folders: Sequence[Path], templates: Sequence[MailTemplate]) -> None:
        self._known = {template.name: template for template in templates}
        self._environment = SandboxedEnvironment(
            loader=FileSystemLoader([str(folder) for folder in folders]),
            autoescape=_is_html,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters["link"] = _checked_link
        self._subjects: dict[str, Template] = {}

    def names(self) -> list[str]:
        return sorted(self._known)

    def get(self, name: str) -> MailTemplate:
        """Give a template; raises `TemplateUnknown`."""
        try:
            return self._known[name]
        except KeyError:
            raise TemplateUnknown(f"there is no mail template {name!r}; there are {', '.join(self.names())}") from None

    def subject(self, name: str, context: Mapping[str, Any]) -> str:
        """Render the subject alone, on one line."""
        known = self.get(name)
        if name not in self._subjects:
            self._subjects[name] = self._environment.from_string(known.subject)
        return _render(self._subjects[name], f"the subject of {name}", context)

    def render(self, name: str, context: Mapping[str, Any]) -> Rendered:
        """Render all parts; raises `RenderError`, naming the variable that is missing."""
        subject = self.subject(name, context)
        html = _render(self._file(f"{name}.html"), f"{name}.html", context)
        try:
            plain = self._file(f"{name}.txt")
        except TemplateNotFound:
            return Rendered(subject, text_from_html(html), html)
        return Rendered(subject, _render(plain, f"{name}.txt", context), html)

    def fingerprint(self, name: str) -> str:
        """Give a hash of the files behind a template, to know later which version a mail was made from."""
        digest = hashlib.sha256(self.get(name).subject.encode())
        loader = self._environment.loader
        assert loader is not None
        for file in (f"{name}.html", f"{name}.txt"):
            try:
                digest.update(loader.get_source(self._environment, file)[0].encode())
            except TemplateNotFound:
                continue
        return digest.hexdigest()

    def _file(self, name: str) -> Template:
        return self._environment.get_template(name)


def _is_html(name: str | None) -> bool:
    return name is not None and name.endswith(".html")


def _render(template: Template, what: str, context: Mapping[str, Any]) -> str:
    size, parts = 0, []
    try:
        for part in template.generate(context):
            size += len(part)
            if size > LARGEST:
                raise RenderError(f"{what} became longer than {LARGEST} characters")
            parts.append(part)
    except UndefinedError as error:
        raise RenderError(f"{what}: {error.message}") from None
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        if isinstance(error, RenderError):
            raise
        raise RenderError(f"{what}: {type(error).__name__}: {error}") from None
    return "".join(parts)


def _checked_link(url: object) -> str:
    """Let only web and mail links into a mail."""
    text = str(url)
    if urlsplit(text).scheme.lower() not in _SCHEMES or not text.isprintable():
        raise RenderError(f"a link must begin with http, https or mailto, not {text[:40]!r}")
    return text
