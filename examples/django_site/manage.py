"""A Django project with jobs: user row and job in one transaction, Django's tasks, the dashboard for its staff.

    pip install 'muskox[web]' django django-tasks
    python manage.py migrate
    python manage.py createsuperuser
    uvicorn shop.asgi:application
    python manage.py muskox worker

`curl -d name=ada http://127.0.0.1:8000/users/` adds a user and two jobs; http://127.0.0.1:8000/jobs/ is the dashboard,
for whoever has signed in at /admin/ and is staff.
"""

from __future__ import annotations

import os

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line()
