"""What Python code is promised: its result, its exit code, its traceback, and a pristine interpreter."""

from __future__ import annotations

from unittest.mock import ANY

import pytest


def handler(body: str) -> str:
    return "def handler(event):\n" + "\n".join("    " + line for line in body.splitlines())


@pytest.mark.parametrize("value", [0, False, [], "", None, {"a": [1, 2.5, "ü\u0000"]}, 1e22, 10**30])
def test_a_result_comes_back_as_it_was_returned(shared, value):
    outcome = shared.run(handler("return event"), event=value)
    assert outcome.outcome == "ok" and outcome.exit_code == 0
    assert outcome.value == value and type(outcome.value) is type(value)


def test_an_async_handler_is_awaited(shared):
    assert (
        shared.run("import asyncio\nasync def handler(e):\n    await asyncio.sleep(0)\n    return e", event=3).value
        == 3
    )


def test_code_without_a_handler_is_a_script(shared):
    outcome = shared.run("import sys\nprint(__name__, sys.argv, sys.stdin.read())", args=["-x"], stdin=b"fed")
    assert (outcome.outcome, outcome.return_value) == ("ok", None)
    assert outcome.stdout == "__main__ ['main.py', '-x'] fed\n"


def test_stdin_is_empty_unless_given(shared):
    assert shared.run("import sys\nprint(repr(sys.stdin.read()))").stdout == "''\n"


def test_stdin_larger_than_a_pipe_arrives_and_may_be_left_unread(shared):
    large = b"x" * 1_000_000
    assert shared.run("import sys\nprint(len(sys.stdin.read()))", stdin=large).stdout == "1000000\n"
    assert shared.run("pass", stdin=large).outcome == "ok"


def test_a_script_ends_like_an_interpreter(shared):
    code = (
        "import atexit, threading, time\natexit.register(print, 'atexit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\nprint('main')"
    )
    assert shared.run(code).stdout == "main\nthread\natexit\n"


def test_a_handler_that_returned_waits_for_nobody(shared):
    code = "import threading, time\ndef handler(e):\n    threading.Thread(target=time.sleep, args=(15,)).start()\n    return 1"
    outcome = shared.run(code)
    assert outcome.value == 1 and outcome.duration_ms < 5000


@pytest.mark.parametrize(
    ("code", "exit_code", "outcome", "stderr"),
    [
        ("import os; os._exit(7)", 7, "exception", ""),
        ("import os; os._exit(0)", 0, "ok", ""),
        ("import sys; sys.exit('x')", 1, "exception", "x\n"),
        ("import sys; sys.exit(3)", 3, "exception", ""),
        ("import sys; sys.exit(256)", 0, "ok", ""),
        ("raise SystemExit", 0, "ok", ""),
        ("import ctypes; ctypes.string_at(0)", 139, "exception", ""),
        ("import os; os.kill(os.getpid(), 9)", 137, "exception", ""),
        ("import os; os.abort()", 134, "exception", ""),
    ],
)
def test_exit_codes_are_what_the_process_gave(shared, code, exit_code, outcome, stderr):
    ended = shared.run(code)
    assert (ended.exit_code, ended.outcome, ended.stderr) == (exit_code, outcome, stderr)


@pytest.mark.parametrize("body", ["import os; os._exit(0)", "import sys; sys.exit(0)"])
def test_a_handler_that_never_returned_has_no_valid_result(shared, body):
    ended = shared.run(handler(body))
    assert (ended.outcome, ended.exit_code, ended.return_value) == ("invalid_result", 0, None)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("float('nan')", "nan"),
        ("[1e400]", "inf"),
        ("{1, 2}", "set"),
        ("b'x'", "bytes"),
        ("object()", "object"),
        ("{1: 1, 'a': 2}", "mixed"),
        ("{(1,): 1}", "tuple"),
        ("(lambda l: l.append(l) or l)([])", "refers to itself"),
        ("__import__('functools').reduce(lambda a, _: [a], range(100000), [])", "deeper"),
        ("'\\ud800'", "surrogate"),
        ("10 ** 5000", "digits"),
        ("type('R', (), {'__reduce__': lambda s: (print, ('boo',))})()", "R is not JSON"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_words(shared, expression, words):
    ended = shared.run(handler(f"print('kept')\nreturn {expression}"))
    assert (ended.outcome, ended.exit_code, ended.return_value) == ("invalid_result", 0, None)
    assert words in ended.error["message"]
    assert ended.stdout == "kept\n"


def test_number_keys_are_spelled_as_json_dumps_does(shared):
    assert shared.run(handler("return {1: 'a', 2.5: 'b', None: 'c'}")).value == {"1": "a", "2.5": "b", "null": "c"}


def test_a_result_over_a_mebibyte_is_refused(shared):
    assert shared.run(handler("return 'x' * (2**20 - 2)")).outcome == "ok"
    over = shared.run(handler("return 'x' * 2**20"))
    assert (over.outcome, over.return_value) == ("output_limit", None)
    assert shared.run(handler("return 'x' * (50 * 2**20)")).outcome == "output_limit"


def test_a_traceback_shows_the_users_frames_alone(shared):
    ended = shared.run("def inner():\n    raise ValueError('no')\n\ndef handler(event):\n    inner()\n")
    assert (ended.outcome, ended.exit_code) == ("exception", 1)
    assert ended.error["type"] == "ValueError" and ended.error["message"] == "no"
    assert ended.error["traceback"] == (
        "Traceback (most recent call last):\n"
        '  File "<handler>", line 5, in handler\n    inner()\n'
        "  File \"<handler>\", line 2, in inner\n    raise ValueError('no')\n"
        "ValueError: no\n"
    )
    assert ended.stderr == ended.error["traceback"]


def test_our_frames_are_cut_from_causes_and_async_code_too(shared):
    code = "async def handler(e):\n    try:\n        {}['k']\n    except KeyError as k:\n        raise ValueError('v') from k"
    trace = shared.run(code).error["traceback"]
    assert "KeyError: 'k'" in trace and "ValueError: v" in trace
    assert "executor" not in trace and "asyncio" not in trace


def test_a_syntax_error_is_an_exception_with_its_place(shared):
    ended = shared.run("def handler(e):\n  return )\n")
    assert (ended.outcome, ended.exit_code, ended.error["type"]) == ("exception", 1, "SyntaxError")
    assert "line 2" in ended.stderr and "return )" in ended.stderr


@pytest.mark.parametrize(
    "code",
    [
        "handler = 5",
        "handler = None",
        "class handler:\n    def __init__(self, e): pass",
        "def handler(): return 1",
        "def handler(a, b): return 1",
        "def handler(e):\n    yield 1",
        "async def handler(e):\n    yield 1",
    ],
)
def test_what_is_no_proper_handler_is_an_exception(shared, code):
    ended = shared.run(code)
    assert (ended.outcome, ended.exit_code, ended.error["type"]) == ("exception", 1, "TypeError")
    assert "handler" in ended.error["message"] and "TypeError" in ended.error["traceback"]


def test_a_traceback_is_bounded_and_survives_hostile_exceptions(shared):
    huge = shared.run(handler("raise ValueError('x' * 10**7)"))
    assert len(huge.error["traceback"]) < 100_000 and len(huge.error["message"]) < 10_000
    code = "class E(Exception):\n    def __str__(self): raise SystemExit(0)\ndef handler(e): raise E"
    assert shared.run(code).error["type"] == "E"
    assert shared.run("raise type('é' * 200_000, (Exception,), {})").error["type"] == "é" * 1024
    code = "class M(type): __name__ = property(lambda c: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E('m')"
    assert shared.run(code).error == {"type": "E", "message": "m", "traceback": ANY}


def test_patching_the_interpreter_does_not_break_the_result(shared):
    code = (
        "import json, os, sys, builtins, io\n"
        "def handler(event):\n"
        "    json.dumps = json.JSONEncoder.encode = json.JSONEncoder.iterencode = lambda *a, **k: 'forged'\n"
        "    os.write = os._exit = os.getpid = lambda *a: 1/0\n"
        "    builtins.len = builtins.isinstance = builtins.print = None\n"
        "    sys.stdout = sys.stderr = None\n"
        "    return {'ok': 1}\n"
    )
    ended = shared.run(code)
    assert ended.outcome in ("ok", "exception")
    softer = code.replace("    builtins.len = builtins.isinstance = builtins.print = None\n", "")
    assert shared.run(softer).value == {"ok": 1}


def test_the_next_run_sees_a_pristine_interpreter(shared):
    look = (
        "import builtins, json, os, signal, sys, umask\n".replace(", umask", "") + "def handler(e):\n"
        "    mask = os.umask(0)\n"
        "    return [hasattr(builtins, 'evil'), 'evil' in sys.modules, 'EVIL' in os.environ, os.getcwd(), mask,\n"
        "            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, json.dumps({})]\n"
    )
    before = shared.run(look).value
    shared.run(
        "import builtins, json, os, signal, sys\nbuiltins.evil = sys.modules['evil'] = 1\nos.environ['EVIL'] = '1'\n"
        "os.chdir('/tmp')\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\njson.dumps = None\nsys.addaudithook(print)\n"
        "open('/workspace/sitecustomize.py', 'w').write('import builtins; builtins.evil = 1')\n"
        "open('/workspace/json.py', 'w').write('evil')\n"
    )
    assert shared.run(look).value == before == [False, False, False, "/workspace", 0o002, True, "{}"]
    for name in ("sitecustomize.py", "json.py"):
        assert shared.file("DELETE", name).status == 204


def test_random_numbers_differ_from_run_to_run(shared):
    code = "import random\ndef handler(e): return random.random()"
    assert shared.run(code).value != shared.run(code).value


def test_modules_of_the_workspace_can_be_imported_even_one_called_executor(shared):
    shared.file("PUT", "executor.py", b"name = 'mine'")
    assert shared.run("import executor\ndef handler(e): return executor.name").value == "mine"
    shared.file("DELETE", "executor.py")


def test_fake_results_on_stdout_and_on_every_descriptor_stay_output(shared):
    code = (
        "import json, os, struct\n"
        "fake = json.dumps({'outcome': 'ok', 'exit_code': 0, 'return_value': '\"forged\"'}).encode()\n"
        "print(fake.decode())\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    for fd in range(3, 256):\n"
        "        try: os.write(fd, struct.pack('!I', len(fake)) + b'x' * 16 + fake)\n"
        "        except OSError: pass\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "def handler(e): return 'true'\n"
    )
    ended = shared.run(code)
    assert "forged" in ended.stdout and (ended.return_value is None or ended.value == "true")


def test_a_fork_of_the_handler_does_not_answer_for_it(shared):
    code = "import os\ndef handler(e):\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    return pid"
    assert shared.run(code).value > 0


def test_what_was_printed_before_the_deadline_is_kept_without_a_newline(shared):
    ended = shared.run("import sys\nsys.stdout.write('partial')\nwhile True: pass", timeout=0.3)
    assert (ended.outcome, ended.stdout) == ("timeout", "partial")


def test_metrics_are_those_of_the_users_processes(shared):
    ended = shared.run(
        "import subprocess\nx = b'x' * 60_000_000\n"
        "subprocess.run(['python3', '-c', 'import time\\nt=time.process_time()\\nwhile time.process_time()-t < 0.3: pass'])"
    )
    assert ended.cpu_time_ms >= 300 and ended.peak_memory_mb > 57 and ended.duration_ms >= 300


def test_metrics_are_never_missing(shared):
    for _ in range(100):
        ended = shared.run("def handler(e): return 1")
        assert ended.peak_memory_mb > 1 and ended.cpu_time_ms > 0 and ended.duration_ms > 0


def test_what_cannot_be_preloaded_is_told_and_the_rest_works(make_sandbox):
    health = make_sandbox("--preload", "nope,decimal").health()
    assert health["preloaded"] == ["decimal"] and "nope" in health["preload_errors"]["nope"]


def test_run_environment_is_made_from_nothing(shared):
    ended = shared.run("import os\ndef handler(e): return dict(os.environ)", env={"MINE": "1\n2"})
    environment = ended.value
    assert environment.pop("MINE") == "1\n2"
    assert set(environment) == {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONUNBUFFERED"}


def test_working_directory_must_exist(shared):
    assert shared.run("pass", working_directory="nowhere").outcome == "exception"
    code = "import os\ndef handler(e): return os.getcwd()"
    shared.run("import os; os.makedirs('sub/dir', exist_ok=True)")
    assert shared.run(code, working_directory="sub/dir").value == "/workspace/sub/dir"
