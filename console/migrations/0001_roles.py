"""The three roles, as groups with permissions: what an installation begins with, and may change afterwards."""

from __future__ import annotations

from typing import Any

from django.apps import apps as present
from django.contrib.auth.management import create_permissions
from django.db import migrations

LOOK = ["templates_app.template", "templates_app.templateversion", "templates_app.templatebuild", "runtime.node"]
TENANTS = ["sessions_app.session", "executions_app.execution", "runtime.container"]
MACHINERY = ["sandbox_platform.process", "django_q.ormq", "django_q.failure", "admin.logentry"]
KEYS = ["sandbox_platform.project", "sandbox_platform.apikey"]


def view(*models: str) -> set[str]:
    return {f"{model.split('.')[0]}.view_{model.split('.')[1]}" for model in models}


def verbs(model: str, *names: str) -> set[str]:
    app, name = model.split(".")
    return {f"{app}.{verb}_{name}" for verb in names}


ROLES = {
    # Keeps the service going: ends and extends what tenants have, switches nodes, gives out keys.
    "Operator": view(*LOOK, *TENANTS, *MACHINERY, *KEYS)
    | {f"{model.split('.')[0]}.change_{model.split('.')[1]}" for model in TENANTS}
    | verbs("runtime.node", "change")
    | verbs("sandbox_platform.project", "add", "change")
    | verbs("sandbox_platform.apikey", "add", "change"),
    # Decides what templates say. Sees nothing of what tenants run.
    "Template curator": view(*LOOK) | verbs("templates_app.template", "add", "change", "delete"),
    # Sees everything, changes nothing.
    "Auditor": view(*LOOK, *TENANTS, *MACHINERY, *KEYS, "auth.user", "auth.group"),
}


def make_roles(apps: Any, schema_editor: Any) -> None:
    for label in sorted({name.split(".")[0] for names in ROLES.values() for name in names}):
        create_permissions(present.get_app_config(label), verbosity=0, using=schema_editor.connection.alias)
    group_model, permission_model = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for role, names in ROLES.items():
        group, _ = group_model.objects.get_or_create(name=role)
        for name in sorted(names):
            app, codename = name.split(".")
            group.permissions.add(permission_model.objects.get(content_type__app_label=app, codename=codename))


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"), ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"), ("django_q", "0018_task_success_index"),
        ("sandbox_platform", "0001_initial"), ("templates_app", "0004_template_versions"), ("runtime", "0003_template_versions"),
        ("sessions_app", "0004_template_versions"), ("executions_app", "0002_console_indexes"),
    ]  # fmt: skip
    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
