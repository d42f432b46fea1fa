"""What Django needs to know of us to have us among its applications."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["MuskoxConfig"]


class MuskoxConfig(AppConfig):  # type: ignore[misc]
    """No models and no tables: jobs are in the store of the program that the settings name."""

    name = "muskox.contrib.django"
    label = "muskox"
    verbose_name = "Muskox"
