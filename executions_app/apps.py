"""Registers the app."""

from django.apps import AppConfig


class ExecutionsConfig(AppConfig):
    """Executions."""

    name = "executions_app"
    verbose_name = "Executions"

    def ready(self) -> None:
        """Connect the receivers, and have leases looked after."""
        from executions_app import receivers  # noqa: F401
        from executions_app.services import leases
        from sandbox_platform import processes

        processes.now_and_then(leases.give_back)
