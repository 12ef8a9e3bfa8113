"""Templates as YAML, so that they can live in git: what is written out can be read in again, and changes nothing then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from templates_app import curation, plain_yaml, versions
from templates_app.models import NOT_IN_SPEC, OCI_RUNTIMES, Template, TemplateVersion
from templates_app.serializers import TemplateIn

# What the API's serializer does not know, but a template in git must say.
MORE = {"oci_runtime": str, "warm_pool_size": int, "figures": bool}


class Unusable(ValueError):
    """What was read is no list of templates. The message says which entry and why."""


def dump(templates: Iterable[Template]) -> str:
    """All that is not at its default, in the order of the columns. Not for drafts: an import publishes what it says."""
    entries = []
    for template in templates:
        fresh = Template(pk=template.pk, image=f"sandbox/{template.pk}")
        names = [field.name for field in Template._meta.concrete_fields if field.name not in NOT_IN_SPEC]
        entry = {name: getattr(template, name) for name in names if getattr(template, name) != getattr(fresh, name)}
        entries.append({"id": template.pk, **entry, **({"deprecated": True} if template.deprecated_at else {})})
    return plain_yaml.dump(entries)


def load(text: str, author: Any = None, note: str = "From a file") -> dict[str, list[str]]:
    """Make the templates say what the file says: ids that were added, changed and left as they are. All or none. Raises Unusable."""
    done: dict[str, list[str]] = {"added": [], "changed": [], "unchanged": []}
    entries = _parse(text)
    with transaction.atomic():
        # Held from here on, in one order for all: all columns are written, and none may have changed since they were read.
        rows = Template.objects.select_for_update().filter(pk__in=[pk for pk, _ in entries]).order_by("pk")
        there = {row.pk: row for row in rows}
        for pk, columns in entries:
            template = there.get(pk)
            fresh = template is None or template.deleted_at is not None
            if template is None:
                template = Template(pk=pk)
            before = None if fresh or template.draft else versions.spec_of(template)
            # What is not said is not so, as with every other field; what is so already is so since then.
            since, asked = None if fresh else template.deprecated_at, columns.pop("deprecated_at", None)
            template.deprecated_at = asked and (since or asked)
            for name, value in {**versions.fresh_spec(pk), **columns, "draft": False, "deleted_at": None}.items():
                setattr(template, name, value)
            if before == versions.spec_of(template):
                if bool(since) != bool(asked):
                    template.save(update_fields=["deprecated_at", "updated_at"])
                done["unchanged" if bool(since) == bool(asked) else "changed"].append(pk)
                continue
            try:
                template.save(force_insert=template._state.adding)
            except IntegrityError:
                raise Unusable(f"{pk} was made by somebody else in this moment: import it again") from None
            versions.record(template, author, note)
            curation.prepare_everywhere(template)
            done["added" if fresh else "changed"].append(pk)
    return done


def as_yaml(version: TemplateVersion) -> str:
    """A version's own text, for its page and for comparing two of them."""
    return dump([version.as_template()])


def _parse(text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        entries = plain_yaml.load(text)
    except ValueError as error:
        raise Unusable(f"This is not YAML: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Unusable("A list of templates is expected: each begins with '- id: ...'")
    found = [_entry(number, dict(entry)) for number, entry in enumerate(entries, 1)]
    ids = [pk for pk, _ in found]
    if twice := sorted({pk for pk in ids if ids.count(pk) > 1}):
        raise Unusable(f"Named more than once: {', '.join(twice)}")
    return found


def _entry(number: int, entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    pk = entry.get("id", "without an id")
    where = f"Entry {number} ({pk[:63] if isinstance(pk, str) else 'its id is no text'})"
    if strange := [key for key in entry if not isinstance(key, str)]:
        raise Unusable(f"{where}: {strange[0]!r} is no name of a field: put it in quotes")
    more = {}
    for name, kind in MORE.items():
        if name in entry and name not in TemplateIn().fields:
            more[name] = entry.pop(name)
            if type(more[name]) is not kind:
                raise Unusable(f"{where}: {name} must be of the type {kind.__name__}")
            try:
                Template._meta.get_field(name).clean(more[name], None)  # type: ignore[union-attr]
            except ValidationError as error:
                raise Unusable(f"{where}: {name}: {' '.join(error.messages)}") from None
    if more.get("oci_runtime", OCI_RUNTIMES[0]) not in OCI_RUNTIMES:
        raise Unusable(f"{where}: oci_runtime must be {' or '.join(OCI_RUNTIMES)}")
    amounts = {
        name: _amount(entry.pop(name), f"{where}: {name}") for name in ("cpu", "memory", "disk") if name in entry
    }
    data = TemplateIn(data={**entry, **({"default_resources": amounts} if amounts else {})})
    if not data.is_valid():
        words = "; ".join(f"{name}: {errors}" for name, errors in data.errors.items())
        raise Unusable(f"{where}: {words}"[:2000])
    columns = {**data.columns(), **more}
    return columns.pop("id"), columns


def _amount(value: Any, where: str) -> str:
    """`cpu: 1` is as good as `cpu: "1"`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unusable(f"{where} must be an amount, such as '1' or '512Mi'")
    return str(value)
