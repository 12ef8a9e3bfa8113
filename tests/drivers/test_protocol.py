"""The client's parser against what a hostile executor may send."""

import base64
import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.drivers.errors import ExecutorProtocolError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import Output, Result, RunRequest, Started, protocol, requests
from runtime.drivers.executor_client.fields import check_json, load_object
from runtime.drivers.executor_client.file_values import FileInfo, parse_file_info

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"


def result(**changes):
    value = {
        "t": "result",
        "outcome": "ok",
        "exit_code": 0,
        "return_value": '{"a": 1}',
        "error": None,
        "duration_ms": 75.2,
        "cpu_time_ms": 68,
        "peak_memory_mb": 42.5,
        "stdout_bytes": 5,
        "stderr_bytes": 0,
        "stdout_omitted": 0,
        "stderr_omitted": 0,
        "artifacts": [{"path": "out.csv", "size": 12, "change": "created"}],
        "artifacts_truncated": False,
    }
    return {key: item for key, item in {**value, **changes}.items() if item is not ...}


def output(stream="stdout", offset=0, data=b"hello"):
    return {"t": stream, "o": offset, "d": base64.b64encode(data).decode()}


def lines(*events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def read(*events, follow=True, **offsets):
    stream = protocol.EventStream(follow, **offsets)
    return stream.feed(HEAD + lines(*events))


def test_a_run_is_read_event_by_event():
    started, said, complained, end = read(
        {"t": "started", "at": 1767693900.25}, output(), output("stderr", 7, b"\xff\x00"), result()
    )
    assert started == Started(at=1767693900.25)
    assert said == Output("stdout", 0, b"hello") and complained == Output("stderr", 7, b"\xff\x00")
    assert isinstance(end, Result) and end.return_value == '{"a": 1}' and end.artifacts[0].path == "out.csv"
    assert end.error is None and end.cpu_time_ms == 68


@given(st.lists(st.integers(1, 200), max_size=30))
def test_how_the_bytes_are_cut_changes_nothing(cuts):
    raw = HEAD + lines({"t": "started", "at": 1}, output(), output(offset=900), result())
    stream, events, rest = protocol.EventStream(follow=True), [], raw
    for cut in cuts:
        if rest[:cut]:
            events += stream.feed(rest[:cut])
        rest = rest[cut:]
    if rest:
        events += stream.feed(rest)
    assert events == read({"t": "started", "at": 1}, output(), output(offset=900), result())
    stream.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "fine"},
        {"outcome": None},
        {"exit_code": "0"},
        {"exit_code": True},
        {"exit_code": 2**31},
        {"exit_code": -(2**31) - 1},
        {"return_value": {"a": 1}},
        {"return_value": "{"},
        {"return_value": "NaN"},
        {"return_value": "[" * 100_000},
        {"return_value": '"' + "x" * (1 << 20) + '"'},
        {"error": "boom"},
        {"error": {"type": "E", "message": "m"}},
        {"error": {"type": "E", "message": "m", "traceback": "t" * 300_000}},
        {"error": {"type": "E", "message": "m", "traceback": None, "more": 1}},
        {"duration_ms": "75"},
        {"duration_ms": -1},
        {"duration_ms": None},
        {"stdout_bytes": 1.5},
        {"stdout_bytes": -1},
        {"stdout_bytes": 2**70},
        {"artifacts": {}},
        {"artifacts": [{"path": "", "size": 1, "change": "created"}]},
        {"artifacts": [{"path": "a\0b", "size": 1, "change": "created"}]},
        {"artifacts": [{"path": "p" * 5000, "size": 1, "change": "created"}]},
        {"artifacts": [{"path": "a", "size": 1, "change": "deleted"}]},
        {"artifacts": ["a"]},
        {"artifacts_truncated": 0},
        {"artifacts_truncated": ...},
        {"surprise": 1},
        {"error": {"type": "\ud800", "message": "", "traceback": None}},
    ],
    ids=str,
)
def test_a_result_is_checked_field_by_field(changes):
    with pytest.raises(ExecutorProtocolError):
        read(result(**changes))


@pytest.mark.parametrize(
    "raw",
    [
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\n",
        b"\xff\xfe\n",
        b"{\n",
        b'{"t": "stdout", "o": 0, "d": "@@@@"}\n',
        b'{"t": "stdout", "o": 0, "d": "aGk"}\n',
        b'{"t": "stdout", "o": -1, "d": ""}\n',
        b'{"t": "stdout", "o": 0, "o": 1, "d": ""}\n',
        b'{"t": "stdout", "o": 0, "d": "", "x": 1}\n',
        b'{"t": "stdout", "o": 9223372036854775807, "d": "aGk="}\n',
        b'{"t": "stdout", "o": 1e400, "d": ""}\n',
        b'{"t": "started", "at": NaN}\n',
        b'{"t": "started", "at": 1e400}\n',
        b'{"t": "started", "at": ' + b"9" * 5000 + b"}\n",
        b'{"t": "started", "at": 1}\n{"t": "started", "at": 1}\n',
        b'{"t": "exit"}\n',
        b'{"t": {}}\n',
        b'{"a":' * 50_000 + b"\n",
    ],
    ids=lambda raw: raw[:40].decode(errors="replace"),
)
def test_an_event_out_of_place_is_refused(raw):
    with pytest.raises(ExecutorProtocolError):
        protocol.EventStream(follow=True).feed(HEAD + raw)


def test_nothing_may_follow_the_result():
    with pytest.raises(ExecutorProtocolError):
        read(result(), output())


def test_output_never_goes_back():
    with pytest.raises(ExecutorProtocolError):
        read(output(offset=0), output(offset=4))
    with pytest.raises(ExecutorProtocolError):
        read(output(offset=0), stdout=3)
    assert len(read(output(offset=0), output(offset=5), output(offset=1000))) == 3


def test_an_event_without_end_is_refused_before_it_fills_the_memory():
    stream = protocol.EventStream(follow=True)
    stream.feed(HEAD + b"x" * protocol.MAX_LINE)
    with pytest.raises(ExecutorProtocolError):
        stream.feed(b"x")


def test_what_is_not_followed_has_an_end():
    stream = protocol.EventStream(follow=False)
    stream.feed(HEAD)
    flood = b"".join(lines(output(offset=index * 700_000, data=b"x" * 700_000)) for index in range(20))
    with pytest.raises(ExecutorProtocolError):
        stream.feed(flood)


def test_an_end_before_the_result_is_a_broken_connection():
    for follow, raw in (
        (True, b""),
        (True, HEAD),
        (True, HEAD + lines(output())),
        (False, HEAD + b'{"t"'),
        (False, b"HT"),
    ):
        stream = protocol.EventStream(follow)
        if raw:
            stream.feed(raw)
        with pytest.raises(ExecutorUnavailable):
            stream.close()
    stream = protocol.EventStream(follow=False)
    stream.feed(HEAD + lines(output()))
    stream.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK",
        b"HTTP/2 200 OK",
        b"200 OK",
        b"HTTP/1.1 999 OK",
        b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nA : 1",
        b"HTTP/1.1 200 OK\r\nA: \x01",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip",
        b"HTTP/1.1 200 OK\nA: 1",
    ],
)
def test_a_malformed_head_is_refused(head):
    with pytest.raises(ExecutorProtocolError):
        protocol.parse_head(head)


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "0x5", "", "9" * 30, "٣"])
def test_a_length_is_plain_digits(length):
    with pytest.raises(ExecutorProtocolError):
        protocol.Head(200, {"content-length": length}).length()


def test_a_head_without_end_is_refused():
    with pytest.raises(ExecutorProtocolError):
        protocol.Answer().feed(b"HTTP/1.1 200 OK\r\n" + b"A" * protocol.MAX_HEAD)


def test_an_error_is_told_by_its_code():
    body = b'{"error": "busy", "message": "every slot is taken"}'
    raw = b"HTTP/1.1 429 Too Many\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for split in (10, 90, len(raw) - 5):
        stream = protocol.EventStream(follow=True)
        assert stream.feed(raw[:split]) == []
        with pytest.raises(ExecutorRefused) as caught:
            stream.feed(raw[split:])
        assert (caught.value.status, caught.value.code) == (429, "busy")


def test_an_error_in_a_shape_of_its_own_is_no_error_of_the_protocol():
    for body in (b"<html>", b"{}", b'{"error": 5, "message": ""}', b""):
        raw = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        answer = protocol.JsonAnswer()
        answer.feed(raw)
        with pytest.raises(ExecutorProtocolError):
            answer.value()


@pytest.mark.parametrize("status", [b"204 No", b"301 Moved", b"101 Switching"])
def test_an_event_stream_comes_with_200_or_201(status):
    with pytest.raises(ExecutorProtocolError):
        protocol.EventStream(follow=True).feed(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: application/x-ndjson\r\n\r\n{"
        )


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(raw):
    for prefix in (b"", HEAD, b"HTTP/1.1 500 X\r\nContent-Length: 20\r\n\r\n"):
        stream = protocol.EventStream(follow=True)
        with contextlib.suppress(ExecutorProtocolError, ExecutorRefused, ExecutorUnavailable):
            if prefix + raw:
                stream.feed(prefix + raw)
            stream.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(result())), json_values, max_size=4))
def test_wrong_values_raise_nothing_else(changes):
    with contextlib.suppress(ExecutorProtocolError):
        read({**result(), **changes})


def test_strict_json():
    for raw in (b'{"a": 1, "a": 2}', b'{"a": Infinity}', b'{"a": -Infinity}', b"1", b'{"a": 1}x', b"\xef\xbb\xbf{}"):
        with pytest.raises(ExecutorProtocolError):
            load_object(raw)


def test_a_return_value_is_any_json_text():
    for text in (
        "0",
        "false",
        '""',
        "null",
        "[]",
        "9" * 10_000,
        "1e400",
        '"\\ud800"',
        '{"a": 1, "a": 2}',
        "[" * 200 + "]" * 200,
    ):
        check_json(text)


def test_a_run_request_is_strict_json():
    request = RunRequest("python", "x = 'ä'", event='{"n": 1e22}', stdin=b"\xff", args=("a",), env={"A": "1\n2"})
    body = json.loads(request.encode())
    assert body["event"] == '{"n": 1e22}' and body["stdin"] == "/w==" and body["env"] == {"A": "1\n2"}
    assert "request_id" not in body
    with pytest.raises(UnicodeEncodeError):
        RunRequest("python", "\ud800").encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunRequest("python", "", timeout=float("nan")).encode()


@pytest.mark.parametrize("run_id", ["", "a/b", "..", "a b", "a\r\nX: 1", "ä", "x" * 129, "a?b"])
def test_what_is_no_run_id_never_gets_on_the_wire(run_id):
    with pytest.raises(ValueError, match="not a run id"):
        requests.run_target(run_id)


def test_targets_and_heads():
    assert requests.run_target("exec_1", follow=1, stdout=0, stderr=5) == "/v1/runs/exec_1?follow=1&stderr=5"
    assert requests.file_target("a b/ü?#\r\n.txt", 5, 10) == "/v1/files/a%20b/%C3%BC%3F%23%0D%0A.txt?offset=5&length=10"
    assert requests.file_target("x", length=0) == "/v1/files/x?length=0"
    assert requests.list_target("a&b", True, 7) == "/v1/files?prefix=a%26b&recursive=1&limit=7"
    assert b"X-Request-ID" not in requests.request_head("GET", "/", request_id="a\r\nEvil: 1")
    assert b"X-Request-ID: abc\r\n" in requests.request_head("GET", "/", request_id="abc")


def test_a_file_whose_headers_contradict_each_other_is_refused():
    good = {"content-length": "5", "x-file-size": "9", "x-file-mtime": "1.5", "etag": '"a"'}
    assert parse_file_info(protocol.Head(200, good)) == FileInfo(9, 5, 1.5, '"a"')
    for change in (
        {"content-length": "10"},
        {"x-file-size": "x"},
        {"x-file-mtime": "nan"},
        {"x-file-mtime": "1e15"},
        {"etag": "e" * 300},
    ):
        with pytest.raises(ExecutorProtocolError):
            parse_file_info(protocol.Head(200, {**good, **change}))
    with pytest.raises(ExecutorProtocolError):
        parse_file_info(protocol.Head(200, {}))
