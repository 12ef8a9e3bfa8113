"""What sessions were promised of the disk, as a number. Those that live now are counted too."""

from typing import Any

from django.db import migrations, models

UNITS = {"Mi": 2**20, "Gi": 2**30}


def count(apps: Any, schema_editor: Any) -> None:
    sessions = apps.get_model("sessions_app", "Session").objects.filter(released_at=None)
    for disk in set(sessions.values_list("disk", flat=True)):
        sessions.filter(disk=disk).update(disk_bytes=int(disk[:-2]) * UNITS[disk[-2:]])


class Migration(migrations.Migration):
    dependencies = [
        ("sessions_app", "0007_network"),
    ]

    operations = [
        migrations.AddField(
            model_name="session",
            name="disk_bytes",
            field=models.PositiveBigIntegerField(
                default=0, editable=False, help_text="`disk` as a number, for admission."
            ),
        ),
        migrations.RunPython(count, migrations.RunPython.noop),
    ]
