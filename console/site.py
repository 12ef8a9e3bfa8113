"""The admin site: a dashboard as its first page, and the apps in the order in which operators need them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse

from console import dashboard, trial

ORDER = ("sessions_app", "executions_app", "runtime", "templates_app", "sandbox_platform", "django_q", "auth", "admin")


class ConsoleSite(admin.AdminSite):
    """Django's own in everything else."""

    site_header = site_title = "Sandbox Control Plane"
    index_title = "Dashboard"
    site_url = "/api/docs"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Sessions first, users last."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: ORDER.index(app["app_label"]) if app["app_label"] in ORDER else len(ORDER))

    def get_urls(self) -> list[Any]:
        """And trials of templates."""
        return [*trial.urls(self), *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """What goes on now and over the day."""
        context = {
            **self.each_context(request), "title": self.index_title, "subtitle": None,
            **dashboard.context(request), **(extra_context or {}),
        }  # fmt: skip
        request.current_app = self.name  # type: ignore[attr-defined]
        return TemplateResponse(request, "admin/index.html", context)
