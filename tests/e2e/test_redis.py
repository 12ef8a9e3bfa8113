"""The service with REDIS_URL: runs go on while Redis dies and comes back, and nobody is restarted for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Service
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.bubblewrap, pytest.mark.e2e, pytest.mark.timeout(300)]
RUNS = 20


def test_runs_go_on_while_redis_dies_and_comes_back(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    service = Service("bubblewrap", REDIS_URL=redis.url)
    try:
        service.start()
        session_id = service.api(
            "POST", "/sessions", json={"template_id": "python-basic"}, headers={"Prefer": "wait=30"}
        )
        path = f"/sessions/{session_id.json()['session_id']}/execute"

        def through_the_queue(name: str) -> float:
            body = {"language": "python", "code": "def handler(event):\n    return event", "event": name}
            began = time.monotonic()
            execution = service.api("POST", path, json=body).json()["execution_id"]
            result: dict[str, Any] = service.api("GET", f"/executions/{execution}/result?wait=30").json()
            assert (result["status"], result["return_value"]) == ("success", name), result
            return time.monotonic() - began

        through_the_queue("before")
        assert redis.published() > 0
        redis.kill()
        seconds = sorted(through_the_queue(f"dead {number}") for number in range(RUNS))
        assert seconds[RUNS // 2] < 1.0, "the database's own bell rings: nobody waits for the ticker"
        redis.start()
        deadline = time.monotonic() + 20
        while redis.subscribers() < 3 or not redis.published():
            assert time.monotonic() < deadline
            through_the_queue("after")
        assert "starting it again" not in service.console()
    finally:
        service.remove()
        redis.kill()
