"""The page at `/`, and the description of the HTTP interface for people."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from muskox.apps.notifier.pages import page
from muskox.apps.notifier.routes.given import Given

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def show_front(services: Given) -> HTMLResponse:
    """Register a user, ask for a reset, and watch the mail go."""
    return page("index.html", services)


@router.get("/docs", response_class=HTMLResponse)
def show_docs(request: Request, services: Given) -> HTMLResponse:
    """Describe the interface, from the same description that programs read at /openapi.json."""
    return page("docs.html", services, groups=_groups(request.app.openapi()))


def _groups(described: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Sort the operations by subject."""
    schemas = described.get("components", {}).get("schemas", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            schema = schemas.get(body.get("$ref", "").rpartition("/")[2], {})
            needed = schema.get("required", [])
            entry = {
                "method": method.upper(),
                "path": path,
                "summary": operation.get("summary", ""),
                "text": operation.get("description", ""),
                "fields": [f"{name}" if name in needed else f"{name}?" for name in schema.get("properties", {})],
                "query": [
                    parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"
                ],
                "answers": sorted(operation.get("responses", {})),
            }
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(entry)
    return groups
