"""Generated programs print, return and end in the sandbox as they do under plain python3, node and bash."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "24"))
bounded = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
OPERATORS = st.sampled_from(["+", "-", "*", "//", "%", "/", "==", "<", "in"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
codes = st.sampled_from([0, 1, 2, 3, 42, 127, 255, 256, -1])
signals = st.sampled_from([1, 2, 6, 9, 11, 15])


def plain(command: list[str], stdin: bytes, folder) -> tuple[bytes, int, bytes]:
    """What the program prints, how it ends as a shell would say it, and its stderr."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=folder, env={**PLAIN, "HOME": str(folder)}, timeout=20
    )
    return done.stdout, 128 - done.returncode if done.returncode < 0 else done.returncode, done.stderr


def inside(sandbox, code: str, language: str, args: list[str] = [], stdin: bytes = b""):  # noqa: B006
    return sandbox.run(code, language, args=args, stdin=base64.b64encode(stdin).decode())


# Python

python_statements = st.one_of(
    st.builds("print({!r})".format, values),
    st.builds("print({!r}, file=sys.stderr)".format, texts),
    st.builds("os.write(1, {!r})".format, st.binary(max_size=8)),
    st.builds("sys.stdout.write({!r})".format, texts),
    st.builds("try: print(({!r}) {} ({!r}))\nexcept Exception as e: print(type(e).__name__, e)".format,
              st.one_of(numbers, texts, st.lists(numbers, max_size=3)), OPERATORS, st.integers(-9, 9)),
    st.builds("print(sys.stdin.read({}))".format, st.integers(0, 8)),
    st.just("print(sys.argv, __name__, len(sys.stdin.readline()))"),
    st.builds("for i in range({}):\n    print(i, end={!r})".format, st.integers(0, 5), texts),
    st.builds("def f(n): return 1 if n < 2 else n * f(n - 1)\nprint(f({}))".format, st.integers(0, 30)),
    st.builds("print(sorted({!r}.items()))".format, st.dictionaries(texts, st.integers(), max_size=4)),
    st.builds("atexit.register(print, {!r})".format, texts),
    st.builds("threading.Thread(target=print, args=({!r},)).start()\nfor t in threading.enumerate()[1:]: t.join()".format, texts),
)  # fmt: skip
python_ends = st.one_of(
    st.just("pass"),
    st.builds("sys.exit({})".format, codes),
    st.builds("sys.exit({!r})".format, words),
    st.builds("os._exit({})".format, st.integers(0, 255)),
    st.builds("raise ValueError({!r})".format, words),
    st.builds("os.kill(os.getpid(), {})".format, signals),
    st.builds("open({!r})".format, st.just("/nowhere/at/all")),
)


@bounded
@given(st.lists(python_statements, max_size=5), python_ends, st.lists(words, max_size=3), texts.map(str.encode))
def test_python_scripts(shared, tmp_path, statements, end, args, stdin):
    code = "\n".join(["import atexit, os, sys, threading", *statements, end])
    (tmp_path / "main.py").write_text(code)
    stdout, exit_code, stderr = plain(["/usr/bin/python3", "main.py", *args], stdin, tmp_path)
    run = inside(shared, code, "python", args, stdin)
    assert (run.stdout_bytes, run.exit_code) == (stdout, exit_code)
    assert run.outcome == ("ok" if exit_code == 0 else "exception")
    # The places in a traceback differ, not what it says in the end.
    assert run.stderr_bytes.splitlines()[-1:] == stderr.splitlines()[-1:]


@bounded
@given(values, values)
def test_python_return_values(shared, value, event):
    code = f"def handler(event):\n    return [{value!r}, event]"
    run = shared.run(code, event=event)
    assert run.result["return_value"] == json.dumps([value, event], ensure_ascii=False)


# JavaScript

js = json.dumps
javascript_statements = st.one_of(
    st.builds("console.log({})".format, values.map(js)),
    st.builds("console.error({})".format, texts.map(js)),
    st.builds("process.stdout.write({})".format, texts.map(js)),
    st.builds("try {{ console.log({} {} {}) }} catch (e) {{ console.log(e.name) }}".format,
              values.map(js), st.sampled_from(["+", "-", "*", "%", "===", "<", "in", "instanceof"]), values.map(js)),
    st.builds("console.log(process.argv.slice(2), {}.length)".format, texts.map(js)),
    st.builds("setTimeout(() => console.log({}), 1)".format, texts.map(js)),
    st.builds("Promise.resolve({}).then(console.log)".format, values.map(js)),
    st.builds("console.log(require('fs').readFileSync(0, 'utf8').slice(0, {}))".format, st.integers(0, 9)),
    st.builds("for (let i = 0; i < {}; i++) console.log(i)".format, st.integers(0, 5)),
)  # fmt: skip
javascript_ends = st.one_of(
    st.just(""),
    st.builds("process.exitCode = {}".format, st.integers(0, 255)),
    st.builds("process.exit({})".format, st.integers(0, 255)),
    st.builds("throw new TypeError({})".format, words.map(js)),
    st.builds("Promise.reject(new Error({}))".format, words.map(js)),
    st.builds("process.kill(process.pid, {})".format, st.sampled_from([9, 15])),
)


@pytest.mark.skipif(not shutil.which("node", path=PLAIN["PATH"]), reason="no node here")
@bounded
@given(st.lists(javascript_statements, max_size=4), javascript_ends, st.lists(words, max_size=3), texts.map(str.encode))
def test_javascript_scripts(shared, tmp_path, statements, end, args, stdin):
    code = "\n".join(["// generated", *statements, end])
    (tmp_path / "main.js").write_text(code)
    stdout, exit_code, _ = plain(["node", "main.js", *args], stdin, tmp_path)
    run = inside(shared, code, "javascript", args, stdin)
    assert (run.stdout_bytes, run.exit_code) == (stdout, exit_code), run.stderr
    assert run.outcome == ("ok" if exit_code == 0 else "exception")


@pytest.mark.skipif(not shutil.which("node", path=PLAIN["PATH"]), reason="no node here")
@bounded
@given(values, values)
def test_javascript_return_values(shared, tmp_path, value, event):
    body = f"const handler = async (event) => [{js(value)}, event];\n"
    show = f"handler(JSON.parse({js(js(event))})).then((value) => process.stdout.write(JSON.stringify(value)))"
    stdout, _, _ = plain(["node", "-e", body + show], b"", tmp_path)
    run = shared.run(body, "javascript", event=event)
    assert run.result["return_value"] == stdout.decode()


# Shell

shell_statements = st.one_of(
    st.builds("printf '%s\\n' {}".format, words.map(shlex.quote)),
    st.builds("echo {} >&2".format, words.map(shlex.quote)),
    st.builds("echo $(( {} {} {} ))".format, st.integers(-999, 999), st.sampled_from(["+", "-", "*", "<<", "&", "<"]), st.integers(0, 9)),
    st.builds("for i in {}; do echo \"[$i]\"; done".format, st.lists(words.map(shlex.quote), min_size=1, max_size=3).map(" ".join)),
    st.builds("head -c {}".format, st.integers(0, 9)),
    st.just('echo "$# $0"; printf "<%s>" "$@"'),
    st.builds("echo {} | tr a-m n-z | sort | wc -c".format, words.map(shlex.quote)),
    st.builds("(exit {}); echo $?".format, st.integers(0, 255)),
    st.builds("false || echo {} && true; echo ${{PIPESTATUS[0]}}".format, words.map(shlex.quote)),
    st.sampled_from(["set -e", "set -o pipefail", "true", "false", "no-such-command", "echo late & wait", "cd /tmp; pwd"]),
)  # fmt: skip
shell_ends = st.one_of(
    st.just("true"),
    st.just("false"),
    st.builds("exit {}".format, st.integers(0, 300)),
    st.builds("kill -{} $$; sleep 5".format, st.sampled_from([6, 9, 11, 15])),
)


@bounded
@given(st.lists(shell_statements, max_size=5), shell_ends, st.lists(words, max_size=3), texts.map(str.encode))
def test_shell_scripts(shared, tmp_path, statements, end, args, stdin):
    code = "\n".join([*statements, end])
    stdout, exit_code, stderr = plain(["/bin/bash", "-c", code, "main.sh", *args], stdin, tmp_path)
    run = inside(shared, code, "shell", args, stdin)
    assert (run.stdout_bytes, run.exit_code, run.stderr_bytes) == (stdout, exit_code, stderr)
    assert run.outcome == ("ok" if exit_code == 0 else "exception")
