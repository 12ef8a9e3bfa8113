"""Shell and JavaScript."""

from __future__ import annotations

import pytest


def test_shell_reads_its_event_and_leaves_its_result(shared):
    ended = shared.run(
        'cat "$SANDBOX_EVENT"; echo " $0 $1"; echo \'{"n": 1e22}\' > "$SANDBOX_RESULT"',
        "shell",
        event=[1],
        args=["a b"],
    )
    assert (ended.outcome, ended.return_value, ended.stdout) == ("ok", '{"n": 1e22}', "[1] main.sh a b\n")


def test_shell_result_may_arrive_by_rename(shared):
    assert shared.run('echo 5 > x.json; mv x.json "$SANDBOX_RESULT"', "shell").value == 5


@pytest.mark.parametrize("text", ["nope", "NaN", "1e400", "[" * 300 + "]" * 300, "[" * 100_000])
def test_shell_result_must_be_strict_json(shared, text):
    ended = shared.run(f'printf %s "{text}" > "$SANDBOX_RESULT"', "shell")
    assert (ended.outcome, ended.return_value, ended.exit_code) == ("invalid_result", None, 0)


def test_shell_result_over_a_mebibyte(shared):
    assert shared.run('head -c 2000000 /dev/zero > "$SANDBOX_RESULT"', "shell").outcome == "output_limit"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("exit 3", 3), ("kill -9 $$", 137), ("no-such-command", 127), ("if", 2)]
)
def test_shell_exit_codes(shared, code, exit_code):
    ended = shared.run(code, "shell")
    assert (ended.outcome, ended.exit_code) == ("exception", exit_code)


def test_shell_streams_can_be_opened_by_name(shared):
    ended = shared.run("echo out > /dev/stdout; echo err > /dev/stderr; cat", "shell", stdin=b"in")
    assert (ended.stdout, ended.stderr) == ("out\nin", "err\n")


def test_a_pipeline_ends_when_its_reader_does(shared):
    ended = shared.run("yes | head -1", "shell")
    assert (ended.outcome, ended.stdout, ended.stderr) == ("ok", "y\n", "")


@pytest.fixture(scope="module")
def node(shared):
    if shared.health()["node"] is None:
        pytest.skip("there is no node on this machine")
    return shared


@pytest.mark.parametrize(
    "code",
    [
        "function handler(event) { return {got: event}; }",
        "const handler = async (event) => ({got: event});",
        "exports.handler = async (event) => ({got: event});",
        "module.exports = { handler: (event) => ({got: event}) };",
    ],
)
def test_javascript_handlers(node, code):
    ended = node.run(code, "javascript", event={"a": [1]})
    assert ended.outcome == "ok" and ended.value == {"got": {"a": [1]}}


def test_javascript_script_and_modules_of_the_workspace(node):
    node.file("PUT", "node_modules/dep/index.js", b"module.exports = 'dep';")
    code = "const os = require('os');\nconsole.log(require('dep'), typeof os.cpus, process.argv[2], process.env.E, process.cwd());"
    ended = node.run(code, "javascript", args=["arg"], env={"E": "env"})
    assert (ended.outcome, ended.return_value, ended.stdout) == ("ok", None, "dep function arg env /workspace\n")


@pytest.mark.parametrize(
    "code",
    [
        "function handler() { throw new TypeError('no'); }",
        "async function handler() { await null; throw new TypeError('no'); }",
        "Promise.reject(new TypeError('no'));",
        "setTimeout(() => { throw new TypeError('no'); }, 1);",
    ],
)
def test_javascript_exceptions_show_the_users_frames(node, code):
    ended = node.run(code, "javascript")
    assert (ended.outcome, ended.exit_code) == ("exception", 1)
    assert (ended.error["type"], ended.error["message"]) == ("TypeError", "no")
    assert "<handler>" in ended.error["traceback"] and "node:" not in ended.error["traceback"]
    assert "TypeError: no" in ended.stderr


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("throw new Error('unexpected character ' + '😀 hello'[0])", "Error", "unexpected character \\ud83d"),
        ("throw new Error('x' + '😀'.repeat(5000))", "Error", "x" + "😀" * 4095),
        ("const e = new Error('m'); e.name = 'é'.repeat(2 ** 21); throw e", "é" * 1024, "m"),
    ],
    ids=["half a character", "cut within a character", "a long name"],
)
def test_javascript_exceptions_are_told_in_text_that_everybody_can_read(node, code, kind, message):
    ended = node.run(code, "javascript")
    assert (ended.error["type"], ended.error["message"]) == (kind, message)


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code"),
    [
        ("function handler() { return NaN }", "invalid_result", 0),
        ("function handler() { return {a: [1/0]} }", "invalid_result", 0),
        ("function handler() { return 1n }", "invalid_result", 0),
        ("function handler() { const a = []; a.push(a); return a }", "invalid_result", 0),
        ("function handler() { return () => 1 }", "invalid_result", 0),
        ("function handler() { process.exit(0) }", "invalid_result", 0),
        ("function handler() { return 'x'.repeat(2**21) }", "output_limit", 0),
        ("process.exit(3)", "exception", 3),
        ("const handler = 5", "exception", 1),
        ("function (", "exception", 1),
        ("function handler() {}", "ok", 0),
    ],
)
def test_javascript_endings(node, code, outcome, exit_code):
    ended = node.run(code, "javascript")
    assert (ended.outcome, ended.exit_code) == (outcome, exit_code)


def test_an_idle_node_waits_only_after_javascript_was_seen(make_sandbox):
    sandbox = make_sandbox()
    if sandbox.health()["node"] is None:
        pytest.skip("there is no node on this machine")
    uids = range(20001, 20005)
    sandbox.run("pass")
    assert not any(sandbox.processes(uid) for uid in uids)
    code = "function handler() { globalThis.count = (globalThis.count || 0) + 1; return [count, process.pid]; }"
    first = sandbox.run(code, "javascript").value
    second = sandbox.run(code, "javascript", run_id="second").value
    assert first[0] == second[0] == 1 and first[1] != second[1]
    while not any(sandbox.processes(uid) for uid in uids):
        sandbox.health()
    assert sandbox.run("def handler(e): return 1").value == 1
