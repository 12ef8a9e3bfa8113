"""Registers the app."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Sessions."""

    name = "sessions_app"
    verbose_name = "Sessions"
