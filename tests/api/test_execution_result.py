"""GET /executions/{id}/result, and what runs come to."""

import base64
import json
import math
import socket
import threading
from pathlib import Path

import pytest
from django.db import connections

from executions_app.models import Execution
from sandbox_platform import wakeups
from sessions_app.models import Session
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.executors import EVENTS, executor
from tests.factories import ContainerFactory, ExecutionFactory, NodeFactory

KEYS = {
    "execution_id", "status", "stdout", "stderr", "stdout_truncated", "stderr_truncated", "stdout_omitted_bytes", "stderr_omitted_bytes",
    "exit_code", "execution_time", "return_value", "metrics", "artifacts", "artifacts_truncated", "error",
}  # fmt: skip


class TestCommon(IdQuestions):
    path = "/executions/{execution}/result"
    methods = {"GET"}
    not_found = "ExecutionNotFound"


@pytest.mark.parametrize(
    ("stored", "word"),
    [("pending", "pending"), ("running", "running"), ("completed", "success"), ("failed", "failed"), ("timeout", "timeout")],
)  # fmt: skip
def test_it_uses_the_words_of_the_quickstart(api: Api, stored: str, word: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status=stored)
    body = api.get(f"/executions/{execution.pk}/result").json()
    assert set(body) == KEYS
    assert body["status"] == word


OUTPUT = {"stdout", "stderr", "stdout_truncated", "stderr_truncated", "stdout_omitted_bytes", "stderr_omitted_bytes"}


@pytest.mark.parametrize("where", ["/result", ""])
@pytest.mark.parametrize("stored", ["pending", "running"])
def test_before_the_end_everything_but_the_output_is_null(api: Api, stored: str, where: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status=stored)
    body = api.get(f"/executions/{execution.pk}{where}").json()
    assert {name for name in KEYS if body[name] is not None} == {"execution_id", "status", *OUTPUT}
    assert (body["stdout"], body["stderr"], body["stdout_truncated"], body["stdout_omitted_bytes"]) == (
        "",
        "",
        False,
        0,
    )


@pytest.mark.parametrize(
    "text",
    ["0", "false", "[]", '""', "null", "{}", "-0.0", "1e+22", "9" * 5000, "[" * 5000 + "]" * 5000, '"\\u0000"', '"\\ud83d\\ude00"',
     '{"a":1,"a":2}', "0.1000000000000000055511151231257827", '"\\ud800"'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_return_value_is_given_as_it_is_stored(api: Api, text: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status="completed", return_value=text)
    answer = api.get(f"/executions/{execution.pk}/result")
    assert answer.status_code == 200
    assert f'"return_value":{text},'.encode() in answer.content


def test_output_that_is_not_utf8_is_replaced_and_what_was_left_out_is_counted(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, status="completed", stdout=b"a\xff\0\xc3", stderr="é".encode(), stdout_omitted=7
    )
    body = api.get(f"/executions/{execution.pk}/result").json()
    assert (body["stdout"], body["stderr"]) == ("a�\0�", "é")
    assert (body["stdout_truncated"], body["stdout_omitted_bytes"]) == (True, 7)
    assert (body["stderr_truncated"], body["stderr_omitted_bytes"]) == (False, 0)


@pytest.mark.parametrize("wait", ["-1", "61", "x", ""])
def test_a_bad_wait_is_400(api: Api, wait: str) -> None:
    execution = ExecutionFactory(session__project=api.project)
    error_of(api.get(f"/executions/{execution.pk}/result?wait={wait}"), 400, "InvalidParameter")


HELLO = """
def handler(event):
    name = event.get("name", "World")
    print("Processing complete.")
    return {"statusCode": 200, "body": f"Hello, {name}!"}
"""


@pytest.mark.bubblewrap
def test_the_quickstarts_own_run(live: Api) -> None:
    session_id = live.session()
    submitted = live.post(
        f"/sessions/{session_id}/execute", {"code": HELLO, "language": "python", "timeout": 30, "event": {"name": "Alice"}}
    ).json()  # fmt: skip
    assert submitted["status"] == "submitted"
    status = live.get(f"/executions/{submitted['execution_id']}/status?wait=30").json()
    assert status["status"] == "completed"
    assert status["created_at"] <= status["started_at"] <= status["completed_at"]
    result = live.get(f"/executions/{submitted['execution_id']}/result").json()
    assert set(result) == KEYS
    assert result["execution_id"] == submitted["execution_id"]
    assert (result["status"], result["exit_code"], result["error"]) == ("success", 0, None)
    assert (result["stdout"], result["stderr"]) == ("Processing complete.\n", "")
    assert result["return_value"] == {"statusCode": 200, "body": "Hello, Alice!"}
    metrics = result["metrics"]
    assert set(metrics) == {"duration_ms", "cpu_time_ms", "peak_memory_mb"}
    assert 0 < metrics["duration_ms"] < 10_000
    assert math.isclose(result["execution_time"], metrics["duration_ms"] / 1000, abs_tol=0.001)
    assert metrics["cpu_time_ms"] >= 0
    assert 1 < metrics["peak_memory_mb"] < 200
    assert result["artifacts"] == []


@pytest.mark.bubblewrap
def test_values_come_back_as_themselves(live: Api) -> None:
    session_id = live.session()
    values = [
        0,
        False,
        [],
        "",
        None,
        {},
        True,
        1,
        1.0,
        -0.0,
        1e22,
        10**30,
        "\0",
        "é\U0001f600",
        [None, [0]],
        {"a": {"b": [False]}},
    ]
    identity = "def handler(event):\n    return event"
    for value in values:
        result = live.run(session_id, identity, event=value)
        assert result["status"] == "success", result
        assert repr(result["return_value"]) == repr(value)
    assert live.run(session_id, identity)["return_value"] == {}
    result = live.run(session_id, "async def handler(event):\n    return [1]")
    assert result["return_value"] == [1]


@pytest.mark.bubblewrap
def test_what_is_not_json_is_an_invalid_result(live: Api) -> None:
    session_id = live.session()
    bad = ["float('nan')", "float('inf')", "{1, 2}", "b'x'", "object()", "(lambda: 0)", "{1: 2, 'a': object()}", "1j"]
    for expression in bad:
        result = live.run(session_id, f"def handler(event):\n    return {expression}")
        assert (result["status"], result["return_value"]) == ("failed", None), (expression, result)
        assert result["error"]["error_code"] == "Sandbox.ExecInvalidResult", (expression, result)
    loop = live.run(session_id, "def handler(event):\n    a = []\n    a.append(a)\n    return a")
    assert loop["error"]["error_code"] == "Sandbox.ExecInvalidResult"
    gone = live.run(session_id, "import os\ndef handler(event):\n    os._exit(0)")
    assert (gone["error"]["error_code"], gone["exit_code"]) == ("Sandbox.ExecInvalidResult", 0)


@pytest.mark.bubblewrap
@pytest.mark.parametrize(
    "text", ["1e999", "-1e400", "NaN", "{", "1 2", '{"a":1e999}', "[" * 100_000, "9" * 5000, '"\\ud800"', "\\xff"]
)
def test_a_shells_result_never_breaks_the_answer(live: Api, text: str) -> None:
    session_id = live.session()
    result = live.run(session_id, f"printf '%s' '{text}' > $SANDBOX_RESULT", language="shell")
    answer = live.get(f"/executions/{result['execution_id']}/result")
    assert answer.status_code == 200
    if result["status"] == "success":
        strict = json.loads(answer.content, parse_int=str, parse_constant=lambda name: pytest.fail(name))
        assert "inf" not in repr(strict["return_value"])
    else:
        assert result["error"]["error_code"] in ("Sandbox.ExecInvalidResult", "Sandbox.ExecOutputLimit")
    for path in ("", "/status"):
        assert live.get(f"/executions/{result['execution_id']}{path}").status_code == 200


@pytest.mark.bubblewrap
def test_scripts(live: Api) -> None:
    session_id = live.session()
    script = live.run(
        session_id,
        "import sys; print(input(), sys.argv[1:]); print('e', file=sys.stderr)",
        stdin="a\0b\nc",
        args=["x", "y z"],
    )
    assert (script["status"], script["return_value"], script["exit_code"]) == ("success", None, 0), script
    assert (script["stdout"], script["stderr"]) == ("a\0b ['x', 'y z']\n", "e\n")
    shell = live.run(
        session_id, 'cat $SANDBOX_EVENT; echo; echo "$1|$#"; cat; echo "[1, {}]" > $SANDBOX_RESULT', language="shell",
        event={"a": "é"}, args=["one two"], stdin="in",
    )  # fmt: skip
    assert (shell["status"], shell["return_value"]) == ("success", [1, {}]), shell
    assert shell["stdout"] == '{"a":"é"}\none two|1\nin'
    plain = live.run(session_id, "exit 3", language="shell")
    assert (plain["status"], plain["exit_code"], plain["return_value"]) == ("failed", 3, None)
    assert plain["error"]["error_code"] == "Sandbox.ExecException"


@pytest.mark.bubblewrap
def test_environment_and_folders(live: Api) -> None:
    session_id = live.session(env_vars={"BOTH": "session", "SESSION": "multi\nline"})
    code = "import os\ndef handler(event):\n    e = os.environ\n    return [e['BOTH'], e['SESSION'], e['RUN'], os.getcwd(), e['HOME']]"
    result = live.run(session_id, code, env_vars={"BOTH": "run", "RUN": "é"})
    assert result["return_value"] == ["run", "multi\nline", "é", "/workspace", "/workspace"], result
    live.upload(session_id, "sub/dir/lib.py", b"VALUE = 42")
    result = live.run(session_id, "import os\nprint(os.getcwd(), os.listdir('.'))", working_directory="sub/dir")
    assert result["stdout"] == "/workspace/sub/dir ['lib.py']\n"
    live.upload(session_id, "top.py", b"VALUE = 42")
    assert live.run(session_id, "import top; print(top.VALUE)")["stdout"] == "42\n"
    gone = live.run(session_id, "print(1)", working_directory="not/there")
    assert gone["status"] == "failed", gone
    assert "working_directory" in gone["error"]["message"], gone
    leaked = live.run(session_id, "import os; print(dict(os.environ))")["stdout"]
    for word in ("SECRET", "TOKEN", "DATABASE_URL", "DJANGO", "AWS", "RUN'"):
        assert word not in leaked


@pytest.mark.bubblewrap
def test_exceptions(live: Api) -> None:
    session_id = live.session()
    result = live.run(
        session_id,
        "def inner():\n    raise ValueError('bad é')\n\ndef handler(event):\n    print('before')\n    inner()",
    )
    error = result["error"]
    assert (result["status"], result["exit_code"], result["return_value"]) == ("failed", 1, None)
    assert (error["error_code"], error["type"], error["message"]) == ("Sandbox.ExecException", "ValueError", "bad é")
    assert "inner()" in error["traceback"] and "executor" not in error["traceback"]
    assert (result["stdout"], result["metrics"]["duration_ms"] > 0) == ("before\n", True)
    assert "ValueError: bad é" in result["stderr"]
    syntax = live.run(session_id, "def handler(:\n")
    assert (syntax["status"], syntax["error"]["type"]) == ("failed", "SyntaxError")
    assert "SyntaxError" in syntax["stderr"]
    codes = {"import os; os._exit(7)": 7, "import sys; sys.exit('x')": 1, "import sys; sys.exit(3)": 3,
             "import os; os.kill(os.getpid(), 9)": 137, "import os; os.kill(os.getpid(), 11)": 139}  # fmt: skip
    for code, expected in codes.items():
        result = live.run(session_id, code)
        assert (result["status"], result["exit_code"]) == ("failed", expected), (code, result)
    for code in ("raise SystemExit", "import sys; sys.exit(0)", "import sys; sys.exit(256)"):
        result = live.run(session_id, code)
        assert (result["status"], result["exit_code"]) == ("success", 0), (code, result)


@pytest.mark.bubblewrap
def test_a_time_out_keeps_what_was_printed(live: Api) -> None:
    session_id = live.session()
    code = (
        "import signal\nfor n in range(1, 32):\n  try: signal.signal(n, signal.SIG_IGN)\n  except OSError: pass\n"
        "print('so far', flush=True)\nwhile True: pass"
    )
    result = live.run(session_id, code, timeout=1)
    assert (result["status"], result["error"]["error_code"]) == ("timeout", "Sandbox.ExecTimeout")
    assert (result["stdout"], result["return_value"]) == ("so far\n", None)
    assert 1000 <= result["metrics"]["duration_ms"] < 2000
    assert live.get(f"/executions/{result['execution_id']}/status").json()["status"] == "timeout"
    assert live.run(session_id, "print('usable')")["stdout"] == "usable\n"


@pytest.mark.bubblewrap
def test_a_flood_of_output_keeps_head_and_tail(live: Api) -> None:
    session_id = live.session()
    result = live.run(
        session_id, "import sys\nsys.stdout.write('HEAD' + 'x' * 5_000_000 + 'TAIL')\nprint('e', file=sys.stderr)"
    )
    assert result["status"] == "success", result["error"]
    assert result["stdout"].startswith("HEADxxx") and result["stdout"].endswith("xxxTAIL")
    assert result["stdout_truncated"] and len(result["stdout"]) == 2**20
    assert result["stdout_omitted_bytes"] == 5_000_008 - 2**20
    assert (result["stderr"], result["stderr_truncated"]) == ("e\n", False)


@pytest.mark.bubblewrap
def test_artifacts_are_what_the_run_changed(live: Api) -> None:
    session_id = live.session()
    live.upload(session_id, "old.txt", b"old")
    live.upload(session_id, "same.txt", b"same")
    code = (
        "import os\nos.makedirs('out')\nopen('out/new.csv', 'w').write('a,b')\nopen('old.txt', 'w').write('changed')\n"
        "open('data:a\\nb,', 'w')"
    )
    result = live.run(session_id, code)
    found = {item["path"]: item for item in result["artifacts"]}
    assert found["out/new.csv"] == {"path": "out/new.csv", "size": 3, "mime_type": "text/csv", "change": "created"}
    assert found["old.txt"]["change"] == "modified"
    assert "same.txt" not in found
    assert live.get(f"/executions/{result['execution_id']}/result").json() == result


@pytest.mark.bubblewrap
def test_output_so_far_of_one_that_runs(live: Api) -> None:
    session_id = live.session()
    code = (
        "import time, sys\nprint('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\ninput()\ntime.sleep(60)"
    )
    path = f"/sessions/{session_id}/execute"
    execution_id = live.post(path, {"code": code, "language": "python", "stdin": "\n"}).json()["execution_id"]
    body = eventually(lambda: (b := live.get(f"/executions/{execution_id}/result").json())["stderr"] and b)
    assert (body["status"], body["stdout"], body["stderr"]) == ("running", "one\n", "two\n")
    for name in ("exit_code", "execution_time", "return_value", "metrics", "error"):
        assert body[name] is None, name


@pytest.mark.bubblewrap
def test_prefer_wait_answers_with_the_result_or_says_when_to_ask(live: Api) -> None:
    session_id = live.session()
    path, wait = f"/sessions/{session_id}/execute", {"Prefer": "wait=30", "Idempotency-Key": "k"}
    answer = live.post(path, {"code": HELLO, "language": "python"}, headers=wait)
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.json() == live.get(f"/executions/{answer.json()['execution_id']}/result").json()
    again = live.post(path, {"code": HELLO, "language": "python"}, headers=wait)
    assert again.content == answer.content
    early = live.post(path, {"code": "import time; time.sleep(60)", "language": "python"}, headers={"Prefer": "wait=1"})
    assert (early.status_code, early.json()["status"]) == (200, "submitted")
    assert int(early.headers["Retry-After"]) >= 1
    execution_id = early.json()["execution_id"]
    assert live.get(f"/executions/{execution_id}/status").json()["status"] == "running"
    live.post(f"/executions/{execution_id}/cancel")
    assert live.get(f"/executions/{execution_id}/status?wait=10").json()["status"] == "failed"


@pytest.mark.bubblewrap
def test_runs_that_are_submitted_while_the_session_is_created_run_once_it_is_up(live: Api) -> None:
    session_id = live.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    code = "open('count', 'a').write('x'); print(open('count').read())"
    ids = [
        live.post(f"/sessions/{session_id}/execute", {"code": code, "language": "python"}).json()["execution_id"]
        for _ in range(2)
    ]
    results = [live.get(f"/executions/{pk}/result?wait=30").json() for pk in ids]
    assert [result["status"] for result in results] == ["success", "success"]
    assert live.run(session_id, "print(open('count').read())")["stdout"] == "xx\n"


@pytest.mark.bubblewrap
def test_runs_overlap_up_to_max_concurrency_and_then_wait_their_turn(live: Api) -> None:
    session_id = live.session(max_concurrency=2)
    # Each of the two waits for the other: they can only end if they overlap.
    meet = "import os, sys, time\nopen(sys.argv[1], 'w')\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.01)"
    path = f"/sessions/{session_id}/execute"
    pair = [
        live.post(path, {"code": meet, "language": "python", "args": args}).json() for args in (["a", "b"], ["b", "a"])
    ]
    for execution in pair:
        assert live.get(f"/executions/{execution['execution_id']}/result?wait=30").json()["status"] == "success"
    hold = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"
    for _ in range(2):
        live.post(path, {"code": hold, "language": "python"})
    queued = [
        live.post(
            path, {"code": f"open('order', 'a').write('{n}'); import time; time.sleep(0.05)", "language": "python"}
        ).json()
        for n in range(5)
    ]
    eventually(lambda: live.get(f"/sessions/{session_id}/executions?status=running").json()["total"] == 2)
    assert live.get(f"/sessions/{session_id}/executions?status=pending").json()["total"] == 5
    live.upload(session_id, "go", b"")
    started = [live.get(f"/executions/{item['execution_id']}/status?wait=30").json() for item in queued]
    assert all(item["status"] == "completed" for item in started)
    assert [item["started_at"] for item in started] == sorted(item["started_at"] for item in started)


@pytest.mark.bubblewrap
def test_what_is_left_behind_is_dead_before_the_result_is_given(live: Api) -> None:
    session_id = live.session()
    code = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n    signal.signal(15, signal.SIG_IGN)\n"
        "    if os.fork() == 0:\n"
        "        while True: open('/workspace/alive', 'a').write('x'); time.sleep(0.005)\n"
        "    os._exit(0)\n"
        "while not os.path.exists('/workspace/alive'): time.sleep(0.005)\n"
    )
    assert live.run(session_id, code)["status"] == "success"
    size = "import os, time; a = os.path.getsize('alive'); time.sleep(0.1); print(os.path.getsize('alive') - a)"
    assert live.run(session_id, size)["stdout"] == "0\n"


def test_who_waited_since_before_the_sandbox_was_there_is_shown_what_it_says(
    transactional_db: None, tmp_path: Path
) -> None:
    NodeFactory()
    api = Api()
    execution = ExecutionFactory(session__project=api.project, session__status="creating")
    answers: list = []

    def ask() -> None:
        try:
            answers.append(api.get(f"/executions/{execution.pk}/result?wait=2"))
        finally:
            connections.close_all()

    def behave(request: str, connection: socket.socket) -> None:
        events = [{"t": "started", "at": 1.0}, {"t": "stdout", "o": 0, "d": base64.b64encode(b"so far").decode()}]
        connection.sendall(EVENTS + b"".join(json.dumps(event).encode() + b"\n" for event in events))

    with executor(tmp_path / "x.sock", behave) as sandbox:
        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: wakeups._exchange().listen(execution.topic).waiters.get(execution.topic))
        container = ContainerFactory(socket=str(sandbox.path), ref=None)
        Session.objects.filter(pk=execution.session_id).update(status="running", container=container)
        Execution.objects.filter(pk=execution.pk).update(status="running")
        asking.join(20)
    assert (answers[0].json()["status"], answers[0].json()["stdout"]) == ("running", "so far")
