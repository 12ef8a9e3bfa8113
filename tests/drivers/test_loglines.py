"""Lines of a log: the executor's in words, anybody's inert and bounded."""

import datetime as dt
import json

import pytest

from runtime.drivers.loglines import CUT, MAX_LINE, shown

WHEN = dt.datetime(2026, 1, 6, 11, 0, 0, 361999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
TIME = "2026-01-06T10:00:00.361Z "


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"time": 1, "level": "info", "event": "ready", "pid": 1}, "[INFO] ready pid=1"),
        ({"level": "warning", "event": "two words"}, "[WARNING] two words"),
        ({"level": "error", "event": "e", "socket": "/run/a.sock", "error": "E('x')"}, """[ERROR] e socket=/run/a.sock error="E('x')" """),
        ({"level": "info", "event": "e", "a": None, "b": True, "c": [1, {"d": "é"}]}, '[INFO] e a=null b=true c=[1,{"d":"é"}]'),
        ({"level": "info", "event": "e", "a": "1 b=2", "": ""}, '[INFO] e a="1 b=2" ""=""'),
    ],
)  # fmt: skip
def test_a_line_of_the_executor_is_shown_in_words(fields, words):
    assert shown(WHEN, json.dumps(fields)) == f"{TIME}{words.strip()}\n"


@pytest.mark.parametrize(
    "line",
    ["Traceback:", "  at <x>", "", "[]", "1", '{"level": "info"}', '{"event": "e"}', '{"level": "fatal", "event": "e"}',
     '{"level": ["info"], "event": "e"}', '{"level": "info", "event": 1}', '{"level": "info", "event": "e"'],
)  # fmt: skip
def test_any_other_line_stands_behind_its_time(line):
    assert shown(WHEN, line) == f"{TIME}{line}\n"


@pytest.mark.parametrize(
    "hostile",
    ["\x1b]0;title\x07", "a\rb", "a\nb", "a\x0bb\x0cc\x85d\u2028e\u2029f", "\0", "\u202eevil", "\ud800", "\x9b2J"],
)  # fmt: skip
def test_no_character_acts_upon_who_reads_it(hostile):
    for line in (hostile, json.dumps({"level": "info", "event": hostile, hostile: hostile, "list": [hostile]})):
        text = shown(WHEN, line)
        assert text.removesuffix("\n").isprintable() and text.splitlines() == [text.removesuffix("\n")]
        assert text.encode()


@pytest.mark.parametrize(
    "line",
    ["A" * 10**6, "\x1b" * 10**6, "[" * 10**6, '{"a":' * 10**5, "9" * 10**6, '{"level": "info", "event": "' + "e" * 8000 + '"}',
     '{"level": "info", "event": "e", "n": ' + "[" * 900 + "]" * 900 + "}", '{"level": "info", "event": "e", "n": ' + "\\u0000" * 9**5],
    ids=range(8),
)  # fmt: skip
def test_a_line_is_bounded(line):
    assert len(shown(WHEN, line)) <= len(TIME) + MAX_LINE + len(CUT) + 1
