"""Builds of versions: in a worker, with a log that can be watched, a smoke test at the end, and a way to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.utils import timezone

from sandbox_platform import processes
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, enqueue
from templates_app import services
from templates_app.images.base import Bootstrap, BuildFailed, Say
from templates_app.models import BuildStatus, TemplateBuild, TemplateImage, TemplateVersion

log = structlog.get_logger(__name__)
# Characters of a log; seconds between two looks at the wish to cancel.
MAX_LOG, LOOK_EVERY = 256 * 1024, 1.0
RUNNING = (BuildStatus.BUILDING, BuildStatus.TESTING)
SmokeTest = Callable[[TemplateBuild, Say], list[list[Any]]]
"""Tries a build in a sandbox: [name, passed, detail] for each thing that it asked."""


class Cancelled(Exception):
    """Somebody asked for the end of the build."""


def kinds() -> list[str]:
    """The kinds of runtime that this installation has images for."""
    return sorted(TemplateImage.objects.values_list("runtime_type", flat=True).distinct().order_by())


def order(version: TemplateVersion, user: Any = None) -> list[TemplateBuild]:
    """Have it built for every kind of runtime there is. A build that is under way already is not ordered twice."""
    ordered = []
    with transaction.atomic():
        for kind in kinds():
            under_way = TemplateBuild.objects.filter(
                version=version, runtime_type=kind, status__in=[BuildStatus.QUEUED, *RUNNING]
            )
            build = under_way.first() or TemplateBuild.objects.create(
                version=version, runtime_type=kind, requested_by=user
            )
            enqueue(Queue.BUILDS, "runtime.tasks.build_template", build.pk)
            ordered.append(build)
    return ordered


def cancel(build: TemplateBuild) -> bool:
    """Stop it: at once where it waits, else as soon as its builder looks. False if it is done."""
    waiting = TemplateBuild.objects.filter(pk=build.pk, status=BuildStatus.QUEUED)
    if waiting.move(BuildStatus.CANCELLED, ended_at=timezone.now(), cancel_requested_at=timezone.now()):
        return True
    return bool(
        TemplateBuild.objects.filter(pk=build.pk, status__in=RUNNING).update(cancel_requested_at=timezone.now())
    )


def run(build_id: int, smoke_test: SmokeTest) -> None:
    """Build it, in this process. Safe to repeat: only one takes it."""
    build = TemplateBuild.objects.select_related("version__template").filter(pk=build_id).first()
    if build is None or not build.move(BuildStatus.BUILDING, builder=processes.own_id(), started_at=timezone.now()):
        return
    say = _Log(build)
    try:
        _make(build, say)
        build.smoke = smoke_test(build, say)
        say(f"Smoke test: {sum(passed for _, passed, _ in build.smoke)} of {len(build.smoke)} passed")
        good = bool(build.smoke) and all(passed for _, passed, _ in build.smoke)
        if not good:
            _end(build, BuildStatus.FAILED, smoke=build.smoke)
        elif not _end(build, BuildStatus.SUCCEEDED, smoke=build.smoke):
            raise Cancelled
    except Cancelled:
        _end(build, BuildStatus.CANCELLED, last="Cancelled")
    except BuildFailed as error:
        _end(build, BuildStatus.FAILED, last=str(error))
    except Exception as error:
        log.exception("build_failed", build=build_id)
        _end(build, BuildStatus.FAILED, last=f"Unexpected: {type(error).__name__}: {error}")


def bury_the_dead() -> None:
    """For the ticker: a build whose builder died has failed. Its image, if it was made, is found again by the next one."""
    living = Process.objects.filter(dead_at=None).values("id")
    dead = TemplateBuild.objects.filter(status__in=RUNNING).exclude(builder__in=living)
    for build in dead:
        _end(build, BuildStatus.FAILED, last="The process that built it died; build it again")


def _make(build: TemplateBuild, say: Say) -> None:
    recipe = services.recipe_of(build.version.as_template(), Bootstrap.IF_NEEDED)
    builder = services.builder_of(build.runtime_type)
    say(f"Building {build.version} for {build.runtime_type}")
    build.fingerprint = builder.fingerprint(recipe, say)
    found = builder.find(recipe, build.fingerprint)
    if found:
        say("An image with just these ingredients is there already")
    build.ref = found or builder.build(recipe, build.fingerprint, say)
    made = builder.describe(build.ref)
    build.digest, build.size_bytes, build.packages = made.digest, made.size_bytes, list(made.packages)
    say(f"{build.digest} · {build.size_bytes / 2**20:.1f} MiB · {len(build.packages)} packages")
    fields = {name: getattr(build, name) for name in ("ref", "fingerprint", "digest", "size_bytes", "packages")}
    if not build.move(BuildStatus.TESTING, **fields):
        raise Cancelled


def _end(build: TemplateBuild, status: BuildStatus, last: str = "", **values: Any) -> bool:
    """False if it is not to end so: somebody was told that it is being cancelled, or has ended it."""
    rows = TemplateBuild.objects.filter(pk=build.pk)
    if last:
        rows.update(log=Concat(F("log"), Value(f"{_line(last)}\n")))
    if status == BuildStatus.SUCCEEDED:
        rows = rows.filter(cancel_requested_at=None)
    if not rows.move(status, ended_at=timezone.now(), builder=None, **values):
        return False
    log.info("build_ended", build=build.pk, status=status)
    return True


class _Log:
    """Takes lines for the log. Raises Cancelled once somebody asked for it; an empty line only looks."""

    def __init__(self, build: TemplateBuild) -> None:
        self.build, self.written, self.looked = build, 0, 0.0

    def __call__(self, line: str) -> None:
        rows = TemplateBuild.objects.filter(pk=self.build.pk)
        text = _line(line)
        if text and self.written < MAX_LOG:
            self.written += len(text)
            rows.update(log=Concat(F("log"), Value(f"{text}\n")))
        if time.monotonic() - self.looked > LOOK_EVERY:
            self.looked = time.monotonic()
            if rows.filter(cancel_requested_at__isnull=False).exists():
                raise Cancelled


def _line(text: str) -> str:
    clean = text.replace("\0", "").strip()
    return f"{timezone.now():%H:%M:%S} {clean[:4000]}" if clean else ""
