"""The project's `Muskox` with Django set up before it is imported: `muskox worker muskox.contrib.django.setup:ox`.

Worker processes that start further processes name it, since each of them begins anew.
"""

from __future__ import annotations

import django

from muskox.contrib.django import program

__all__ = ["ox"]

django.setup()
ox = program()
