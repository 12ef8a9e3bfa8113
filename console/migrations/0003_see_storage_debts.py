"""Operators and auditors see what the storage is owed, and what was lost: nobody but superusers could."""

from __future__ import annotations

from typing import Any

from django.apps import apps as present
from django.contrib.auth.management import create_permissions
from django.db import migrations


def show_debts(apps: Any, schema_editor: Any) -> None:
    create_permissions(present.get_app_config("sessions_app"), verbosity=0, using=schema_editor.connection.alias)
    permission = apps.get_model("auth", "Permission").objects
    # An installation may have done away with a role.
    for group in apps.get_model("auth", "Group").objects.filter(name__in=["Operator", "Auditor"]):
        group.permissions.add(permission.get(content_type__app_label="sessions_app", codename="view_storagedebt"))


class Migration(migrations.Migration):
    dependencies = [("console", "0002_operators_try_again"), ("sessions_app", "0009_pending_uploads")]
    operations = [migrations.RunPython(show_debts, migrations.RunPython.noop)]
