"""The smoke test of a template's build: a sandbox of it starts, its executor answers, its packages import, each language returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from runtime.drivers.errors import DriverError, ExecutorError
from runtime.drivers.executor_client import ExecutorClient, Result, RunRequest
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers, making
from sandbox_platform import processes
from templates_app.images import npm
from templates_app.images.base import Say
from templates_app.models import Template, TemplateBuild

# In each language, a handler (or a script) that gives back what it was given.
PROBES = {
    "python": "def handler(event):\n    return event",
    "javascript": "function handler(event) { return event; }",
    "shell": 'cat "$SANDBOX_EVENT" > "$SANDBOX_RESULT"',
}
# Whether each package can be had, as CommonJS or as an ES module: {name: why not, or ""}.
REQUIRES = """
async function handler(names) {
  const found = {};
  for (const name of names) {
    try { require(name); found[name] = ''; } catch (error) {
      found[name] = await import(name).then(() => '', () => String(error));
    }
  }
  return found;
}
"""
EVENT = {"smoke": [1, "two", None]}
SECONDS = 30.0


def test(build: TemplateBuild, say: Say) -> list[list[Any]]:
    """[name, passed, detail] for each thing that was asked. The sandbox is gone afterwards, however it went."""
    node = Node.objects.schedulable().filter(runtime_type=build.runtime_type).first()
    if node is None:
        return [["node", False, f"No node of the kind {build.runtime_type} is ready to try it on"]]
    template = build.version.as_template()
    container = Container(
        node=node, template_id=build.version.template_id, version=build.version, runtime_type=node.runtime_type, image=build.ref,
        maker=processes.own_id(), slots=1, **template.default_resources,
    )  # fmt: skip
    say("Smoke test: starting a sandbox")
    try:
        container.save(force_insert=True)
        containers.make(container, settings.SANDBOX_BOOT_TIMEOUT)
        found = [["starts and is attested", True, ""], *_ask(container, template)]
    except DriverError as error:
        found = [["starts and is attested", False, str(error)[:1000]]]
    except ExecutorError as error:
        found = [["executor answers", False, str(error)[:1000]]]
    finally:
        making.let_go(Q(pk=container.pk), ContainerStatus.STOPPING)
        containers.remove(container)
    for name, passed, detail in found:
        say(f"  {'ok  ' if passed else 'FAIL'} {name} {detail}".rstrip())
    return found


def _ask(container: Container, template: Template) -> list[list[Any]]:
    client = ExecutorClient(Path(container.socket))
    health = client.health()
    found: list[list[Any]] = [
        ["executor answers", health.state == "ready", f"Python {health.python}, node {health.node}"]
    ]
    for module in template.preload:
        error = health.preload_errors.get(module, "")
        found.append([f"imports {module}", module in health.preloaded and not error, error[:500]])
    for language in template.languages:
        found.append([f"{language} returns", *_returns(client, language)])
    if template.npm_packages:
        found += _requires(client, [npm.split(package)[0] for package in template.npm_packages])
    return found


def _requires(client: ExecutorClient, names: list[str]) -> list[list[Any]]:
    result = _run(client, "smoke-npm", RunRequest("javascript", REQUIRES, event=json.dumps(names), timeout=SECONDS))
    if result is None or result.outcome != "ok":
        return [["requires the npm packages", False, _words(result)]]
    faults = json.loads(result.return_value or "{}")
    return [[f"requires {name}", not faults[name], faults[name][:500]] for name in names]


def _returns(client: ExecutorClient, language: str) -> tuple[bool, str]:
    request = RunRequest(language=language, code=PROBES[language], event=json.dumps(EVENT), timeout=SECONDS)
    result = _run(client, f"smoke-{language}", request)
    if result is None or result.outcome != "ok" or json.loads(result.return_value or "null") != EVENT:
        return False, _words(result)
    return True, ""


def _run(client: ExecutorClient, name: str, request: RunRequest) -> Result | None:
    result = None
    for event in client.run(name, request, SECONDS + 5):
        result = event if isinstance(event, Result) else result
    return result


def _words(result: Result | None) -> str:
    if result is None:
        return "No result"
    return f"{result.outcome}: {result.error.message if result.error else result.return_value}"[:500]
