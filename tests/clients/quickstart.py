"""The quickstart's workflow with the Python client that was generated from docs/openapi.yaml. Type-checked, then run: URL TOKEN."""

from __future__ import annotations

import sys
import time

from sandbox_openapi_client import AuthenticatedClient
from sandbox_openapi_client.api.executions import execute_code, get_execution_result, get_execution_status
from sandbox_openapi_client.api.sessions import create_session, get_session, terminate_session
from sandbox_openapi_client.models.execution_in_request import ExecutionInRequest
from sandbox_openapi_client.models.language_enum import LanguageEnum
from sandbox_openapi_client.models.message import Message
from sandbox_openapi_client.models.result_out import ResultOut
from sandbox_openapi_client.models.session_in_request import SessionInRequest
from sandbox_openapi_client.models.session_out import SessionOut
from sandbox_openapi_client.models.status_out import StatusOut
from sandbox_openapi_client.models.submitted import Submitted

CODE = "def handler(event):\n    return {'result': event['x'] + event['y']}"


def main(url: str, token: str) -> None:
    """Create a session, run a handler in it, print its result, end the session."""
    with AuthenticatedClient(base_url=url, token=token) as client:
        session = create_session.sync(client=client, body=SessionInRequest(template_id="python-basic", timeout=300))
        assert isinstance(session, SessionOut), session
        body = ExecutionInRequest(code=CODE, language=LanguageEnum.PYTHON, event={"x": 10, "y": 32})
        submitted = execute_code.sync(session.session_id, client=client, body=body)
        assert isinstance(submitted, Submitted), submitted
        while True:
            status = get_execution_status.sync(submitted.execution_id, client=client)
            assert isinstance(status, StatusOut), status
            if status.status in ("completed", "failed", "timeout"):
                break
            time.sleep(0.2)
        result = get_execution_result.sync(submitted.execution_id, client=client)
        assert isinstance(result, ResultOut), result
        print(result.status, result.return_value)
        ended = terminate_session.sync(session.session_id, client=client)
        assert isinstance(ended, Message), ended
        again = get_session.sync(session.session_id, client=client)
        assert isinstance(again, SessionOut), again
        print(ended.message, again.status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
