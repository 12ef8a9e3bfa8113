"""What the storage is owed and what was lost, for those who keep the service going."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from sessions_app.models import Owed, StorageDebt
from tests.factories import SessionFactory

URL = "/admin/sessions_app/storagedebt/"
EVIL = "<script>alert(1)</script>\x1b[31mred\u202eesrever"


@pytest.fixture
def debt(admin) -> StorageDebt:
    StorageDebt.objects.create(session=SessionFactory(), what=Owed.COPY)
    return StorageDebt.objects.create(
        session=SessionFactory(), what=Owed.SAVE, attempts=7, error=EVIL, lost_at=timezone.now()
    )


def shown(answer) -> list[str]:
    return [row.pk for row in answer.context["cl"].result_list]


@pytest.mark.parametrize(("name", "status"), [("Operator", 200), ("Auditor", 200), ("Template curator", 403)])
def test_operators_and_auditors_see_debts_and_nobody_changes_them(role, debt, name, status):
    client = role(name)
    assert (URL in client.get("/admin/").content.decode()) == (status == 200)
    for page in (URL, f"{URL}{debt.pk}/change/"):
        assert client.get(page).status_code == status, page
    for page in (f"{URL}add/", f"{URL}{debt.pk}/delete/"):
        assert client.get(page).status_code == 403, page
    assert client.post(f"{URL}{debt.pk}/change/", {"what": "erase"}).status_code == 403
    debt.refresh_from_db()
    assert debt.what == Owed.SAVE


def test_the_roles_of_a_new_installation_have_it(role):
    for name in ("Operator", "Auditor"):
        assert Group.objects.get(name=name).permissions.filter(codename="view_storagedebt").exists()


def test_an_error_is_text(admin, debt):
    for page in (URL, f"{URL}{debt.pk}/change/"):
        text = admin.get(page).content.decode()
        assert "&lt;script&gt;alert(1)" in text and "lost" in text, page
        assert not [sign for sign in ("<script>alert", "\x1b", "\u202e") if sign in text], page


def test_a_debt_is_found_by_the_beginning_of_its_session_and_by_what_became_of_it(admin, debt):
    assert len(shown(admin.get(URL))) == 2
    assert shown(admin.get(URL, {"q": debt.pk})) == [debt.pk]
    assert len(shown(admin.get(URL, {"q": "sess_"}))) == 2
    assert shown(admin.get(URL, {"q": "nonsense"})) == []
    assert shown(admin.get(URL, {"lost_at__isempty": "0"})) == [debt.pk]
    assert shown(admin.get(URL, {"what__exact": "save"})) == [debt.pk]


def test_pages_follow_each_other(admin, debt, monkeypatch):
    from sessions_app.admin import StorageDebtAdmin

    StorageDebt.objects.update(since=timezone.now())
    monkeypatch.setattr(StorageDebtAdmin, "list_per_page", 1)
    first = admin.get(URL)
    second = admin.get(URL + first.context["cl"].older_url)
    assert {*shown(first), *shown(second)} == set(StorageDebt.objects.values_list("pk", flat=True))
