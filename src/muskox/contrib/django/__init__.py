"""Muskox in a Django project: an entry in `INSTALLED_APPS`, and `MUSKOX_PROGRAM` among the settings.

It gives `manage.py muskox`, processors that leave no stale connection behind, and who a browser's session belongs
to. The backend for Django's tasks is in `tasks.py`. It makes no `Muskox`: that is a module of the project's own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections
from django.utils.module_loading import import_string

from muskox import Muskox

__all__ = ["program", "user_of", "with_connections"]

P = ParamSpec("P")
T = TypeVar("T")


def program(named: str | None = None) -> Muskox:
    """The project's `Muskox`: the one that is named, as module:object, or that `MUSKOX_PROGRAM` names."""
    name = named or getattr(settings, "MUSKOX_PROGRAM", None)
    module, _, attribute = (name or "").partition(":")
    if not module or not attribute:
        raise ImproperlyConfigured(
            f"MUSKOX_PROGRAM must name your Muskox as module:object, such as shop.jobs:ox, not {name!r}"
        )
    found = import_string(f"{module}.{attribute}")
    if not isinstance(found, Muskox):
        raise ImproperlyConfigured(f"MUSKOX_PROGRAM names {name}, which is no Muskox")
    return found


def with_connections(function: Callable[P, T]) -> Callable[P, T]:
    """Have a processor begin with connections that work, as a request does, and leave none behind that does not.

    Below the decorator of the processor: `@emails.processor()` `@with_connections` `def welcome(…)`.
    """
    if inspect.iscoroutinefunction(function):
        raise ImproperlyConfigured(
            f"{function.__name__} is async, and Django's connections belong to threads; make it a plain function"
        )

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return called


def user_of(cookies: Any) -> Any:
    """Whose session the cookies of a request carry; None for nobody. It asks the database, so not in an event loop."""
    key = cookies.get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None

    class Request:
        session = import_string(f"{settings.SESSION_ENGINE}.SessionStore")(key)

    user = get_user(Request)
    return user if user.is_authenticated and user.is_active else None
