"""Registers the app."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Sessions."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Connect the receivers."""
        from sessions_app import receivers  # noqa: F401
