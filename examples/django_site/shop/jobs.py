"""The program that the settings name: what `manage.py muskox worker` runs."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User

from muskox import Muskox
from muskox.contrib.django import with_connections
from muskox.contrib.django.tasks import serve

# In the database of Django, so that one transaction holds its rows and our jobs.
ox = Muskox(f"sqlite:///{settings.DATABASES['default']['NAME']}")
emails = ox.queue("email")


@emails.processor(attempts=5)
@with_connections
def welcome(user: int) -> str:
    return f"Welcome, {User.objects.get(pk=user).username}!"


serve(ox)
