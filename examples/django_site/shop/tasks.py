"""Functions that Django's own `@task` declares; they are jobs like all others."""

from __future__ import annotations

from django.contrib.auth.models import User

try:
    from django.tasks import task  # Django 6
except ImportError:
    from django_tasks import task


@task(attempts=3, priority=10)
def count_users(*, active: bool) -> int:
    return User.objects.filter(is_active=active).count()
