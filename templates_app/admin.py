"""Templates: curation by operators."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from templates_app import curation, resources, services
from templates_app.models import LANGUAGES, Template, TemplateImage


class TemplateForm(forms.ModelForm):
    """Lines and ticks rather than JSON, and the same checks as the API's."""

    languages = forms.MultipleChoiceField(
        choices=[(word, word) for word in LANGUAGES], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Template
        fields = "__all__"  # noqa: DJ007

    def _amount(self, name: str, parse: Any) -> str:
        try:
            parse(self.cleaned_data[name])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        return self.cleaned_data[name]

    def clean_cpu(self) -> str:
        """In range."""
        return self._amount("cpu", resources.cpu_millis)

    def clean_memory(self) -> str:
        """In range."""
        return self._amount("memory", resources.memory_bytes)

    def clean_disk(self) -> str:
        """In range."""
        return self._amount("disk", resources.disk_bytes)


class ImageInline(admin.TabularInline):
    """How far its preparation is, by kind of runtime."""

    model = TemplateImage
    extra = 0
    can_delete = False
    fields = readonly_fields = ("runtime_type", "status", "detail", "ref", "attempts", "updated_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are made by the service."""
        return False


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    """Saving one that changed has its image made anew."""

    form = TemplateForm
    inlines = [ImageInline]
    list_display = ["id", "name", "languages", "cpu", "memory", "disk", "prepared", "deprecated_at"]
    search_fields = ["id", "name"]
    readonly_fields = ("created_at", "updated_at")
    actions = ["rebuild", "deprecate"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """What the API shows."""
        return Template.objects.visible().prefetch_related("images")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The id stays."""
        return ("id", *self.readonly_fields) if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Template, form: Any, change: bool) -> None:
        """And order its images."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            curation.prepare_everywhere(obj)

    def delete_model(self, request: HttpRequest, obj: Template) -> None:
        """Hidden, as the API does it: sessions keep pointing at the row."""
        Template.objects.filter(pk=obj.pk).update(deleted_at=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Likewise."""
        queryset.update(deleted_at=timezone.now())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not while live sessions use it."""
        return super().has_delete_permission(request, obj) and not (obj and curation.in_use(obj))

    @admin.display(description="Prepared")
    def prepared(self, template: Template) -> str:
        """By kind of runtime."""
        return ", ".join(f"{image.runtime_type}: {image.status}" for image in template.images.all()) or "not yet"

    @admin.action(description="Prepare the selected templates anew", permissions=["change"])
    def rebuild(self, request: HttpRequest, queryset: QuerySet) -> None:
        """In the background."""
        for template in queryset:
            services.rebuild(template)
        self.message_user(request, f"{len(queryset)} ordered. Sessions use the last good image meanwhile.")

    @admin.action(description="Deprecate the selected templates", permissions=["change"])
    def deprecate(self, request: HttpRequest, queryset: QuerySet) -> None:
        """They take no new sessions."""
        count = queryset.filter(deprecated_at=None).update(deprecated_at=timezone.now())
        self.message_user(request, f"{count} deprecated.")
