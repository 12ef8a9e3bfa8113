"""Templates in the API's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from sandbox_platform.fields import StrictBoolean, StrictSerializer, Text
from templates_app import hosts, resources
from templates_app.images import names, npm
from templates_app.models import LANGUAGES, SLUG, Network, Template

NPM_NEEDS_JAVASCRIPT = "npm packages need javascript among the languages"
ALLOWLIST_NEEDS_HOSTS = "name at least one host, or leave the network at none"
ALLOWED_HOSTS = (
    "Names of hosts, `*.example.com` for all below one (not itself), `name:port` for another port than 80 and 443; "
    "no addresses, no schemes."
)


def _checked(check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise serializers.ValidationError(str(error)) from None


class ResourceText(Text):
    """An amount with its unit, checked by a function of `resources`."""

    def __init__(self, parse: Any, **kwargs: Any) -> None:
        self.parse = parse
        super().__init__(max_length=16, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The text as sent."""
        text = super().to_internal_value(data)
        try:
            self.parse(text)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return text


class AllowedHosts(serializers.ListField):
    """Names of hosts, each in its one spelling."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", ALLOWED_HOSTS)
        super().__init__(child=Text(max_length=300), max_length=hosts.MOST, **kwargs)

    def to_internal_value(self, data: Any) -> list[str]:
        """Checked, lower case, each once."""
        try:
            return hosts.entries(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None


class ResourcesSerializer(StrictSerializer):
    """Limits of a sandbox."""

    cpu = ResourceText(resources.cpu_millis, required=False, help_text='Cores: "0.5" to "4".')
    memory = ResourceText(resources.memory_bytes, required=False, help_text='"256Mi" to "8Gi".')
    disk = ResourceText(resources.disk_bytes, required=False, help_text='Of the workspace: "1Gi" to "50Gi".')


class ResourcesOut(serializers.Serializer):
    """Limits of a sandbox."""

    cpu = serializers.CharField(help_text="Cores.")
    memory = serializers.CharField(help_text="With the unit Mi or Gi.")
    disk = serializers.CharField(help_text="Of the workspace, with the unit Mi or Gi.")


class TemplateOut(serializers.ModelSerializer):
    """A template."""

    allowed_hosts = serializers.ListField(
        child=serializers.CharField(), help_text="Hosts that sessions may reach where the network is `allowlist`."
    )
    default_resources = ResourcesOut(help_text="What a session gets unless it asks for something else.")
    status = serializers.SerializerMethodField(help_text="`ready`, `preparing`, `failed` or `deprecated`.")

    class Meta:
        model = Template
        fields = (
            "id", "name", "description", "image", "base_image", "languages", "pre_installed_packages", "npm_packages", "preload",
            "default_resources", "network", "allowed_hosts", "status", "created_at", "updated_at",
        )  # fmt: skip
        extra_kwargs = {
            "id": {"help_text": "What sessions name as `template_id`."},
            "pre_installed_packages": {"help_text": "Python requirements."},
            "npm_packages": {"help_text": "npm packages that `require` and `import` find."},
            "preload": {"help_text": "Modules that are imported before the first run."},
            "languages": {"help_text": "What code may be written in."},
            "network": {
                "help_text": "`none`, or `allowlist`: sessions reach the allowed hosts through a proxy, and nothing else."
            },
        }

    def get_status(self, template: Template) -> str:
        """From its images: ready where one kind of runtime has it."""
        if template.deprecated_at:
            return "deprecated"
        images = list(template.images.all())
        if any(image.ref for image in images):
            return "ready"
        return "failed" if images and all(image.status == "failed" for image in images) else "preparing"


class TemplateIn(StrictSerializer):
    """A template as it is created or replaced."""

    id = Text(max_length=63, validators=[SLUG], help_text="Lower-case letters, digits and inner hyphens.")
    name = Text(max_length=100)
    description = Text(required=False, allow_blank=True, max_length=2000)
    image = Text(
        required=False,
        max_length=255,
        help_text="The name that the built image gets: below `sandbox/`, but for `sandbox/base`.",
    )
    base_image = Text(
        required=False,
        max_length=255,
        help_text="What it is built upon: the name of an image that is not below `sandbox/`.",
    )
    languages = serializers.ListField(
        child=serializers.ChoiceField(LANGUAGES), required=False, min_length=1, max_length=3
    )
    pre_installed_packages = serializers.ListField(child=Text(max_length=200), required=False, max_length=200)
    npm_packages = serializers.ListField(
        child=Text(max_length=300),
        required=False,
        max_length=200,
        help_text="npm packages by name and version: `lodash@4.17.21`. They need `javascript` among the languages.",
    )
    preload = serializers.ListField(child=Text(max_length=100), required=False, max_length=50)
    default_resources = ResourcesSerializer(required=False)
    network = serializers.ChoiceField(
        Network.choices,
        required=False,
        help_text="`none` (the default), or `allowlist`: the allowed hosts, through a proxy.",
    )
    allowed_hosts = AllowedHosts(required=False)
    deprecated = StrictBoolean(required=False, help_text="True: it still answers, but takes no new sessions.")

    def validate_image(self, value: str) -> str:
        """Among our own names: it becomes a tag on an engine that others use too."""
        return _checked(names.own, value)

    def validate_base_image(self, value: str) -> str:
        """A reference that an engine takes, and that the operators allow."""
        return _checked(names.base, value)

    def validate_pre_installed_packages(self, value: list[str]) -> list[str]:
        """Requirements as PEP 508 has them, by name only: no URL, no path, no option."""
        from packaging.requirements import InvalidRequirement, Requirement

        for item in value:
            try:
                requirement = Requirement(item)
            except InvalidRequirement:
                raise serializers.ValidationError(f"{item[:80]!r} is not a requirement such as 'numpy>=1.24'") from None
            if requirement.url:
                raise serializers.ValidationError(f"{item[:80]!r}: a URL is not allowed")
        return value

    def validate_npm_packages(self, value: list[str]) -> list[str]:
        """From the registry, by name: no URL, no path, no alias, no tag. Each once."""
        for item in value:
            if not npm.SPEC.fullmatch(item):
                raise serializers.ValidationError(f"{item[:80]!r} is not a package such as 'lodash@4.17.21'")
        names = [npm.split(item)[0] for item in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise serializers.ValidationError(f"named more than once: {', '.join(twice)[:200]}")
        return value

    def validate_preload(self, value: list[str]) -> list[str]:
        """Dotted module names."""
        for item in value:
            if not all(part.isidentifier() for part in item.split(".")):
                raise serializers.ValidationError(f"{item[:80]!r} is not a module name")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """What goes together: a change of a part counts with what stays."""
        rest = self.instance if self.partial and self.instance else Template()
        packages, languages = (attrs.get(name, getattr(rest, name)) for name in ("npm_packages", "languages"))
        if packages and "javascript" not in languages:
            raise serializers.ValidationError({"npm_packages": [NPM_NEEDS_JAVASCRIPT]})
        network, listed = (attrs.get(name, getattr(rest, name)) for name in ("network", "allowed_hosts"))
        if network == Network.ALLOWLIST and not listed:
            raise serializers.ValidationError({"allowed_hosts": [ALLOWLIST_NEEDS_HOSTS]})
        return attrs

    def columns(self, before: Template | None = None) -> dict[str, Any]:
        """The validated values as columns of the model. `before` is the row that changes."""
        values = dict(self.validated_data)
        if (deprecated := values.pop("deprecated", None)) is not None:
            since = before.deprecated_at if before else None
            values["deprecated_at"] = (since or timezone.now()) if deprecated else None
        return {**values.pop("default_resources", {}), **values}


class TemplateReplacement(TemplateIn):
    """A template as it is replaced: its id stands in the path already."""

    id = Text(required=False, max_length=63, validators=[SLUG], help_text="As in the path, or nothing.")


class TemplateList(serializers.Serializer):
    """A page of templates."""

    templates = TemplateOut(many=True)
    total = serializers.IntegerField(help_text="How many match in all.")
