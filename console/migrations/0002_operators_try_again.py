"""Operators may have failed tasks tried again. Asked for by a permission now: before, whoever could look could do it."""

from __future__ import annotations

from typing import Any

from django.apps import apps as present
from django.contrib.auth.management import create_permissions
from django.db import migrations


def let_operators(apps: Any, schema_editor: Any) -> None:
    create_permissions(present.get_app_config("django_q"), verbosity=0, using=schema_editor.connection.alias)
    group = apps.get_model("auth", "Group").objects.filter(name="Operator").first()
    permission = apps.get_model("auth", "Permission").objects
    if group:  # an installation may have done away with the role
        group.permissions.add(permission.get(content_type__app_label="django_q", codename="change_failure"))


class Migration(migrations.Migration):
    dependencies = [("console", "0001_roles")]
    operations = [migrations.RunPython(let_operators, migrations.RunPython.noop)]
