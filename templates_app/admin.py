"""Templates: curation by operators. A change is a draft until it is built, tried and published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from sandbox_platform import processes
from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import Card, ConsoleAdmin, link
from sandbox_platform.admin_show import badge, grid, inert, moment
from templates_app import admin_versions, building, curation, exchange, versions
from templates_app.admin_forms import BASICS, IMAGE, LIMITS, ImportForm, TemplateForm
from templates_app.models import Template, TemplateVersion, VersionStatus

__all__ = ["TemplateAdmin", "admin_versions"]

NO_PROXY = (
    "The egress proxy does not run here: sessions of this template are refused until it does, unless they ask for no network. "
    "`manage.py doctor` says how to mend it."
)


def build(request: HttpRequest, template: Template, values: Mapping[str, Any]) -> bool | str:
    """The newest version; then to the log."""
    newest = versions.latest(template) or versions.record(template, request.user)
    ordered = building.order(newest, request.user)
    return (
        reverse("admin:templates_app_templatebuild_change", args=[ordered[0].pk])
        if len(ordered) == 1
        else bool(ordered)
    )


def deprecate(request: HttpRequest, template: Template, values: Mapping[str, Any]) -> bool:
    """From now on."""
    return bool(Template.objects.filter(pk=template.pk, deprecated_at=None).update(deprecated_at=timezone.now()))


def restore(request: HttpRequest, template: Template, values: Mapping[str, Any]) -> bool:
    """Back in use."""
    return bool(Template.objects.filter(pk=template.pk).exclude(deprecated_at=None).update(deprecated_at=None))


@admin.register(Template)
class TemplateAdmin(ConsoleAdmin):
    """Saving makes a draft version; the template's sessions notice nothing until it is published."""

    form = TemplateForm
    change_form_template = "admin/templates_app/template_form.html"
    change_list_template = "admin/templates_app/template_list.html"
    list_display = ["id", "name", "state", "languages_shown", "cpu", "memory", "disk", "prepared"]
    search_fields = ["id", "name"]
    empty_hint = "Add one, import a YAML file, or run manage.py load_templates for the seeded ones."
    acts = (
        Act("build", "Build", "Build ordered",
            "The newest version is built in the background for every kind of runtime here, and tried in a sandbox. "
            "Sessions go on with the published version.", build, danger=False),
        Act("deprecate", "Deprecate", "Deprecated", "It takes no new sessions. Those that run go on.", deprecate,
            possible=lambda template: template.deprecated_at is None and not template.draft),
        Act("restore", "Take back into use", "Taken back into use", "It takes new sessions again.", restore,
            possible=lambda template: template.deprecated_at is not None, danger=False),
    )  # fmt: skip
    actions = ["export_selected"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Drafts too."""
        published = TemplateVersion.objects.filter(status=VersionStatus.PUBLISHED).only("template_id", "number")
        return Template.objects.kept().prefetch_related("images", Prefetch("versions", published, to_attr="in_use"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """What goes into the image, what a sandbox may use, and whatever else a template says."""
        placed = {*BASICS, *IMAGE, *LIMITS, "note", "shown"}
        rest = [name for name in TemplateForm.base_fields if name not in placed]
        basics = [name for name in BASICS if not (obj and name == "id")]
        return [
            (None, {"fields": basics}), ("What is in its image", {"fields": IMAGE}),
            ("Limits that a session gets by default", {"fields": [LIMITS]}), ("Isolation, pool and more", {"fields": rest}),
            ("This version", {"fields": ["note", "shown"] if self.has_change_permission(request, obj) else ["note"]}),
        ]  # fmt: skip

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """`note` and `shown` are of the form alone."""
        fields = [
            name for name in TemplateForm.base_fields if name not in ("note", "shown") and not (obj and name == "id")
        ]
        return super().get_form(request, obj, change, **{**kwargs, "fields": fields})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Template | None:
        """The form edits the newest version, which may be a draft."""
        row = super().get_object(request, object_id, from_field)
        newest = versions.latest(row) if row else None
        if row and newest:
            for name, value in versions.said_by(newest).items():
                setattr(row, name, value)
        if row:
            row.shown = versions.mark(newest)
        return row

    def save_model(self, request: HttpRequest, obj: Template, form: Any, change: bool) -> None:
        """As a draft. The row itself waits for its publication, but for one that never had any."""
        if not change:
            obj.draft = True
            obj.save(force_insert=True)
        version = versions.save_draft(obj, versions.spec_of(obj), request.user, form.cleaned_data.get("note", ""))
        if version.status == VersionStatus.PUBLISHED:
            messages.info(request, "Nothing has changed: this is the published version.")
        else:
            messages.success(request, f"Version {version.number} is a draft. Build it, try it, then publish it.")
        if obj.hosts and not processes.running(processes.EGRESS):
            messages.warning(request, NO_PROXY)

    def delete_model(self, request: HttpRequest, obj: Template) -> None:
        """Hidden, as the API does it: sessions keep pointing at the row."""
        _hide([obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Likewise."""
        _hide(list(queryset))

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Nothing but the templates: they are hidden, and what belongs to them stays."""
        return (
            [inert(str(row)) for row in objs],
            {"templates": len(objs)},
            set(),
            [str(row) for row in objs if curation.in_use(row)],
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not while live sessions use it."""
        return super().has_delete_permission(request, obj) and not (obj and curation.in_use(obj))

    def cards(self, request: HttpRequest, row: Template) -> list[Card]:
        """Its versions, newest first."""
        newest = row.versions.select_related("author").prefetch_related("builds").order_by("-number")[:12]  # type: ignore[attr-defined]
        heads = ["Version", "State", "Builds", "Note", "By", "When"]
        rows = [
            (link(version, f"v{version.number}"), badge(version.status), _builds(version), inert(version.note) or "–",
             version.author or "the API or a file", moment(version.created_at))
            for version in newest
        ]  # fmt: skip
        return [Card("Versions", grid(heads, rows, "Saving makes the first one."), wide=True)]

    def get_urls(self) -> list[URLPattern]:
        """Import and export."""
        view = self.admin_site.admin_view
        own = [
            path("export.yaml", view(self.export_view), name="templates_app_template_export"),
            path("import/", view(self.import_view), name="templates_app_template_import"),
        ]
        return [*own, *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponse:
        """All published ones as YAML."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return _yaml(Template.objects.visible())

    @admin.action(description="Export the selected as YAML", permissions=["view"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        """As a file. Drafts are not in it: whoever imports it would publish them."""
        published = queryset.filter(draft=False)
        if not published:
            messages.warning(request, "Nothing is exported: what you chose was never published.")
            return None
        return _yaml(published)

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Make the templates say what a file says."""
        if not (self.has_add_permission(request) and self.has_change_permission(request)):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            try:
                done = exchange.load(form.cleaned_data["yaml"], request.user, "Imported")
            except exchange.Unusable as error:
                form.add_error(None, str(error))
            else:
                for row in Template.objects.filter(pk__in=[*done["added"], *done["changed"]]):
                    self.log_change(request, row, "Imported")
                messages.success(request, "; ".join(f"{len(ids)} {how}" for how, ids in done.items()))
                return HttpResponseRedirect(reverse("admin:templates_app_template_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Import templates",
            "form": form,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/templates_app/import.html", context)

    @admin.display(description="State")
    def state(self, template: Template) -> SafeString:
        """Which version is in use."""
        if template.draft:
            return badge("draft")
        number = template.in_use[0].number if template.in_use else "?"  # type: ignore[attr-defined]
        words = badge("published"), f"v{number}"
        return format_html("{} {} {}", *words, badge("deprecated") if template.deprecated_at else "")

    @admin.display(description="Languages")
    def languages_shown(self, template: Template) -> str:
        """As words."""
        return ", ".join(template.languages)

    @admin.display(description="Prepared for")
    def prepared(self, template: Template) -> SafeString | str:
        """By kind of runtime."""
        images = [(image.runtime_type, badge(image.status)) for image in template.images.all()]
        return format_html_join(" ", "{} {}", images) if images else "nothing yet"


def _hide(templates: list[Template]) -> None:
    """All or none. 403 if a session of one began since the page asked: from the look on, none can."""
    rows = Template.objects.filter(pk__in=[template.pk for template in templates])
    with transaction.atomic():
        if any(curation.in_use(row) for row in rows.select_for_update().order_by("pk")):
            raise PermissionDenied("A live session uses it")
        rows.update(deleted_at=timezone.now())


def _builds(version: TemplateVersion) -> SafeString | str:
    latest = {build.runtime_type: build for build in sorted(version.builds.all(), key=lambda build: build.created_at)}  # type: ignore[attr-defined]
    shown = [(link(build, kind), badge(build.status)) for kind, build in sorted(latest.items())]
    return format_html_join(" ", "{} {}", shown) if shown else "–"


def _yaml(templates: Any) -> HttpResponse:
    headers = {"Content-Disposition": 'attachment; filename="templates.yaml"', "X-Content-Type-Options": "nosniff"}
    return HttpResponse(exchange.dump(templates), content_type="application/yaml; charset=utf-8", headers=headers)
