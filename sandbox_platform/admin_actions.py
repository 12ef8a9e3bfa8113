"""What operators may do to a row: each act asks first, runs by POST through the services of the API, and stands in the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from sandbox_platform.errors import ApiError

# Rows of one bulk action: a page of a list and some.
MOST = 200


@dataclass(frozen=True)
class Act:
    """One thing to do. `run` gets the request, the row and the form's values; False says that it was too late, a text is where to go next.

    `run` may raise ApiError, whose detail is shown. `done` is the past tense, for the summary and the history.
    """

    name: str
    label: str
    done: str
    explain: str
    run: Callable[[HttpRequest, Any, Mapping[str, Any]], bool | str]
    possible: Callable[[Any], bool] = lambda row: True
    danger: bool = True
    bulk: bool = True
    form: type[forms.Form] | None = None


class ActingAdmin:
    """For ModelAdmins: `acts` become buttons on the page of a row and, where `bulk`, actions of the list."""

    acts: tuple[Act, ...] = ()
    acts_permission = "change"

    def may_act(self, request: HttpRequest) -> bool:
        """By Django's permission, whatever the page of a row allows to edit."""
        opts = self.opts  # type: ignore[attr-defined]
        return request.user.has_perm(f"{opts.app_label}.{self.acts_permission}_{opts.model_name}")

    def get_urls(self) -> list[URLPattern]:
        """`<pk>/do/<act>/` beside Django's own."""
        opts, site = self.opts, self.admin_site  # type: ignore[attr-defined]
        name = f"{opts.app_label}_{opts.model_name}_do"
        own = path("<path:object_id>/do/<slug:act>/", site.admin_view(self.act_view), name=name)
        return [own, *super().get_urls()]  # type: ignore[misc]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """Of the acts that are possible now, for the page of the row."""
        if row is None or not self.may_act(request):
            return []
        possible = [act for act in self.acts if act.possible(row)]
        return [{"label": act.label, "url": self.act_url(row, act), "danger": act.danger} for act in possible]

    def act_url(self, row: Any, act: Act) -> str:
        """Of its confirmation page."""
        opts = self.opts  # type: ignore[attr-defined]
        return reverse(f"admin:{opts.app_label}_{opts.model_name}_do", args=[quote(row.pk), act.name])

    def page_of(self, row: Any) -> str:
        """Of the row."""
        opts = self.opts  # type: ignore[attr-defined]
        return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[quote(row.pk)])

    def act_view(self, request: HttpRequest, object_id: str, act: str) -> HttpResponse:
        """GET asks, POST does."""
        chosen = next((one for one in self.acts if one.name == act), None)
        row = self.get_object(request, unquote(object_id)) if chosen else None  # type: ignore[attr-defined]
        if chosen is None or row is None:
            raise Http404
        if not self.may_act(request):
            raise PermissionDenied
        form = chosen.form(request.POST or None) if chosen.form else None
        if request.method == "POST" and (form is None or form.is_valid()):
            goto = self._do(request, chosen, [row], form.cleaned_data if form else {})
            return HttpResponseRedirect(goto or self.page_of(row))
        return self._confirm(request, chosen, [row], form, self.page_of(row))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Django's, and the bulk acts."""
        actions = super().get_actions(request)  # type: ignore[misc]
        if not self.may_act(request):
            return actions
        bulk = {act.name: (_bulk(act), act.name, f"{act.label} the selected") for act in self.acts if act.bulk}
        return {**actions, **bulk}

    def _do(self, request: HttpRequest, act: Act, rows: list[Any], values: Mapping[str, Any]) -> str:
        done, late, refused, goto = 0, 0, [], ""
        for row in rows:
            try:
                result = act.possible(row) and act.run(request, row, values)
                if not result:
                    late += 1
                    continue
                goto = result if isinstance(result, str) else ""
            except ApiError as error:
                refused.append(error.detail)
                continue
            done += 1
            self.log_change(request, row, act.done)  # type: ignore[attr-defined]
        if done:
            messages.success(request, f"{act.done}: {done}." if len(rows) > 1 else f"{act.done}.")
        if late:
            words = (
                "It was too late: it is in another state by now." if len(rows) == 1 else f"Left as they were: {late}."
            )
            messages.warning(request, words)
        for detail in refused[:5]:
            messages.error(request, f"Refused: {detail}")
        return goto

    def _confirm(
        self, request: HttpRequest, act: Act, rows: list[Any], form: Any, back: str, bulk: bool = False
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request), "title": f"{act.label}?", "act": act, "rows": rows, "form": form,  # type: ignore[attr-defined]
            "opts": self.opts, "back": back, "bulk": bulk, "checkbox": ACTION_CHECKBOX_NAME,  # type: ignore[attr-defined]
            "possible": sum(act.possible(row) for row in rows),
        }  # fmt: skip
        return TemplateResponse(request, "admin/confirm_act.html", context)


def _bulk(act: Act) -> Callable[[Any, HttpRequest, QuerySet], HttpResponse | None]:
    def run(admin: ActingAdmin, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        rows = list(queryset[:MOST])
        confirmed = "confirmed" in request.POST
        form = act.form(request.POST if confirmed else None) if act.form else None
        if confirmed and (form is None or form.is_valid()):
            admin._do(request, act, rows, form.cleaned_data if form else {})
            return None
        return admin._confirm(request, act, rows, form, request.get_full_path(), bulk=True)

    return run
