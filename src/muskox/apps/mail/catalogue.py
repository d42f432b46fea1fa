"""The mails that ship with Muskox: their subjects, and samples of what they are given.

The words are in `templates/`; a program may put its own folder before it.
"""

from __future__ import annotations

from pathlib import Path

from muskox.apps.mail.templates import MailTemplate, Templates

__all__ = ["FOLDER", "SHIPPED", "shipped_templates"]

FOLDER = Path(__file__).parent / "templates"

_SITE = {"product": "Muskox", "home_url": "https://app.example.org/"}
_LONG = "Maximiliane Sophie Friederike von und zu Hohenstein-Wolkenkuckucksheim"

SHIPPED = (
    MailTemplate(
        "welcome",
        subject="Welcome to {{ product }}, {{ name }}",
        samples={
            "plain": {**_SITE, "name": "Ada", "email": "ada@example.org"},
            "a long name": {**_SITE, "name": _LONG, "email": "maximiliane@example.org"},
            "a name with markup": {**_SITE, "name": '<b>Ada</b> & "Co"', "email": "ada@example.org"},
        },
    ),
    MailTemplate(
        "password-reset",
        subject="Choose a new password for {{ product }}",
        samples={"plain": {**_SITE, "name": "Ada", "link": "https://app.example.org/auth/reset?token=sample"}},
    ),
    MailTemplate(
        "password-changed",
        subject="Your {{ product }} password was changed",
        samples={"plain": {**_SITE, "name": "Ada", "changed_at": "24 November 2026, 12:00 UTC"}},
    ),
    MailTemplate(
        "confirm-subscription",
        subject="Confirm: {{ list_name }}",
        samples={
            "plain": {**_SITE, "list_name": "News", "link": "https://app.example.org/lists/confirm?token=sample"},
        },
    ),
    MailTemplate(
        "newsletter",
        subject="{{ headline_text }}",
        samples={
            "plain": {
                **_SITE,
                "name": "Ada",
                "headline_text": "What is new in November",
                "paragraphs": ["Schedules are here.", "More next week."],
                "unsubscribe_url": "https://app.example.org/u/sample",
                "postal_address": "Muskox, 1 Tundra Road, 9999 Northpole",
            },
            "without a name": {
                **_SITE,
                "name": "",
                "headline_text": "What is new in November",
                "paragraphs": ["Schedules are here."],
            },
        },
    ),
)


def shipped_templates(*folders: Path, more: tuple[MailTemplate, ...] = ()) -> Templates:
    """Give the shipped templates, with the files in `folders` before ours and `more` mails beside ours."""
    return Templates([*folders, FOLDER], [*SHIPPED, *more])
