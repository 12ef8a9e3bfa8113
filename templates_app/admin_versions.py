"""Versions of templates and their builds: what changed, what it became, whether it works, and publishing it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import Card, WatchedAdmin, link
from sandbox_platform.admin_show import badge, code, grid, inert, moment, table, timeline
from templates_app import building, exchange, versions
from templates_app.images import sources
from templates_app.models import BuildStatus, TemplateBuild, TemplateVersion, VersionStatus


def build(request: HttpRequest, version: TemplateVersion, values: Mapping[str, Any]) -> bool | str:
    """Then to the log."""
    ordered = building.order(version, request.user)
    return (
        reverse("admin:templates_app_templatebuild_change", args=[ordered[0].pk])
        if len(ordered) == 1
        else bool(ordered)
    )


def publish(request: HttpRequest, version: TemplateVersion, values: Mapping[str, Any]) -> bool:
    """As its words say."""
    return versions.publish(version)


def never_out(version: TemplateVersion) -> bool:
    """Whether publishing it is a first time."""
    return version.status == VersionStatus.DRAFT


class ForCurators(WatchedAdmin):
    """Whoever may change templates may act on their versions and builds."""

    def may_act(self, request: HttpRequest) -> bool:
        """By the permission on templates."""
        return request.user.has_perm("templates_app.change_template")


@admin.register(TemplateVersion)
class VersionAdmin(ForCurators):
    """What a template said, says or will say."""

    list_display = ["__str__", "state", "author", "note_shown", "created"]
    list_filter = ["status", "template"]
    list_select_related = ["template", "author"]
    search_fields = ["template"]
    search_help_text = "A template's id, or its beginning"
    search_prefixes = {"": "template__pk__startswith"}
    empty_hint = "Every change of a template is one."
    acts = (
        Act("build", "Build", "Build ordered", "It is built in the background for every kind of runtime here, and tried in a sandbox.",
            build, danger=False, bulk=False),
        Act("publish", "Publish", "Published", "New sessions of the template get this version from now on. Those that run keep theirs.",
            publish, possible=never_out, danger=False, bulk=False),
        Act("roll-back", "Roll back to this", "Rolled back to", "New sessions of the template get this earlier version again.",
            publish, possible=lambda version: version.status == VersionStatus.RETIRED, bulk=False),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """With what is shown."""
        return super().get_queryset(request).select_related("template", "author")

    @admin.display(description="State")
    def state(self, version: TemplateVersion) -> SafeString:
        """In colour."""
        return badge(version.status)

    @admin.display(description="Note")
    def note_shown(self, version: TemplateVersion) -> str:
        """Inert."""
        return inert(version.note)

    @admin.display(description="Created")
    def created(self, version: TemplateVersion) -> SafeString | str:
        """How long ago."""
        return moment(version.created_at)

    def cards(self, request: HttpRequest, row: TemplateVersion) -> list[Card]:
        """Facts, builds, and its text."""
        before = (
            TemplateVersion.objects.filter(template=row.template_id, number__lt=row.number).order_by("-number").first()
        )
        trial = f"{reverse('admin:try_template', args=[row.template_id])}?version={row.number}"
        built = versions.good_builds(row)
        facts = [
            ("Template", link(row.template)), ("State", badge(row.status)), ("Note", inert(row.note) or "–"),
            ("By", row.author or "the API or a file"), ("Created", moment(row.created_at)), ("Published", moment(row.published_at)),
            ("Try it", format_html('<a href="{}">Run code in a throw-away session</a>', trial) if built else "once it is built"),
        ]  # fmt: skip
        builds = [(link(build), badge(build.status), moment(build.created_at)) for build in row.builds.all()]  # type: ignore[attr-defined]
        return [
            Card("Version", table(facts)),
            Card("Builds", grid(["Build", "State", "When"], builds, "None yet: press Build.")),
            Card(f"Changed since v{before.number}" if before else "Changed", _difference(before, row), wide=True),
            Card("All of it", code(exchange.as_yaml(row), "yaml", "The version as YAML")),
            Card("Dockerfile", code(dockerfile(row), "docker", "The Dockerfile")),
        ]


@admin.register(TemplateBuild)
class BuildAdmin(ForCurators):
    """One attempt to make a version, with its log."""

    list_display = ["__str__", "state", "requested_by", "size", "created"]
    list_filter = ["status", "runtime_type", "version__template"]
    list_select_related = ["version", "requested_by"]
    search_fields = ["version"]
    search_prefixes = {"": "version__template__pk__startswith"}
    empty_hint = "Press Build on the page of a template or of one of its versions."
    acts = (
        Act("cancel", "Cancel", "Cancel requested", "It stops as soon as its builder looks, and leaves nothing behind.",
            lambda request, row, values: building.cancel(row), possible=lambda row: not row.done),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """With what is shown."""
        rows = super().get_queryset(request).select_related("version__template", "requested_by")
        match = request.resolver_match
        return rows if match and match.kwargs.get("object_id") else rows.defer("log", "packages", "smoke")

    def get_urls(self) -> list[URLPattern]:
        """And the log while it grows."""
        live = path(
            "<path:object_id>/live.json", self.admin_site.admin_view(self.live_view), name="templates_app_build_live"
        )
        return [live, *super().get_urls()]

    def live_url(self, row: TemplateBuild) -> str:
        """While it is under way."""
        return "" if row.done else reverse("admin:templates_app_build_live", args=[row.pk])

    def live_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """State and log; a page of its own once it is done."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        return JsonResponse(
            {"fields": {"status": row.status, "log": inert(row.log) or "Waiting for a worker …"}, "reload": row.done}
        )

    @admin.display(description="State")
    def state(self, row: TemplateBuild) -> SafeString:
        """In colour."""
        return badge(row.status)

    @admin.display(description="Size")
    def size(self, row: TemplateBuild) -> str:
        """In MiB."""
        return f"{row.size_bytes / 2**20:,.1f} MiB" if row.size_bytes else "–"

    @admin.display(description="Ordered")
    def created(self, row: TemplateBuild) -> SafeString | str:
        """How long ago."""
        return moment(row.created_at)

    def cards(self, request: HttpRequest, row: TemplateBuild) -> list[Card]:
        """Facts, log, smoke test, packages."""
        state = format_html('<span class="badge badge-{}" data-field="status">{}</span>', row.status, row.status)
        facts = [
            ("State", state), ("Version", link(row.version)), ("Template", link(row.version.template)), ("Runtime", row.runtime_type),
            ("Ordered by", row.requested_by or "–"), ("Digest", row.digest or "–"), ("Size", self.size(row)), ("Image", row.ref or "–"),
            ("What next", _next(row)),
        ]  # fmt: skip
        steps = [
            (row.created_at, "Ordered"), (row.started_at, "Begun"), (row.cancel_requested_at, "Cancel requested"),
            (row.ended_at, badge(row.status)),
        ]  # fmt: skip
        said = inert(row.log) or "Waiting for a worker …"
        log = format_html(
            '<pre class="code live" tabindex="0" role="log" aria-label="Log" data-field="log">{}</pre>', said
        )
        smoke = [
            (badge("passed", "good") if passed else badge("failed", "bad"), inert(name), inert(detail))
            for name, passed, detail in row.smoke
        ]
        packages = code("\n".join(row.packages), "text", "Packages") if row.packages else "None beside Python itself."
        return [
            Card("Build", table(facts)), Card("Timeline", timeline(steps)), Card("Log", log, wide=True),
            Card("Smoke test", grid(["", "Asked", "Came"], smoke, "It comes at the end.")), Card("Packages, frozen", packages),
        ]  # fmt: skip


def dockerfile(version: TemplateVersion) -> str:
    """As the build uses it: the packages are put into site/ by uv and npm beforehand, so that no step needs a network."""
    template = version.as_template()
    wanted = " ".join(template.pre_installed_packages) or "(nothing)"
    lines = sources.DOCKERFILE.read_text().splitlines(keepends=True)
    while lines and lines[0].startswith("#"):  # what its first comment says to people at a shell
        del lines[0]
    text = "".join(lines).replace("ARG BASE_IMAGE=python:3.11-slim", f"ARG BASE_IMAGE={template.base_image}")
    filled = [f"# site/ was filled by: uv pip install --target site {wanted}\n"]
    if template.npm_packages:
        filled.append(
            f"#              and by: npm install --ignore-scripts --prefix site {' '.join(template.npm_packages)}\n"
        )
    return "".join(filled) + text


def _next(row: TemplateBuild) -> SafeString | str:
    if row.status == BuildStatus.SUCCEEDED:
        trial = f"{reverse('admin:try_template', args=[row.version.template_id])}?version={row.version.number}"
        return format_html('<a href="{}">Try it</a>, then {}', trial, link(row.version, "publish the version"))
    if row.done:
        return format_html("Mend the {} and build it again", link(row.version.template, "template"))
    return "Wait for its smoke test"


def _difference(before: TemplateVersion | None, now: TemplateVersion) -> SafeString | str:
    if before is None:
        return "It is the first version."
    lines = difflib.unified_diff(
        exchange.as_yaml(before).splitlines(), exchange.as_yaml(now).splitlines(), lineterm="", n=1
    )
    return code("\n".join(list(lines)[2:]), "diff", "Difference") or "Nothing."
