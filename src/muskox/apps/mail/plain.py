"""Makes a text part out of HTML, for templates that have no text of their own.

It knows the HTML of mails: headings, paragraphs, lists, links. It is no renderer.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["text_from_html"]

_BLOCKS = frozenset({"p", "div", "table", "tr", "ul", "ol", "h1", "h2", "h3", "h4", "blockquote", "section", "hr"})
_SILENT = frozenset({"head", "style", "script", "title", "template"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "base", "col", "wbr", "source"})


def text_from_html(html: str) -> str:
    """Turn HTML into readable lines; links become `text (url)`, list items begin with a dash."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._silent: list[str] = []
        self._links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._silent or tag in _SILENT or "display:none" in (dict(attrs).get("style") or "").replace(" ", ""):
            self._silent += [tag] if tag not in _VOID else []
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "li":
            self._parts.append("\n- ")
        elif tag in _BLOCKS:
            self._parts.append("\n\n")
        elif tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self._parts)))

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            if tag in self._silent:
                while self._silent.pop() != tag:
                    pass
        elif tag in _BLOCKS:
            self._parts.append("\n\n")
        elif tag == "a" and self._links:
            self._end_link(*self._links.pop())

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append(re.sub(r"\s+", " ", data))

    def _end_link(self, url: str, start: int) -> None:
        said = "".join(self._parts[start:]).strip()
        if url and said != url:
            self._parts.append(f" ({url})")

    def text(self) -> str:
        joined = re.sub(r"[ \t]*\n[ \t]*", "\n", "".join(self._parts))
        joined = re.sub(r" {2,}", " ", joined)
        return re.sub(r"\n{3,}", "\n\n", joined).strip() + "\n"
