"""How the notifier's own errors are told over HTTP; all others are told as the dashboard tells them."""

from __future__ import annotations

from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from muskox import StoreUnavailable
from muskox.apps.mail.campaigns import CampaignMoved
from muskox.apps.mail.errors import AddressRefused, Refused, TemplateUnknown
from muskox.apps.notifier.users import Invalid
from muskox.web import problems
from muskox.web.problems import Explain, Problem

__all__ = ["install"]


def install(app: FastAPI) -> None:
    """Let an application answer all its errors as problems."""
    problems.install(app, _EXPLAINED)


def _invalid(error: Invalid) -> Problem:
    found = {"pointer": f"/{error.field}", "code": error.code, "message": str(error)}
    return Problem(422, error.code, str(error), [found])


def _refused(error: Refused) -> Problem:
    field, code = ("email", "invalid_address") if isinstance(error, AddressRefused) else ("name", "invalid_text")
    return Problem(422, code, str(error), [{"pointer": f"/{field}", "code": code, "message": str(error)}])


def _database_away(error: OperationalError) -> Problem:
    return problems.store_away(StoreUnavailable(str(error)))


_EXPLAINED: dict[type[Exception], Explain] = {
    Invalid: _invalid,
    TemplateUnknown: lambda error: Problem(404, "template_unknown", str(error)),
    CampaignMoved: lambda error: Problem(409, "wrong_state", str(error)),
    Refused: _refused,
    OperationalError: _database_away,
}
