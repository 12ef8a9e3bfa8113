"""Registers the app."""

from django.apps import AppConfig


class RuntimeConfig(AppConfig):
    """Runtime."""

    name = "runtime"
    verbose_name = "Runtime"
