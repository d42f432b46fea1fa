"""Who is not written to: the list for operators, adding and lifting, also many at once as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from muskox.apps.mail import suppressions
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.suppressions import ALL, Suppressed, Suppression
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.routes.by import Operator, Viewer
from muskox.apps.notifier.routes.cursors import cursor_at, read_cursor, read_moment
from muskox.apps.notifier.routes.given import Given, written
from muskox.apps.notifier.services import Services
from muskox.web.problems import Problem, described

__all__ = ["router"]

_PAGE = 100
_FIELDS = ("address", "scope", "reason", "created_at", "expires_at", "source", "note")

router = APIRouter(prefix="/suppressions", tags=["suppressions"])


class SuppressionRequest(BaseModel):
    """An address, and for which mail it is not written to."""

    model_config = ConfigDict(extra="forbid")

    address: str = Field(examples=["ada@example.org"], max_length=1_000)
    scope: str = Field(default=ALL, examples=[ALL, "stream:bulk", "list:newsletter"], max_length=100)
    reason: Suppressed = Suppressed.MANUAL
    expires_at: AwareDatetime | None = None
    note: str = Field(default="", max_length=1_000)


@router.get("", summary="Suppressed addresses, latest first", responses=described(401, 403, 422))
def list_suppressions(
    services: Given,
    by: Viewer,
    *,
    address: str = "",
    scope: str = "",
    reason: Suppressed | None = None,
    cursor: str = "",
) -> dict[str, Any]:
    """Give a hundred at a time; `next` is the cursor of the page after it."""
    found = _page(services, address, scope, reason, cursor)
    return {"data": [_told(one) for one in found], "next": _cursor(found[-1]) if len(found) == _PAGE else None}


@router.get("/export", summary="All suppressions as CSV", responses=described(401, 403))
def export_suppressions(services: Given, by: Viewer) -> StreamingResponse:
    """Stream them page by page, as `POST /suppressions/import` takes them."""
    return StreamingResponse(_lines(services), media_type="text/csv; charset=utf-8")


@router.post("", status_code=201, summary="Write to an address no more", responses=described(401, 403, 409, 422))
def add_suppression(request: SuppressionRequest, services: Given, by: Operator) -> dict[str, Any]:
    """Suppress an address for a scope and a reason; 409 when it is already."""
    address = parse_address(request.address)
    with services.engine.begin() as connection:
        new = suppressions.suppress(
            connection,
            address,
            request.reason,
            moment_now(services.ox.world),
            scope=request.scope,
            expires_at=request.expires_at,
            source=f"operator {by.name}",
            note=request.note,
        )
        found = suppressions.find(connection, address_key=address.key, scope=request.scope, reason=request.reason)
    if not new:
        raise Problem(409, "suppressed_already", "the address is suppressed so already")
    return _told(found[0])


@router.post("/import", summary="Add many, as CSV", responses=described(401, 403, 413, 422))
async def import_suppressions(request: Request, services: Given, by: Operator) -> dict[str, Any]:
    """Take lines with the columns address, scope and reason; lines that are wrong are told and left out."""
    text = (await request.body()).decode("utf-8", "replace")
    return await services.mail.in_thread(_import, services, text, f"import {by.name}")


@router.delete("", status_code=204, summary="Write to an address again", responses=described(401, 403, 404, 422))
def lift_suppression(
    services: Given,
    by: Operator,
    address: Annotated[str, Query(max_length=1_000)],
    scope: str = ALL,
    reason: Suppressed | None = None,
) -> Response:
    """Lift a suppression for one reason, or for all."""
    with services.engine.begin() as connection:
        if not suppressions.lift(connection, parse_address(address).key, suppressions.check_scope(scope), reason):
            raise Problem(404, "suppression_unknown", "the address is not suppressed so")
    return Response(status_code=204)


def _page(services: Services, address: str, scope: str, reason: Suppressed | None, cursor: str) -> list[Suppression]:
    after = None
    if cursor:
        moment, *rest = read_cursor(cursor, 4)
        after = (read_moment(moment), *rest)
    with services.engine.connect().execution_options(reading=True) as connection:
        return suppressions.find(
            connection,
            address_key=parse_address(address).key if address else "",
            scope=scope,
            reason=reason,
            after=after,  # type: ignore[arg-type]  # four parts, as read
            limit=_PAGE,
        )


def _cursor(one: Suppression) -> str:
    return cursor_at(one.created_at.isoformat(), one.address_key, one.scope, one.reason)


def _lines(services: Services) -> Iterator[str]:
    yield ",".join(_FIELDS) + "\r\n"
    cursor = ""
    while page := _page(services, "", "", None, cursor):
        text = io.StringIO()
        writer = csv.DictWriter(text, _FIELDS, extrasaction="ignore")
        writer.writerows(_told(one) for one in page)
        yield text.getvalue()
        cursor = _cursor(page[-1])


def _import(services: Services, text: str, source: str) -> dict[str, Any]:
    added, known, wrong = 0, 0, []
    now = moment_now(services.ox.world)
    with services.engine.begin() as connection:
        for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            try:
                new = suppressions.suppress(
                    connection,
                    parse_address((row.get("address") or "").strip()),
                    Suppressed((row.get("reason") or "manual").strip()),
                    now,
                    scope=(row.get("scope") or ALL).strip(),
                    source=source,
                )
            except (Refused, ValueError) as error:
                wrong.append({"line": number, "message": str(error)})
            else:
                added, known = added + new, known + (not new)
    return {"added": added, "known": known, "wrong": wrong[:100]}


def _told(one: Suppression) -> dict[str, Any]:
    return {
        "address": one.address,
        "scope": one.scope,
        "reason": one.reason,
        "created_at": written(one.created_at),
        "expires_at": written(one.expires_at),
        "source": one.source,
        "note": one.note,
    }
