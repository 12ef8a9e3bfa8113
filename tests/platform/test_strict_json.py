"""Bodies: JSON as RFC 8259 has it, and nothing else."""

import json
from typing import Any

import pytest
from django.test.client import FakePayload

from sandbox_platform.errors import ApiError
from sandbox_platform.parsers import MAX_BODY, strict_loads
from tests.api.client import Api, error_of


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        10**40,
        1.5,
        1e22,
        1e-300,
        "",
        "\0",
        "\U0001f600",
        "é",
        [],
        {},
        [[[]]],
        {"": {"": 1}},
        {"a\0": 1},
    ],
    ids=repr,
)
def test_values_arrive_as_themselves(value: object) -> None:
    for ascii_only in (True, False):
        assert repr(strict_loads(json.dumps(value, ensure_ascii=ascii_only).encode())) == repr(value)


def test_numbers_keep_their_kind() -> None:
    assert repr(strict_loads(b"[1, 1.0, 1e0, -0.0, 1E+2]")) == "[1, 1.0, 1.0, -0.0, 100.0]"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        *[(data, "not valid JSON")
          for data in (b"", b"{", b"{}x", b"[1,]", b"'a'", b"9" * 5000, b"\xef\xbb\xbf{}", b'"\n"', b"// x\n{}",
                       b"0x1", b"+1", b".5", b"01")],
        (b"NaN", "NaN is not JSON"), (b"Infinity", "Infinity is not JSON"), (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e400", "out of range"), (b"-1e400", "out of range"),
        (b'{"a":1,"a":1}', "duplicate key 'a'"), (b'[{"x":{"b":1,"\\u0062":2}}]', "duplicate key 'b'"),
        (b'"\\ud800"', "lone surrogate"), (b'"\\udc00\\ud800"', "lone surrogate"), (b'{"\\ud800":1}', "lone surrogate"),
        (b"\xff", "not UTF-8: byte 0"), (b'"\xed\xa0\x80"', "not UTF-8"), ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 200_000, "too deep"), (b'{"a":' * 200_000, "too deep"),
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_what_is_not_json_is_400(data: bytes, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        strict_loads(data)
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    assert words in caught.value.detail
    assert len(caught.value.detail) < 400


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert strict_loads(b'"\\ud83d\\ude00"') == "\U0001f600"


def post(api: Api, raw: bytes, **environ: Any) -> Any:
    headers = {"Authorization": f"Bearer {api.token}"}
    return api.client.generic("POST", "/api/v1/sessions", raw, "application/json", headers=headers, **environ)


def test_a_declared_size_is_believed_before_a_byte_is_read(db: None) -> None:
    class Unread(FakePayload):
        def read(self, *args: Any) -> bytes:
            raise AssertionError("the body was read")

    error_of(post(Api(), b"x", CONTENT_LENGTH=str(MAX_BODY + 1), **{"wsgi.input": Unread()}), 413, "PayloadTooLarge")


def test_the_largest_body_is_read_and_a_byte_more_is_413(db: None) -> None:
    api = Api()
    error_of(post(api, b" " * (MAX_BODY - 2) + b"{}"), 400, "InvalidParameter")
    error_of(post(api, b" " * (MAX_BODY - 1) + b"{}"), 413, "PayloadTooLarge")


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_utf8_may_be_said(db: None, charset: str) -> None:
    answer = Api().post("/sessions", {"template_id": "none"}, content_type=f"application/json; charset={charset}")
    error_of(answer, 404, "TemplateNotFound")


def test_identity_may_be_said(db: None) -> None:
    answer = Api().post("/sessions", {"template_id": "none"}, headers={"Content-Encoding": "identity"})
    error_of(answer, 404, "TemplateNotFound")
