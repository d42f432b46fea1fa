"""The pages."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from shop.jobs import emails
from shop.tasks import count_users


@csrf_exempt
def register(request: HttpRequest) -> JsonResponse:
    """Store the user and both jobs, or nothing of it."""
    with transaction.atomic():
        user = User.objects.create_user(request.POST["name"])
        job = emails.sync.add("welcome", {"user": user.pk}, within=connection)
        counting = count_users.enqueue(active=True)
    return JsonResponse({"job": job.id, "task": counting.id}, status=202)


urlpatterns = [path("users/", register), path("admin/", admin.site.urls)]
