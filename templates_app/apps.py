"""Registers the app."""

from django.apps import AppConfig


class TemplatesConfig(AppConfig):
    """Templates."""

    name = "templates_app"
    verbose_name = "Templates"
