"""The quickstart's workflow and client, unchanged but for the token and the address, against `manage.py up`."""

import os
import subprocess
import sys

import pytest

from tests.e2e.documents import block
from tests.e2e.service import Service


@pytest.mark.e2e
def test_the_curl_workflow_prints_42(service: Service) -> None:
    environment = {**os.environ, "API_TOKEN": service.token, "API_BASE": f"{service.url}/api/v1"}
    script = block("Complete Workflow Example", "bash")
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert '"result": 42' in done.stdout, done.stdout + done.stderr
    assert '"status": "success"' in done.stdout
    assert '"message": "Session terminated successfully"' in done.stdout.replace('":"', '": "')
    assert "Created session: sess_" in done.stdout
    assert "Submitted execution: exec_" in done.stdout


@pytest.mark.e2e
def test_the_python_client_prints_42(service: Service) -> None:
    script = block("Python SDK Example", "python")
    script = script.replace("http://localhost:8000", service.url).replace('"your-token"', repr(service.token))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert "'return_value': {'result': 42}" in done.stdout, done.stdout + done.stderr
    assert "'status': 'success'" in done.stdout
