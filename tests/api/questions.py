"""What every endpoint is asked. One file per endpoint subclasses these and adds what is its own."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from executions_app.models import Execution
from sandbox_platform.models import IdempotencyRecord, Project
from sessions_app.models import Session
from tests.api.client import Api, error_of
from tests.factories import ContainerFactory, ExecutionFactory, SessionFactory

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
REQUEST_ID = {"X-Request-ID": "the-same-for-both"}


def rows_of(project: Project) -> dict[str, str]:
    """A running session of the project with its container, an execution there; their ids by name."""
    container = ContainerFactory()
    session = SessionFactory(project=project, status="running", container=container)
    execution = ExecutionFactory(session=session)
    return {
        "session": session.pk,
        "execution": execution.pk,
        "container": container.ref[:12],
        "template": "python-basic",
        "file": "data/input.csv",
    }


UNKNOWN = {
    "session": "sess_0000000000000000",
    "execution": "exec_20260106_0000000000000000",
    "container": "000000000000",
    "template": "no-such-template",
}


class Questions:
    """`path` is below /api/v1; `{session}`, `{execution}`, `{container}`, `{template}` and `{file}` in it stand for ids."""

    method: ClassVar[str] = "GET"
    path: ClassVar[str]
    # Every method that the path knows.
    methods: ClassVar[set[str]]
    body: ClassVar[Any] = None
    scopes: ClassVar[list[str]] = []

    @pytest.fixture
    def caller(self, api: Api) -> Api:
        return Api(scopes=self.scopes)

    @pytest.fixture
    def ids(self, caller: Api) -> dict[str, str]:
        return rows_of(caller.project)

    def call(self, api: Api, ids: dict[str, str], **kwargs: Any) -> Any:
        return api.call(self.method, self.path.format(**ids), self.body, **kwargs)

    def test_without_a_valid_token_it_is_401(self, caller: Api, ids: dict[str, str]) -> None:
        token, other = caller.token, caller.token[:-1] + ("A" if caller.token[-1] != "A" else "B")
        headers = [None, "", "Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearer nope", token, f"Token {token}", f"Bearer {token}x",
                   f"Bearer {other}", f"Bearer {token}, Bearer {token}", f"Bearer {token} {token}", f"Bearer {token}\0",
                   "Bearer " + "a" * 2**20]  # fmt: skip
        for header in headers:
            answer = caller.client.generic(
                self.method, f"/api/v1{self.path.format(**ids)}?token={token}", b"{", "application/json",
                headers={} if header is None else {"Authorization": header},
            )  # fmt: skip
            error_of(answer, 401, "Unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer"), header
        assert not IdempotencyRecord.objects.exists()

    def test_another_method_is_405_and_the_right_ones_are_named(self, caller: Api, ids: dict[str, str]) -> None:
        for method in set(METHODS) - self.methods:
            answer = caller.call(method, self.path.format(**ids))
            error_of(answer, 405, "MethodNotAllowed")
            assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == self.methods


class IdQuestions(Questions):
    """Where an id stands in the path. `not_found` is the 404 for one that is not there."""

    not_found: ClassVar[str]

    def test_another_projects_id_is_answered_as_one_that_does_not_exist(self, caller: Api, stranger: Api) -> None:
        theirs = rows_of(stranger.project)
        for name in ("session", "execution", "container"):
            if f"{{{name}}}" not in self.path:
                continue
            foreign = self.call(caller, theirs, headers=REQUEST_ID)
            unknown = self.call(caller, {**theirs, name: UNKNOWN[name]}, headers=REQUEST_ID)
            error_of(foreign, 404, self.not_found)
            assert foreign.content.decode().replace(theirs[name], "ID") == unknown.content.decode().replace(
                UNKNOWN[name], "ID"
            )
            assert dict(foreign.headers) == dict(unknown.headers)

    @pytest.mark.parametrize(
        "bad", ["x", "%00", "..%2F..", "%ff%fe", "a" * 500, "sess_'; DROP TABLE", "ſess_é", "%F0%9F%92%A9"]
    )
    def test_an_odd_id_is_404(self, caller: Api, ids: dict[str, str], bad: str) -> None:
        names = [name for name in UNKNOWN if f"{{{name}}}" in self.path]
        answer = caller.call(self.method, self.path.format(**{**ids, names[0]: bad}), self.body)
        assert answer.status_code == 404, answer.content
        assert answer.json()["error_code"] in (f"Sandbox.{self.not_found}", "Sandbox.NotFound")


class BodyQuestions:
    """Of operations that take JSON."""

    method: Any
    path: Any
    body: Any

    @pytest.mark.parametrize(
        "raw",
        [b"{", b"", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e400}', b'{"a": 1, "a": 1}',
         b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a":' + b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}", b"{} {}", b"\xef\xbb\xbf{}",
         b"{'a': 1}", b'{"a": 01}', b'{"a": "\t"}', b'{"\\u0000": "\\u0000"}'],
        ids=lambda raw: repr(raw)[:24],
    )  # fmt: skip
    def test_a_malformed_body_is_400(self, caller: Api, ids: dict[str, str], raw: bytes) -> None:
        answer = caller.call(self.method, self.path.format(**ids), raw=raw)
        if raw == b"" and answer.status_code < 300:
            return  # all of it is optional
        error_of(answer, 400, "InvalidParameter")

    @pytest.mark.parametrize(
        ("content_type", "headers"),
        [("text/plain", {}), ("application/x-www-form-urlencoded", {}), ("multipart/form-data; boundary=x", {}), ("application/xml", {}),
         ("application/json; charset=utf-16", {}), ("application/json; charset=latin-1", {}), ("", {}),
         ("application/json", {"Content-Encoding": "gzip"}), ("application/json", {"Content-Encoding": "br"})],
    )  # fmt: skip
    def test_anything_but_plain_json_is_415(
        self, caller: Api, ids: dict[str, str], content_type: str, headers: dict[str, str]
    ) -> None:
        answer = caller.call(
            self.method, self.path.format(**ids), self.body or {"a": 1}, content_type=content_type, headers=headers
        )
        error_of(answer, 415, "UnsupportedMediaType")

    def test_a_body_that_declares_too_much_is_413(self, caller: Api, ids: dict[str, str]) -> None:
        raw = json.dumps({"a": "x" * (8 * 2**20)}).encode()
        error_of(caller.call(self.method, self.path.format(**ids), raw=raw), 413, "PayloadTooLarge")

    def test_an_unknown_field_is_400_and_named(self, caller: Api, ids: dict[str, str]) -> None:
        answer = caller.call(self.method, self.path.format(**ids), {**(self.body or {}), "surprise": 1})
        body = error_of(answer, 400, "InvalidParameter")
        assert "surprise" in body["error_detail"] or "takes no body" in body["error_detail"]


class IdempotencyQuestions:
    """Of POSTs. `other_body` is a valid body that differs (None where the operation takes none)."""

    other_body: ClassVar[Any] = None

    def _post(self, caller: Api, ids: dict[str, str], body: Any, key: str) -> Any:
        return caller.post(self.path.format(**ids), body, headers={"Idempotency-Key": key})  # type: ignore[attr-defined]

    def _count(self) -> tuple[int, int]:
        return Session.objects.count(), Execution.objects.count()

    def test_the_same_key_and_body_give_the_first_answer_again(self, caller: Api, ids: dict[str, str]) -> None:
        first = self._post(caller, ids, self.body, "k1")  # type: ignore[attr-defined]
        before = self._count()
        again = self._post(caller, ids, self.body, "k1")  # type: ignore[attr-defined]
        assert first.status_code in (200, 201), first.content
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers.get("Location") == first.headers.get("Location")
        assert self._count() == before

    def test_the_same_key_with_another_body_is_409(self, caller: Api, ids: dict[str, str]) -> None:
        if self.other_body is None:
            pytest.skip("it takes no body")
        self._post(caller, ids, self.body, "k1")  # type: ignore[attr-defined]
        before = self._count()
        error_of(self._post(caller, ids, self.other_body, "k1"), 409, "Conflict")
        assert self._count() == before

    @pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256])
    def test_an_odd_key_is_400(self, caller: Api, ids: dict[str, str], key: str) -> None:
        error_of(self._post(caller, ids, self.body, key), 400, "InvalidParameter")  # type: ignore[attr-defined]


class ListQuestions(Questions):
    """Of lists: `plural` names the rows."""

    plural: ClassVar[str]

    def make(self, caller: Api, ids: dict[str, str]) -> str:
        """One more row for the caller; its id in the list."""
        raise NotImplementedError

    def id_of(self, item: dict[str, Any]) -> str:
        return next(str(item[key]) for key in ("execution_id", "container_id", "session_id", "id") if key in item)

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=-1", "limit=201", "limit=1e3", "limit=abc", "limit=", "limit=%D9%A1", "limit=1&limit=2", "limit=" + "9" * 5000,
         "offset=-1", "offset=x", "offset=", "offset=99999999999999999999", "surprise=1", "limit=1.0", "limit=%00", "limit=+1"],
        ids=lambda query: query[:24],
    )  # fmt: skip
    def test_a_bad_page_is_400(self, caller: Api, ids: dict[str, str], query: str) -> None:
        error_of(caller.get(f"{self.path.format(**ids)}?{query}"), 400, "InvalidParameter")

    def test_pages_cover_all_rows_once_and_total_counts_what_matches(self, caller: Api, ids: dict[str, str]) -> None:
        for _ in range(4):
            self.make(caller, ids)
        path = self.path.format(**ids)
        whole = caller.get(path).json()
        assert set(whole) == {self.plural, "total"}
        seen: list[str] = []
        for offset in range(0, whole["total"] + 2, 2):
            page = caller.get(f"{path}?limit=2&offset={offset}").json()
            assert page["total"] == whole["total"]
            seen += [self.id_of(item) for item in page[self.plural]]
        assert seen == [self.id_of(item) for item in whole[self.plural]]
        assert len(set(seen)) == whole["total"] >= 4

    def test_the_number_of_queries_does_not_grow(
        self, caller: Api, ids: dict[str, str], django_assert_num_queries: Any, django_assert_max_num_queries: Any
    ) -> None:
        path = self.path.format(**ids)
        self.make(caller, ids)
        caller.get(path)  # writes when the key was last used
        with django_assert_max_num_queries(8) as first:
            caller.get(path)
        for _ in range(5):
            self.make(caller, ids)
        with django_assert_num_queries(len(first)):
            assert caller.get(path).status_code == 200


class OwnListQuestions(ListQuestions):
    """Of lists of what belongs to a project."""

    def test_another_projects_rows_are_neither_shown_nor_counted(self, caller: Api, stranger: Api) -> None:
        ids, theirs = rows_of(caller.project), rows_of(stranger.project)
        before = caller.get(self.path.format(**ids)).json()
        self.make(stranger, theirs)
        assert caller.get(self.path.format(**ids)).json()["total"] == before["total"]
