"""Registering users."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from muskox.apps.notifier.routes.given import Given
from muskox.apps.notifier.users import EmailTaken, new_user
from muskox.web.problems import Problem, described

__all__ = ["router"]

router = APIRouter(tags=["users"])


class UserRequest(BaseModel):
    """A request for an account."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: str = Field(examples=["ada@example.org"], max_length=1_000)
    name: str = Field(examples=["Ada"], max_length=1_000)
    password: str = Field(examples=["correct horse battery"], max_length=1_000)
    locale: str = "en"
    tz: str = "UTC"


class UserAnswer(BaseModel):
    """The account, and the message that tells of it."""

    id: str
    email: str
    welcome_message_id: str


@router.post(
    "/users", status_code=201, summary="Register a user and send the welcome mail", responses=described(409, 422)
)
async def create_user(request: UserRequest, services: Given) -> UserAnswer:
    """Store the user, the message and its job in one transaction, and answer before anything is sent."""
    user = new_user(**request.model_dump())
    try:
        registered = await services.with_passwords(services.register, user)
    except EmailTaken:
        found = {"pointer": "/email", "code": "email_taken", "message": "there is an account with this address"}
        raise Problem(409, "email_taken", "there is an account with this address already", [found]) from None
    return UserAnswer(id=registered.id, email=registered.email, welcome_message_id=registered.welcome_message_id)
