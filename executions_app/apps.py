"""Registers the app."""

from django.apps import AppConfig


class ExecutionsConfig(AppConfig):
    """Executions."""

    name = "executions_app"
    verbose_name = "Executions"

    def ready(self) -> None:
        """Connect the receivers."""
        from executions_app import receivers  # noqa: F401
