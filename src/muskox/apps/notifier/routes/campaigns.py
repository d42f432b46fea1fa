"""Campaigns over HTTP: start one, watch it, try it on a few, pause, resume, cancel; and the page to compose one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from muskox.apps.mail import campaigns, subscriptions
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.campaigns import Campaign
from muskox.apps.notifier.pages import page
from muskox.apps.notifier.routes.by import Operator, Viewer
from muskox.apps.notifier.routes.cursors import cursor_at, read_cursor, read_moment
from muskox.apps.notifier.routes.given import Given, written
from muskox.apps.notifier.services import Services
from muskox.web.problems import Problem, described

__all__ = ["router"]

_PAGE = 50

router = APIRouter(prefix="/campaigns", tags=["campaigns"])


class CampaignRequest(BaseModel):
    """One mail to everybody on a list, now or at a moment."""

    model_config = ConfigDict(extra="forbid")

    list: str = Field(examples=["newsletter"], max_length=64)
    template: str = Field(default="newsletter", max_length=128)
    context: dict[str, Any] = Field(
        default_factory=dict, examples=[{"headline_text": "What is new", "paragraphs": ["Much."]}]
    )
    scheduled_for: AwareDatetime | None = None


class RehearsalRequest(BaseModel):
    """One to five addresses."""

    model_config = ConfigDict(extra="forbid")

    to: list[str] = Field(min_length=1, max_length=5)


@router.post("", status_code=201, summary="Start a campaign", responses=described(401, 403, 404, 422))
def start_campaign(request: CampaignRequest, services: Given, by: Operator) -> dict[str, Any]:
    """Store it and the job that plans it. What mailbox providers would not take is refused in production."""
    if not services.lists.exists(request.list):
        raise Problem(404, "list_unknown", "there is no such list")
    lacking = _lacking(services)
    if lacking and services.settings.production:
        raise Problem(422, "bulk_requirements", f"mailbox providers would not take this: {'; '.join(lacking)}")
    # The whole mail once, so that a mistake in it is found now and not a thousand times.
    services.mail.templates.render(
        request.template,
        {
            **services.mail.site,
            **request.context,
            "name": "Ada",
            "postal_address": "",
        },
    )
    with services.engine.begin() as connection:
        found, _ = services.campaigns.start(
            connection, request.list, request.template, request.context, at=request.scheduled_for
        )
    return {**_told(found), "warnings": lacking}


@router.get("", summary="Campaigns, latest first", responses=described(401, 403, 422))
def list_campaigns(services: Given, by: Viewer, cursor: str = "") -> dict[str, Any]:
    """Give fifty at a time."""
    after = None
    if cursor:
        moment, id = read_cursor(cursor, 2)
        after = (read_moment(moment), id)
    with services.engine.connect().execution_options(reading=True) as connection:
        found = campaigns.find_campaigns(connection, after=after, limit=_PAGE)
    last = cursor_at(found[-1].created_at.isoformat(), found[-1].id) if len(found) == _PAGE else None
    return {"data": [_told(one) for one in found], "next": last}


@router.get("/compose", summary="The page to compose a campaign on", response_class=HTMLResponse)
def show_compose(services: Given, by: Viewer) -> HTMLResponse:
    """Write, look at it as phone and desktop show it, try it, send it, watch it go."""
    with services.engine.connect().execution_options(reading=True) as connection:
        lists = subscriptions.find_lists(connection)
        latest = campaigns.find_campaigns(connection, limit=5)
    return page("compose.html", services, lists=lists, campaigns=latest, lacking=_lacking(services))


@router.get("/{id}", summary="A campaign, and how far it is", responses=described(401, 403, 404))
def show_campaign(id: str, services: Given, by: Viewer) -> dict[str, Any]:
    """Give its state and figures, which always add up to what was planned."""
    with services.engine.connect().execution_options(reading=True) as connection:
        found = campaigns.get_campaign(connection, id)
    if found is None:
        raise _unknown()
    return _told(found)


@router.post("/{id}/pause", summary="Pause a campaign", responses=described(401, 403, 404, 409))
def pause_campaign(id: str, services: Given, by: Operator) -> dict[str, Any]:
    """Let nothing more begin; loses nobody."""
    return _do(services, id, "pause")


@router.post("/{id}/resume", summary="Let a paused campaign go on", responses=described(401, 403, 404, 409))
def resume_campaign(id: str, services: Given, by: Operator) -> dict[str, Any]:
    """Go on with who has not been written to."""
    return _do(services, id, "resume")


@router.post("/{id}/cancel", summary="Withdraw the rest of a campaign", responses=described(401, 403, 404, 409))
def cancel_campaign(id: str, services: Given, by: Operator) -> dict[str, Any]:
    """Cancel all that no attempt was made for."""
    return _do(services, id, "cancel")


@router.post("/{id}/test", status_code=202, summary="Send it to a few", responses=described(401, 403, 404, 422))
def rehearse_campaign(id: str, request: RehearsalRequest, services: Given, by: Operator) -> dict[str, Any]:
    """Send the mail to up to five addresses, beside the campaign."""
    with services.engine.connect().execution_options(reading=True) as connection:
        found = campaigns.get_campaign(connection, id)
    if found is None:
        raise _unknown()
    return {"messages": services.campaigns.rehearse(found, [parse_address(one) for one in request.to])}


def _do(services: Services, id: str, verb: str) -> dict[str, Any]:
    verbs = {"pause": services.campaigns.pause, "resume": services.campaigns.resume}
    with services.engine.begin() as connection:
        if campaigns.get_campaign(connection, id) is None:
            raise _unknown()
        return _told(verbs.get(verb, services.campaigns.cancel)(connection, id))


def _unknown() -> Problem:
    return Problem(404, "campaign_unknown", "there is no such campaign")


def _lacking(services: Services) -> list[str]:
    """What large mailbox providers ask of bulk mail and is missing here."""
    settings = services.settings
    return [
        text
        for wanting, text in (
            (not settings.public_url.startswith("https://"), "links to unsubscribe need https: set PUBLIC_URL"),
            (not settings.postal_address, "a postal address in the footer: set POSTAL_ADDRESS"),
            (
                not (settings.signed or settings.dkim),
                "a DKIM signature: set DKIM_SELECTOR and DKIM_KEY_FILE, or SIGNING_RELAY=1 when your relay signs",
            ),
        )
        if wanting
    ]


def _told(found: Campaign) -> dict[str, Any]:
    return {
        "id": found.id,
        "list": found.list_id,
        "template": found.template,
        "subject": found.subject,
        "state": found.state,
        "reason": found.state_reason,
        "planned": found.planned,
        "counts": {str(state): n for state, n in found.counts.items()},
        "ambiguous": found.ambiguous,
        "unsubscribed": found.unsubscribed,
        "scheduled_for": written(found.scheduled_for),
        "created_at": written(found.created_at),
        "started_at": written(found.started_at),
        "ended_at": written(found.ended_at),
        "links": {"self": f"/campaigns/{found.id}", "messages": f"/messages?campaign={found.id}"},
    }
