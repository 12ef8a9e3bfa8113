"""State machines: every pair of states of every model that has one."""

from itertools import product

import pytest
from django.apps import apps
from django.db.models import Model

from executions_app.models import Execution
from runtime.models import Container
from sandbox_platform.states import StateModel
from sessions_app.models import ENDED, STATUS_OF, Reason, Session, SessionStatus
from templates_app.models import TemplateBuild, TemplateImage
from tests.factories import (
    ContainerFactory,
    ExecutionFactory,
    SessionFactory,
    TemplateBuildFactory,
    TemplateImageFactory,
)

FACTORIES = {
    Session: SessionFactory,
    Execution: ExecutionFactory,
    Container: ContainerFactory,
    TemplateImage: TemplateImageFactory,
    TemplateBuild: TemplateBuildFactory,
}
MODELS = [model for model in apps.get_models() if issubclass(model, StateModel)]


def test_every_one_is_tried() -> None:
    assert set(MODELS) == set(FACTORIES)


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_only_the_arrows_lead_on(model: type[StateModel]) -> None:
    row = FACTORIES[model]()
    states = set(model._meta.get_field("status").choices and dict(model._meta.get_field("status").choices))
    assert set(model.ARROWS) == states
    for source, target in product(sorted(states), repeat=2):
        model.objects.filter(pk=row.pk).update(status=source)
        row.refresh_from_db()
        allowed = target in model.ARROWS[source]
        assert row.move(target) is allowed, (source, target)
        assert row.status == (target if allowed else source)
        assert model.objects.get(pk=row.pk).status == (target if allowed else source), (source, target)


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_arrow_stands_in_the_docstring(model: type[Model]) -> None:
    for state in model.ARROWS:  # type: ignore[attr-defined]
        assert state in (model.__doc__ or ""), state


@pytest.mark.django_db
def test_of_two_who_move_one_wins() -> None:
    first = SessionFactory(status="running")
    second = Session.objects.get(pk=first.pk)
    assert first.move("terminated", status_reason="idle")
    assert not second.move("failed", status_reason="node_lost")
    assert (second.status, second.status_reason) == ("running", "")
    second.refresh_from_db()
    assert (second.status, second.status_reason) == ("terminated", "idle")


def test_every_reason_has_one_final_state() -> None:
    by_status: dict[str, set[str]] = {}
    for reason in Reason.values:
        by_status.setdefault(STATUS_OF.get(reason, SessionStatus.FAILED), set()).add(reason)
    assert by_status == {
        "terminated": {"terminated_by_client", "terminated_by_operator", "idle"},
        "timeout": {"expired", "max_lifetime"},
        "failed": {
            "start_failed",
            "image_unavailable",
            "oom_killed",
            "disk_full",
            "container_lost",
            "node_lost",
            "runtime_error",
        },
    }
    assert set(by_status) == set(ENDED)
