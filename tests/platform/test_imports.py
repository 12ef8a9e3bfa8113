"""Who may import whom: executions_app -> sessions_app -> runtime -> templates_app -> sandbox_platform; some stand alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = ["sandbox_platform", "templates_app", "runtime", "sessions_app", "executions_app"]
# Where the whole is put together.
ASSEMBLY = {"sandbox_platform/urls.py"}
OURS = {*ORDER, "executor", "tests", "console", "sandbox_client"}


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("app", ORDER)
def test_an_app_imports_only_those_below_it(app: str) -> None:
    above = ORDER[ORDER.index(app) + 1 :]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sources(app)
        if str(path.relative_to(ROOT)) not in ASSEMBLY and "supervisor" not in path.parts
        for line, module in imports(path)
        if module.split(".")[0] in above
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ["runtime/drivers", "executor", "sandbox_client"])
def test_what_stands_alone_imports_neither_django_nor_us(folder: str) -> None:
    own = {"runtime/drivers": "runtime.drivers", "executor": "executor", "sandbox_client": "sandbox_client"}[folder]
    siblings = {path.stem for path in (ROOT / folder).glob("*.py")}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sources(folder)
        for line, module in imports(path)
        if module.split(".")[0]
        in {"django", "rest_framework", "django_q", *OURS} - ({"executor"} if folder == "executor" else set())
        and not (module == own or module.startswith(f"{own}.") or own.startswith(f"{module}."))
        and module.split(".")[0] not in siblings - OURS
    ]
    assert not [line for line in wrong if not line.endswith((": runtime.drivers", ": runtime"))]


def test_the_executor_needs_the_standard_library_alone() -> None:
    siblings = {path.stem for path in (ROOT / "executor").glob("*.py")}
    wrong = [
        f"{path.name}:{line}: {module}"
        for path in sources("executor")
        for line, module in imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names | siblings | {"executor"}
    ]
    assert not wrong


def test_nothing_of_a_sandbox_is_ever_unpickled() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for folder in (*ORDER, "executor")
        for path in sources(folder)
        for line, module in imports(path)
        if module.split(".")[0] in forbidden
    ]
    assert not wrong


def test_only_the_queue_enqueues() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ORDER
        for path in sources(folder)
        for _, module in imports(path)
        if module.endswith("async_task") and path.name != "queue.py"
    ]
    assert not wrong


def test_the_web_server_imports_no_docker() -> None:
    """0.4 s of each start, and 15 MB of each process that never asks an engine."""
    program = "import sys, django; django.setup(); import sandbox_platform.urls; print('docker' in sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]
