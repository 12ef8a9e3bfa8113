"""Registers the app, and its site as the admin of this installation."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin


class ConsoleConfig(AppConfig):
    """Dashboard, trials, roles."""

    name = "console"
    verbose_name = "Console"


class ConsoleAdminConfig(admin.AdminConfig):
    """`admin.site` is ours."""

    default = False
    default_site = "console.site.ConsoleSite"
