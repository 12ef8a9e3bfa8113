"""The document is a product: clients generated from it type-check, and run the quickstart against a live service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command

from tests import npm, postgres, requirements
from tests.e2e.service import ROOT, Service

HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs/openapi.yaml"
# Events of the service's log that no request may cause.
FAULTS = ("unhandled_exception", "database_error", "database_unavailable", "executor_protocol")
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clients"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """`manage.py up` with bubblewrap."""
    requirements.need("bubblewrap")
    service = Service("bubblewrap")
    try:
        service.start()
        yield service
    finally:
        service.remove()


def run(*command: object, cwd: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    everything = {**os.environ, "PATH": path, **environment}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=everything, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_document_in_docs_is_that_of_the_code_and_describes_everything(tmp_path):
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "now.yaml"))
    assert (tmp_path / "now.yaml").read_text() == DOCUMENT.read_text(), (
        "docs/openapi.yaml is not up to date: make openapi"
    )
    document, silent = yaml.safe_load(DOCUMENT.read_text()), []
    for name, schema in document["components"]["schemas"].items():
        silent += [f"{name}.{field}" for field, of in schema.get("properties", {}).items() if not of.get("description")]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            silent += [
                f"{method} {path} {one['name']}"
                for one in operation.get("parameters", [])
                if not one.get("description")
            ]
            silent += [
                f"{method} {path} {status}"
                for status, one in operation["responses"].items()
                if not one.get("description")
            ]
    assert not silent


def test_the_python_client(service, tmp_path):
    made = ["--output-path", tmp_path / "client", "--config", HERE / "python.yaml", "--fail-on-warning"]
    said = run("openapi-python-client", "generate", "--path", DOCUMENT, *made, cwd=tmp_path)
    assert "warning" not in said.lower(), said
    shutil.copy(HERE / "quickstart.py", tmp_path / "client")
    settings = ["--strict", "--no-warn-unused-ignores", "--config-file", os.devnull]
    run("mypy", *settings, "quickstart.py", "sandbox_openapi_client", cwd=tmp_path / "client")
    said = run(sys.executable, "quickstart.py", service.url, service.token, cwd=tmp_path / "client")
    assert "success {'result': 42}" in said
    assert "Session terminated successfully terminated" in said


def test_the_typescript_client(service, tmp_path):
    requirements.need("npm")
    (tmp_path / "node_modules").symlink_to(npm.install())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(HERE / "typescript/quickstart.ts", tmp_path)
    run(
        "node",
        "node_modules/openapi-typescript/bin/cli.js",
        DOCUMENT,
        "-o",
        "schema.d.ts",
        "--default-non-nullable",
        "false",
        cwd=tmp_path,
    )
    flags = [
        "--strict",
        "--module",
        "nodenext",
        "--moduleResolution",
        "nodenext",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom,dom.iterable",
    ]
    run("node", "node_modules/typescript/bin/tsc", *flags, "quickstart.ts", cwd=tmp_path)
    said = run("node", "quickstart.js", service.url, service.token, cwd=tmp_path)
    assert 'success {"result":42}' in said
    assert "Session terminated successfully" in said


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def live(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service beside each database."""
    if request.param == "SQLite":
        yield request.getfixturevalue("service")
        return
    requirements.need("bubblewrap")
    requirements.need("postgres server")
    with postgres.server() as url:
        service = Service("bubblewrap", DATABASE_URL=url)
        try:
            service.start()
            yield service
        finally:
            service.remove()


# A minute of requests; what a busy machine takes to start and to clear away beside it.
@pytest.mark.timeout(480)
def test_schemathesis_finds_no_fault(live, tmp_path):
    """All phases, all checks, for a minute. What does not count as a fault stands in schemathesis.toml, with the reason."""
    bounds = ["--max-examples", "8", "--max-time", "60", "--request-timeout", "40", "--seed", "1", "--no-color"]
    run("schemathesis", "--config-file", HERE / "schemathesis.toml", "run", f"{live.url}/api/schema?format=json",
        "--header", f"Authorization: Bearer {live.token}", *bounds, cwd=tmp_path)  # fmt: skip
    logs = "".join(path.read_text(errors="replace") for path in (live.state / "logs").iterdir())
    assert '"request"' in logs, "the requests stand in the logs"
    assert not [line for line in logs.splitlines() if any(f'"{fault}"' in line for fault in FAULTS)]
