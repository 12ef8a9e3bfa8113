"""The console, by Django's own client: rows, no sandboxes."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client

from tests.factories import NodeFactory, TemplateImageFactory


@pytest.fixture
def admin(db: None) -> Client:
    """A superuser's browser, and the rows that every installation has."""
    NodeFactory()
    TemplateImageFactory()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def role(admin: Client):
    """`role("Auditor")`: the browser of somebody who is that and no more.

    The roles are made anew: a test that commits leaves the tables empty behind it, what migrations wrote included.
    """
    import_module("console.migrations.0001_roles").make_roles(apps, connection.schema_editor())
    import_module("console.migrations.0002_operators_try_again").let_operators(apps, connection.schema_editor())
    import_module("console.migrations.0003_see_storage_debts").show_debts(apps, connection.schema_editor())

    def make(name: str) -> Client:
        user = User.objects.create_user(name.lower().replace(" ", "-"), is_staff=True)
        user.groups.add(Group.objects.get(name=name))
        client = Client()
        client.force_login(user)
        return client

    return make
