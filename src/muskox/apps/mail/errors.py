"""What goes wrong with mail, as exceptions: refused input, and attempts that end early.

MailError
├── Refused                 the caller's input cannot become a mail (also a ValueError)
│   ├── AddressRefused      not one valid address
│   ├── HeaderRefused       a control character or a line break where a header would carry it
│   ├── TemplateUnknown     no template of that name
│   └── RenderError         a template cannot be rendered with the context that was given
├── IllegalMove             a message may not go from that state to this one
└── Overtaken               another run has moved the message on; this one may do nothing more
"""

from __future__ import annotations

__all__ = [
    "AddressRefused",
    "HeaderRefused",
    "IllegalMove",
    "MailError",
    "Overtaken",
    "Refused",
    "RenderError",
    "TemplateUnknown",
]


class MailError(Exception):
    """Catch this to catch everything that the mail application raises on purpose."""


class Refused(MailError, ValueError):
    """What was given cannot become a mail; nothing was stored."""


class AddressRefused(Refused):
    """The text is not one valid address."""


class HeaderRefused(Refused):
    """A value with a control character or a line break, or a header that callers may not set."""


class TemplateUnknown(Refused):
    """There is no template of that name."""


class RenderError(Refused):
    """The template cannot be rendered: a variable is missing, or a link has a forbidden scheme."""


class IllegalMove(MailError):
    """The table in `states.py` does not allow this move; nothing was changed."""


class Overtaken(MailError):
    """The message was changed by somebody else since it was read; this run must not go on with it."""
