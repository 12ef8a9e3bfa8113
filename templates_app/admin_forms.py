"""The form of a template: lines and ticks rather than JSON, and the API's own checks, each beside its field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from rest_framework import serializers as drf

from templates_app import resources, versions
from templates_app.images import names
from templates_app.models import LANGUAGES, NOT_IN_SPEC, OCI_RUNTIMES, Network, Template, default_languages
from templates_app.serializers import ALLOWLIST_NEEDS_HOSTS, NPM_NEEDS_JAVASCRIPT, TemplateIn

BASICS = ("id", "name", "description")
IMAGE = ("languages", "pre_installed_packages", "npm_packages", "preload", "base_image", "image")
LIMITS = ("cpu", "memory", "disk")


class Lines(forms.CharField):
    """A list of texts, one a line. Empty lines do not count."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            required=False, widget=forms.Textarea(attrs={"rows": 5, "class": "lines", "spellcheck": "false"}), **kwargs
        )

    def prepare_value(self, value: Any) -> Any:
        """As text."""
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """As a list."""
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compared as lists."""
        return (initial or []) != self.to_python(data)


class TemplateForm(forms.ModelForm):
    """Of a template, or of its newest draft."""

    languages = forms.MultipleChoiceField(
        choices=[(word, word) for word in LANGUAGES],
        widget=forms.CheckboxSelectMultiple,
        initial=default_languages,
        help_text="What code may be written in.",
    )
    pre_installed_packages = Lines(
        label="Python packages", help_text="One a line, with a version: numpy==2.1.0 or pandas>=2.0"
    )
    npm_packages = Lines(
        label="npm packages",
        help_text="For JavaScript. One a line, with a version: lodash@4.17.21 or @turf/turf@^7. Their install scripts do not run.",
    )
    preload = Lines(
        label="Preload modules",
        help_text="Modules, one a line, that are imported once per sandbox: runs find them there.",
    )
    allowed_hosts = Lines(
        label="Allowed hosts",
        help_text="Of an allowlist. One a line: pypi.org, *.example.com for all below it, api.example.com:8443 for another port "
        "than 80 and 443. No addresses, no schemes.",
    )
    note = forms.CharField(required=False, max_length=200, help_text="Why: it stands beside the version.")
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Template
        # Whatever a template says, now and in future; not where it is in its life.
        exclude = sorted(NOT_IN_SPEC - {"id"})  # noqa: DJ006
        labels = {"cpu": "CPU", "oci_runtime": "OCI runtime"}
        widgets = {"description": forms.Textarea(attrs={"rows": 3, "cols": 60})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Which version the form shows (see TemplateAdmin.get_object).
        self.fields["shown"].initial = getattr(self.instance, "shown", "")
        if "network" in self.fields:
            self.fields["network"].required = False
        if "image" in self.fields:
            self.fields["image"].required = False
            self.fields[
                "image"
            ].help_text = "The name that a built image gets, below sandbox/. Empty: sandbox/ and the id."

    def clean(self) -> dict[str, Any]:
        """Nobody's work is overwritten unseen: what is saved was made from what is the newest version still."""
        data = super().clean() or {}
        if not self.instance._state.adding:
            versions.lock(self.instance)
            newest = versions.latest(self.instance)
            if data.get("shown") != versions.mark(newest):
                who = (newest and newest.author) or "the API or a file"
                raise forms.ValidationError(
                    f"It was changed by {who} meanwhile{f' (version {newest.number})' if newest else ''}. Nothing of yours was saved: "
                    "open the page anew, and make your changes there."
                )
        return data

    def _amount(self, name: str, parse: Callable[[str], int]) -> str:
        try:
            parse(self.cleaned_data[name])
        except ValueError as error:
            raise forms.ValidationError(f"It {error}") from None
        return self.cleaned_data[name]

    def clean_id(self) -> str:
        """Free: also of templates that were deleted, whose sessions remember them."""
        pk = self.cleaned_data["id"]
        if self.instance._state.adding and Template.objects.filter(pk=pk).exists():
            raise forms.ValidationError("This id is taken")
        return pk

    def clean_cpu(self) -> str:
        """In range."""
        return self._amount("cpu", resources.cpu_millis)

    def clean_memory(self) -> str:
        """In range."""
        return self._amount("memory", resources.memory_bytes)

    def clean_disk(self) -> str:
        """In range."""
        return self._amount("disk", resources.disk_bytes)

    def clean_image(self) -> str:
        """Made from the id, or one of our own names."""
        pk = self.cleaned_data.get("id") or self.instance.pk
        return str(self._checked("image")) if self.cleaned_data.get("image") else f"{names.PREFIX}{pk}"

    def clean_base_image(self) -> str:
        """A reference, as the API takes it."""
        return str(self._checked("base_image"))

    def clean_oci_runtime(self) -> str:
        """One that is known."""
        if self.cleaned_data["oci_runtime"] not in OCI_RUNTIMES:
            raise forms.ValidationError("It must be runc, or runsc for gVisor")
        return self.cleaned_data["oci_runtime"]

    def _checked(self, name: str) -> Any:
        api = TemplateIn()
        try:
            value = api.fields[name].run_validation(self.cleaned_data[name])
            further = getattr(api, f"validate_{name}", None)
            return further(value) if further else value
        except drf.ValidationError as error:
            raise forms.ValidationError(_words(error.detail)) from None

    def clean_pre_installed_packages(self) -> list[str]:
        """Requirements, as the API takes them."""
        return list(self._checked("pre_installed_packages"))

    def clean_npm_packages(self) -> list[str]:
        """Likewise, and of use only where JavaScript is spoken."""
        packages: list[str] = self._checked("npm_packages")
        if packages and "languages" in self.cleaned_data and "javascript" not in self.cleaned_data["languages"]:
            raise forms.ValidationError(NPM_NEEDS_JAVASCRIPT)
        return packages

    def clean_network(self) -> str:
        """None where nothing is said."""
        return self.cleaned_data["network"] or Network.NONE

    def clean_allowed_hosts(self) -> list[str]:
        """Names of hosts, as the API takes them. Needs `network`, which comes before it in the form."""
        hosts: list[str] = self._checked("allowed_hosts")
        if self.cleaned_data.get("network") == Network.ALLOWLIST and not hosts:
            raise forms.ValidationError(f"Please {ALLOWLIST_NEEDS_HOSTS}")
        return hosts

    def clean_preload(self) -> list[str]:
        """Module names, as the API takes them."""
        return list(self._checked("preload"))


def _words(detail: Any) -> list[str]:
    """The API's errors as one list. Those of a list's items are by their index; people count from one."""
    if isinstance(detail, dict):
        return [f"Line {int(at) + 1}: {words}" for at, inner in detail.items() for words in _words(inner)]
    return [str(words) for words in detail]


class ImportForm(forms.Form):
    """YAML, as a file or as text."""

    file = forms.FileField(required=False, help_text="A YAML file, as the export writes it.")
    text = forms.CharField(
        required=False,
        label="Or text",
        strip=False,
        widget=forms.Textarea(attrs={"rows": 16, "class": "mono", "spellcheck": "false"}),
    )
    MOST = 1024 * 1024

    def clean(self) -> dict[str, Any]:
        """One of both, as text in `yaml`."""
        data = super().clean() or {}
        file = data.get("file")
        if file and file.size > self.MOST:
            raise forms.ValidationError("The file is larger than 1 MiB")
        try:
            data["yaml"] = file.read().decode() if file else data.get("text", "")
        except UnicodeDecodeError:
            raise forms.ValidationError("The file is not UTF-8") from None
        if not data["yaml"].strip():
            raise forms.ValidationError("Choose a file or paste some YAML")
        return data
