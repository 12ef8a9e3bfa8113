"""Registers the app."""

from django.apps import AppConfig


class ExecutionsConfig(AppConfig):
    """Executions."""

    name = "executions_app"
    verbose_name = "Executions"
