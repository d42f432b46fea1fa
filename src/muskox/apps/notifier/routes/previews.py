"""Looking at mails before they are sent: templates with their samples, and a campaign while it is written.

For development; in production there are no such pages but the preview of a campaign.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse

from muskox.apps.mail.templates import Rendered
from muskox.apps.notifier.pages import page
from muskox.apps.notifier.policy import MAIL_POLICY
from muskox.apps.notifier.routes.by import Viewer
from muskox.apps.notifier.routes.given import Given
from muskox.apps.notifier.services import Services
from muskox.web.problems import Problem, described

__all__ = ["framed", "router"]

_HEAD = re.compile(r"(<head[^>]*>)", re.IGNORECASE)
_DARK = re.compile(r"\(\s*prefers-color-scheme\s*:\s*dark\s*\)", re.IGNORECASE)
_CLIPPED = 102 * 1024
"""Gmail shows no more bytes of a mail."""

router = APIRouter(tags=["previews"])


def framed(html: str, *, dark: bool = False) -> HTMLResponse:
    """Give the HTML of a mail under a policy that runs and loads nothing; its links open in new windows.

    `dark` shows it as a reader with a dark screen sees it.
    """
    if dark:
        html = _DARK.sub("(min-width: 0)", html)
    based = _HEAD.sub(r'\1<base target="_blank">', html, count=1) if _HEAD.search(html) else html
    return HTMLResponse(based, headers={"Content-Security-Policy": MAIL_POLICY})


def _in_development(services: Given) -> None:
    if services.settings.production:
        raise Problem(404, "not_found", "there are no pages for development in production")


@router.get(
    "/dev/templates",
    summary="The templates as a page",
    response_class=HTMLResponse,
    dependencies=[Depends(_in_development)],
)
def show_templates(services: Given, by: Viewer) -> HTMLResponse:
    """List the templates, each with its samples."""
    templates = services.mail.templates
    return page("templates.html", services, templates=[templates.get(name) for name in templates.names()])


@router.get(
    "/dev/templates/{name}",
    summary="One template with a sample, as a page",
    response_class=HTMLResponse,
    responses=described(404),
    dependencies=[Depends(_in_development)],
)
def show_template(name: str, services: Given, by: Viewer, case: str = "") -> HTMLResponse:
    """Show a template on desktop, phone and dark screen, as text, and what is wrong with it."""
    case, rendered = _sample(services, name, case)
    template = services.mail.templates.get(name)
    return page("template.html", services, template=template, case=case, rendered=rendered, remarks=_remarks(rendered))


@router.get(
    "/dev/templates/{name}/html",
    summary="The HTML of a template with a sample, without rights",
    response_class=HTMLResponse,
    responses=described(404),
    dependencies=[Depends(_in_development)],
)
def show_template_html(name: str, services: Given, by: Viewer, case: str = "", *, dark: bool = False) -> HTMLResponse:
    """Give the rendered HTML for a frame."""
    return framed(_sample(services, name, case)[1].html, dark=dark)


@router.post(
    "/campaigns/preview",
    summary="How a campaign would look",
    response_class=HTMLResponse,
    responses=described(401, 403, 422),
)
def preview_campaign(
    services: Given,
    by: Viewer,
    *,
    headline_text: Annotated[str, Form(max_length=500)] = "",
    text: Annotated[str, Form(max_length=200_000)] = "",
    dark: Annotated[bool, Form()] = False,
    plain: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """Render the newsletter with what is written so far, for a frame; stores nothing."""
    paragraphs = [one.strip() for one in text.replace("\r\n", "\n").split("\n\n") if one.strip()]
    context: dict[str, Any] = {
        **services.mail.site,
        "headline_text": headline_text or "Your headline",
        "paragraphs": paragraphs or ["Your first paragraph."],
        "name": "Ada",
        "unsubscribe_url": f"{services.settings.public_url}/",
        "postal_address": services.settings.postal_address,
    }
    rendered = services.mail.templates.render("newsletter", context)
    if plain:
        return page("plain.html", services, text=rendered.text, headers={"Content-Security-Policy": MAIL_POLICY})
    return framed(rendered.html, dark=dark)


def _sample(services: Services, name: str, case: str) -> tuple[str, Rendered]:
    template = services.mail.templates.get(name)
    case = case or next(iter(template.samples), "")
    if case not in template.samples:
        raise Problem(404, "sample_unknown", f"the template {name} has no such sample")
    return case, services.mail.templates.render(name, template.samples[case])


def _remarks(rendered: Rendered) -> list[str]:
    """What one would want to know before it is sent."""
    size = len(rendered.html.encode())
    found = [f"HTML {size / 1024:.1f} KB, text {len(rendered.text)} characters, subject {len(rendered.subject)}"]
    if size > _CLIPPED:
        found.append("Gmail shows no more than 102 KB of a mail and clips the rest")
    if len(rendered.subject) > 70:
        found.append("phones show about 40 characters of a subject, most programs 70")
    if re.search(r"<img(?![^>]*\balt=)", rendered.html, re.IGNORECASE):
        found.append("an image has no alt text")
    if re.search(r"<(script|form|iframe|object)\b", rendered.html, re.IGNORECASE):
        found.append("scripts, forms and frames do not work in mails")
    return found
