"""What the executor makes of whatever a run's process says, the host reads: user code can't have its session ended by an odd answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executions_app.services import drive
from executor import starter
from executor.results import HEADER, MAX_DEPTH
from executor.runs import OUTCOMES, Run, fit
from runtime.drivers.executor_client import Event, Result, protocol

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
SPEC = {"language": "python", "timeout": 1.0, "request_id": None}

any_text = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates as well
long_text = st.builds(str.__mul__, any_text, st.sampled_from([1, 1000, 8192, 30_000, 100_000]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
nested = st.integers(1, 400).map(lambda depth: "[" * depth + "]" * depth)
json_texts = st.builds(json.dumps, json_values, indent=st.none() | st.just(1), ensure_ascii=st.booleans())
errors = st.fixed_dictionaries(
    {}, optional={key: long_text | json_values for key in ("type", "message", "traceback", "more")}
)
frames = st.fixed_dictionaries(
    {"outcome": st.sampled_from(OUTCOMES)},
    optional={
        "exit_code": st.integers() | json_values,
        "return_value": json_texts | nested | long_text | json_values,
        "error": errors | json_values,
        "more": json_values,
    },
)
# What PID 1 measures itself, within what a kernel may say.
seconds = st.floats(0, 1e9)


def read(run: Run, body: bytes) -> Event:
    """The result that follows from this frame, as the host reads it."""
    run.feed_result(HEADER.pack(len(body), bytes.fromhex(run.nonce)) + body)
    run.finish()
    (result,) = protocol.EventStream(follow=True).feed(HEAD + run.result_line)
    return result


@settings(deadline=None, max_examples=300)
@given(
    frame=frames,
    escaped=st.booleans(),
    status=st.none() | st.integers(0, 2**16 - 1),
    cpu=seconds,
    lasted=seconds,
    rss=st.integers(0, 2**40),
    printed=st.binary(max_size=20),
    size=st.integers(0, 2**63 - 1),
)
def test_whatever_a_run_claims_the_host_can_read_the_result(frame, escaped, status, cpu, lasted, rss, printed, size):
    run = Run(1, "exec_1", dict(SPEC), 20001)
    run.state, run.started, run.ended, run.status = "running", 5.0, 5.0 + lasted, status
    run.account(cpu, rss)
    run.streams["stderr"].feed(printed)
    run.artifacts = [{"path": "a", "size": size, "change": "created"}]
    body = json.dumps(frame, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert isinstance(read(run, body), Result)


@pytest.mark.parametrize(("depth", "outcome"), [(MAX_DEPTH, "ok"), (MAX_DEPTH + 1, "invalid_result")])
def test_what_is_nested_deeper_than_a_handler_may_return_is_no_result(depth, outcome):
    """How deep a reader can go depends on where it stands: the host's web server stands deeper than PID 1."""
    run = Run(1, "exec_1", dict(SPEC), 20001)
    value = '{"a":' * depth + "1" + "}" * depth
    assert read(run, json.dumps({"outcome": "ok", "return_value": value}).encode()).outcome == outcome


@given(long_text, st.integers(0, 50))
def test_text_is_made_to_fit(words, most):
    fitted = fit(words, most)
    assert len(fitted.encode()) <= most
    if not any("\ud800" <= char <= "\udfff" for char in words):
        assert words.startswith(fitted) and len(fitted.encode()) > min(most, len(words.encode())) - 4


def test_the_host_is_more_patient_than_the_executor():
    """Or it would destroy healthy sandboxes: one that starts a run late, or looks at a large workspace at its end."""
    assert drive.START_PATIENCE >= starter.START_PATIENCE
    assert drive.HOST_GRACE >= starter.SCAN_PATIENCE + 3, "what is killed takes its time to die"
