"""Rows for tests."""

import datetime as dt

import factory
from django.utils import timezone
from django_q.models import Failure
from factory.django import DjangoModelFactory

from executions_app.models import Execution, Language
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers, pool
from sandbox_platform import ids
from sandbox_platform.models import ApiKey, Project
from sessions_app.models import Session, SessionStatus
from templates_app.models import ImageStatus, Template, TemplateBuild, TemplateImage, TemplateVersion


class ProjectFactory(DjangoModelFactory):
    class Meta:
        model = Project

    name = factory.Sequence(lambda n: f"project-{n}")


class NodeFactory(DjangoModelFactory):
    class Meta:
        model = Node
        django_get_or_create = ("name",)

    name = "node-01"
    runtime_type = "bubblewrap"
    ready = True
    cpu_millis = 2000
    memory_bytes = 24 * 2**30
    disk_bytes = 200 * 2**30


class TemplateFactory(DjangoModelFactory):
    class Meta:
        model = Template
        django_get_or_create = ("id",)

    id = "python-basic"
    name = "Python Basic Environment"
    image = "sandbox/python:3.11-basic"


class TemplateImageFactory(DjangoModelFactory):
    class Meta:
        model = TemplateImage

    template = factory.SubFactory(TemplateFactory)
    runtime_type = "bubblewrap"
    status = ImageStatus.READY
    ref = "/nowhere"


class TemplateVersionFactory(DjangoModelFactory):
    class Meta:
        model = TemplateVersion

    template = factory.SubFactory(TemplateFactory)
    number = factory.Sequence(lambda n: n + 100)
    spec = factory.Dict({})


class TemplateBuildFactory(DjangoModelFactory):
    class Meta:
        model = TemplateBuild

    version = factory.SubFactory(TemplateVersionFactory)
    runtime_type = "bubblewrap"


class ContainerFactory(DjangoModelFactory):
    class Meta:
        model = Container

    ref = factory.Faker("hexify", text="^" * 64)
    node = factory.SubFactory(NodeFactory)
    template = factory.SubFactory(TemplateFactory)
    runtime_type = "bubblewrap"
    status = ContainerStatus.RUNNING
    image = "/nowhere"
    cpu, memory, disk = "1", "512Mi", "1Gi"
    slots = pool.SLOTS
    start_hash = factory.LazyAttribute(lambda row: containers.start_hash(row.template, row.slots))


class SessionFactory(DjangoModelFactory):
    class Meta:
        model = Session

    # The admin takes `_22` in an address for a quoted character: tests that write addresses by hand need ids without.
    id = factory.LazyFunction(lambda: f"sess_t{ids.tail(15)}")
    project = factory.SubFactory(ProjectFactory)
    template = factory.SubFactory(TemplateFactory)
    runtime_type = "bubblewrap"
    timeout = 300
    cpu, memory, disk = "1", "512Mi", "1Gi"

    class Params:
        running = factory.Trait(
            status=SessionStatus.RUNNING,
            container=factory.SubFactory(ContainerFactory),
            started_at=factory.LazyFunction(timezone.now),
            expires_at=factory.LazyFunction(lambda: timezone.now() + dt.timedelta(seconds=300)),
        )


class ExecutionFactory(DjangoModelFactory):
    class Meta:
        model = Execution

    id = factory.LazyFunction(lambda: f"exec_20260106_t{ids.tail(15)}")
    session = factory.SubFactory(SessionFactory)
    project = factory.SelfAttribute("session.project")
    language = Language.PYTHON
    code = "print(1)"
    timeout = 30
    number = factory.Sequence(lambda n: n)


class FailureFactory(DjangoModelFactory):
    """A task that raised."""

    class Meta:
        model = Failure

    id = factory.Sequence(lambda n: f"{n:032x}")
    name = factory.Sequence(lambda n: f"task-{n}")
    func = "sandbox_platform.queue.call"
    args = ("templates_app.tasks.tick", "req_1")
    cluster = "builds"
    result = "ValueError : no such thing"
    started = stopped = factory.LazyFunction(timezone.now)
    success = False
    attempt_count = 1


def issue(project: Project | None = None, **fields: object) -> tuple[ApiKey, str]:
    """A key and its token."""
    return ApiKey.issue(project or ProjectFactory(), "test", **fields)
