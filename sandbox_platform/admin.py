"""Projects, API keys and the processes of this installation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import ConsoleAdmin, WatchedAdmin
from sandbox_platform.admin_show import badge, moment
from sandbox_platform.models import SCOPES, ApiKey, Process, Project


@admin.register(Project)
class ProjectAdmin(ConsoleAdmin):
    """Tenants."""

    list_display = ["name", "created_at"]
    search_fields = ["name"]
    empty_hint = "Add one, then give it an API key."


# Scopes that let a token do what needs a permission here: only who has it gives them.
NEEDED = {"templates:write": "templates_app.change_template"}


class ApiKeyForm(forms.ModelForm):
    """Scopes to tick rather than JSON to write. `user` is who fills it in."""

    user: Any = None
    scopes = forms.MultipleChoiceField(
        choices=[(name, f"{name}: {words}") for name, words in SCOPES.items()],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Without any it creates sessions and runs code in its own project.",
    )

    expires_at = forms.DateTimeField(
        required=False, help_text="UTC. Empty: it does not expire.",
        widget=forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"}),
    )  # fmt: skip

    class Meta:
        model = ApiKey
        fields = ("project", "name", "scopes", "owner", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields.get("scopes")
        if field:  # not where the page only shows
            field.choices = [(name, words) for name, words in field.choices if name in self._offered()]

    def _offered(self) -> list[str]:
        return [name for name in SCOPES if name not in NEEDED or self.user.has_perm(NEEDED[name])]

    def clean_scopes(self) -> list[str]:
        """And those that the key has already and this user may not give: a change of its name does not take them."""
        kept = [name for name in self.instance.scopes if name not in self._offered()]
        return [*self.cleaned_data["scopes"], *kept]

    def clean_expires_at(self) -> Any:
        """One that is over already would be a mistake."""
        moment = self.cleaned_data["expires_at"]
        if moment and "expires_at" in self.changed_data and moment <= timezone.now():
            raise forms.ValidationError("It lies in the past")
        return moment


def revoke(request: HttpRequest, key: ApiKey, values: Mapping[str, Any]) -> bool:
    """At once, for good."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))


@admin.register(ApiKey)
class ApiKeyAdmin(ConsoleAdmin):
    """Tokens: shown once, when they are made."""

    form = ApiKeyForm
    list_display = ["name", "state", "project", "prefix_shown", "scopes", "created", "expires", "used"]
    list_filter = ["project", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["project"]
    search_fields = ["name", "prefix", "project__name"]
    readonly_fields = ["prefix", "created_at", "revoked_at", "last_used_at"]
    empty_hint = "Add one: its token is what clients send as 'Authorization: Bearer …'."
    acts = (
        Act("revoke", "Revoke", "Revoked", "Requests with its token are refused from now on, for good.", revoke,
            possible=lambda key: key.revoked_at is None),
    )  # fmt: skip

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """For this user."""
        return type("ApiKeyForm", (super().get_form(request, obj, change, **kwargs),), {"user": request.user})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """A token that is out belongs to whom it was given for: another project gets another one."""
        return [*self.readonly_fields, *(["project", "owner"] if obj else [])]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """A new key gets its token here, and nowhere again."""
        if not change:
            request.token_once = obj.new_token()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The only page that ever shows the token. It goes through no cookie, no session, no log and no cache."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The token, this once",
            "key": obj,
            "opts": self.opts,
        }
        context["token"] = request.token_once  # type: ignore[attr-defined]
        headers = {"Cache-Control": "no-store"}
        return TemplateResponse(request, "admin/token_once.html", context, headers=headers)

    @admin.display(description="State")
    def state(self, key: ApiKey) -> SafeString:
        """Whether requests with it are let in."""
        if key.revoked_at:
            return badge("revoked", "bad")
        return (
            badge("expired", "warn") if key.expires_at and key.expires_at <= timezone.now() else badge("in use", "good")
        )

    @admin.display(description="Token")
    def prefix_shown(self, key: ApiKey) -> str:
        """What may be known of it."""
        return f"sbx_{key.prefix}_…"

    @admin.display(description="Created")
    def created(self, key: ApiKey) -> SafeString | str:
        """How long ago."""
        return moment(key.created_at)

    @admin.display(description="Expires")
    def expires(self, key: ApiKey) -> SafeString | str:
        """When."""
        return moment(key.expires_at) if key.expires_at else "never"

    @admin.display(description="Last used")
    def used(self, key: ApiKey) -> SafeString | str:
        """To the minute."""
        return moment(key.last_used_at) if key.last_used_at else "never"


@admin.register(Process)
class ProcessAdmin(WatchedAdmin):
    """Web and worker processes, by their heartbeats."""

    list_display = ["kind", "host", "pid", "state", "beats", "started"]
    list_filter = [("dead_at", admin.EmptyFieldListFilter), "kind"]
    keyset_column = "started_at"
    empty_hint = "They appear here once the service runs: manage.py up."

    @admin.display(description="State")
    def state(self, process: Process) -> SafeString:
        """By its heartbeat."""
        return badge("dead", "calm") if process.dead_at else badge("alive", "good")

    @admin.display(description="Started")
    def started(self, process: Process) -> SafeString | str:
        """How long ago."""
        return moment(process.started_at)
