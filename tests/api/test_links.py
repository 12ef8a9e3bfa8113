"""Downloads and uploads past the API: presigned URLs of S3, and signed ones of ours where files are in a folder."""

from __future__ import annotations

import datetime as dt
import http.client
import io
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.utils import timezone

from sessions_app import tasks
from sessions_app.models import PendingUpload, Session, StorageDebt
from sessions_app.services import links, saved, storage
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.factories import SessionFactory
from tests.s3 import BUCKET

BIG = b"0123456789abcdef" * (11 * 2**16)


class TestUploadUrl(IdQuestions):
    method = "POST"
    path = "/sessions/{session}/files/upload-url"
    methods = {"GET", "POST", "DELETE"}
    body = {"path": "a"}
    not_found = "SessionNotFound"


class TestUploadComplete(IdQuestions):
    method = "POST"
    path = "/sessions/{session}/files/upload-complete"
    methods = {"GET", "POST", "DELETE"}
    body = {"upload_id": "x"}
    not_found = "SessionNotFound"


def fetch(api: Api, url: str, method: str = "GET", data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    """By a client that knows nothing of us: over the network where the URL is S3's."""
    if not url.startswith("http://127.0.0.1"):
        headers = {"CONTENT_LENGTH": str(len(data))} if data is not None else {}
        answer = api.client.generic(method, url.removeprefix("http://testserver"), data or b"", "", **headers)
        return answer.status_code, dict(answer.headers), answer.getvalue()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        try:
            return error.code, dict(error.headers), error.read()
        except http.client.IncompleteRead as cut:  # the file was erased while the server began to send it
            return error.code, {}, cut.partial
    except http.client.IncompleteRead as error:  # the file was erased while it was sent
        return 0, {}, error.partial


def forged(url: str) -> str:
    return url[:-1] + ("A" if url[-1] != "A" else "B")


@pytest.mark.bubblewrap
def test_a_download_is_sent_to_a_short_lived_url_of_the_current_copy(live: Api, either: Any) -> None:
    session_id = live.session()
    name = 'b"ig ü.csv'
    url = f"/sessions/{session_id}/files/{quote(name)}"
    live.upload(session_id, name, BIG)
    live.upload(session_id, "small", b"x")

    def is_sent_away() -> bool:
        answer = live.get(f"{url}?redirect=true")
        answer.close()  # an answer that is left open holds a thread of the sandbox, which the copy needs
        return answer.status_code == 307

    eventually(is_sent_away, 60)
    for address in (f"{url}?redirect=true", *([url] if either else [])):
        answer = live.get(address)
        assert (answer.status_code, answer.getvalue(), answer.headers["Cache-Control"]) == (307, b"", "no-store")
        status, headers, body = fetch(live, answer.headers["Location"])
        assert (status, body == BIG) == (200, True)
        assert "attachment" in headers["Content-Disposition"] and quote("ü") in headers["Content-Disposition"]
        assert headers["Content-Type"].startswith("text/csv")
        status, _, body = fetch(live, forged(answer.headers["Location"]))
        assert status in (403, 404) and BIG[:100] not in body
        if either:
            assert int(parse_qs(urlsplit(answer.headers["Location"]).query)["X-Amz-Expires"][0]) <= 300
    eventually(lambda: live.get(f"/sessions/{session_id}/files/small?redirect=true").status_code == 307)
    for address, headers in [
        (f"{url}?redirect=false", {}), (url, {"If-None-Match": '"x"'}),
        (f"/sessions/{session_id}/files/small", {}), *([] if either else [(url, {})]),
    ]:  # fmt: skip
        assert live.get(address, **headers).status_code == 200, address
    assert live.call("HEAD", url).status_code == 200
    # A copy that is not current is never linked to.
    if either:
        either.state = "down"
    StorageDebt.objects.filter(pk=session_id).delete()
    live.run(session_id, "open(event, 'a').write('more')\ndef handler(event): pass", event=name)
    live.run(session_id, f"open({name!r}, 'a').write('more')")
    assert live.get(url).getvalue() == BIG + b"more"
    if either:
        either.state = "up"
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    answer = live.get(f"{url}?redirect=true")
    link = answer.headers["Location"]
    assert fetch(live, link)[2] == BIG + b"more"
    live.delete(f"/sessions/{session_id}?purge=true")
    eventually(lambda: fetch(live, link)[0] == 404)


@pytest.mark.bubblewrap
def test_an_upload_goes_past_the_api_and_then_in(live: Api, either: Any) -> None:
    session_id = live.session()
    offer = live.post(f"/sessions/{session_id}/files/upload-url", {"path": "data/big.bin"}).json()
    assert (offer["method"], offer["headers"]) == ("PUT", {})
    complete = f"/sessions/{session_id}/files/upload-complete"
    error_of(live.post(complete, {"upload_id": offer["upload_id"]}), 404, "FileNotFound")
    assert fetch(live, forged(offer["url"]), "PUT", b"evil")[0] in (403, 404)
    assert fetch(live, offer["url"], "PUT", BIG)[0] == 200
    assert live.get(f"/sessions/{session_id}/files").json()["files"] == []
    other = live.session()
    error_of(
        live.post(f"/sessions/{other}/files/upload-complete", {"upload_id": offer["upload_id"]}),
        400,
        "InvalidParameter",
    )
    error_of(live.post(complete, {"upload_id": forged(offer["upload_id"])}), 400, "InvalidParameter")
    answer = live.post(complete, {"upload_id": offer["upload_id"]})
    assert (answer.status_code, answer.json()) == (200, {"path": "data/big.bin", "size": len(BIG)})
    assert live.run(session_id, "import os\nprint(os.path.getsize('data/big.bin'))")["stdout"] == f"{len(BIG)}\n"
    error_of(live.post(complete, {"upload_id": offer["upload_id"]}), 404, "FileNotFound")


def offered(api: Api, session: Session) -> dict[str, Any]:
    answer = api.post(f"/sessions/{session.pk}/files/upload-url", {"path": "a"})
    assert answer.status_code == 200, answer.content
    return answer.json()


def there(session: Session) -> list[str]:
    """What has come past the sandbox, by its names in the storage."""
    store = storage.current()
    if isinstance(store, storage.Folder):
        return [path.name for path in store._root.glob(f"uploads/{session.pk}/*")]
    pages = store._client.list_objects_v2(Bucket=BUCKET, Prefix=f"uploads/{session.pk}/")
    return [item["Key"] for item in pages.get("Contents", [])]


def test_a_session_has_so_many_uploads_that_are_not_completed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MOST_UPLOADS", 2)
    session, other = (
        SessionFactory(project=api.project, running=True),
        SessionFactory(project=api.project, running=True),
    )
    offers = [offered(api, session) for _ in range(2)]
    refused = api.post(f"/sessions/{session.pk}/files/upload-url", {"path": "a"})
    error_of(refused, 409, "Conflict")
    assert refused.headers["Retry-After"]
    offered(api, other)
    monkeypatch.setattr("sessions_app.services.workspace.upload", lambda *_: 1)
    assert fetch(api, offers[0]["url"], "PUT", b"x")[0] == 200
    complete = {"upload_id": offers[0]["upload_id"]}
    assert api.post(f"/sessions/{session.pk}/files/upload-complete", complete).status_code == 200
    # Nothing comes by a URL that is done with, and another has its place.
    assert fetch(api, offers[0]["url"], "PUT", b"x")[0] == 404
    assert there(session) == []
    offered(api, session)
    error_of(api.post(f"/sessions/{session.pk}/files/upload-url", {"path": "a"}), 409, "Conflict")
    PendingUpload.objects.filter(session=session).update(until=timezone.now() - dt.timedelta(seconds=1))
    offered(api, session)


def test_a_presigned_url_counts_while_it_takes_files(api: Api, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MOST_UPLOADS", 1)
    monkeypatch.setattr("sessions_app.services.workspace.upload", lambda *_: 1)
    session = SessionFactory(project=api.project, running=True)
    offer = offered(api, session)
    assert fetch(api, offer["url"], "PUT", b"x")[0] == 200
    complete = {"upload_id": offer["upload_id"]}
    assert api.post(f"/sessions/{session.pk}/files/upload-complete", complete).status_code == 200
    error_of(api.post(f"/sessions/{session.pk}/files/upload-url", {"path": "a"}), 409, "Conflict")
    assert PendingUpload.objects.get().until <= timezone.now() + dt.timedelta(seconds=links.UPLOAD_LIFE)


def test_uploads_of_a_session_are_not_larger_together_than_its_disk(api: Api) -> None:
    session = SessionFactory(project=api.project, running=True, disk="1Mi")
    first, second = offered(api, session), offered(api, session)
    assert fetch(api, first["url"], "PUT", b"x" * 600_000)[0] == 200
    status, _, body = fetch(api, second["url"], "PUT", b"x" * 600_000)
    assert (status, b"PayloadTooLarge" in body, len(there(session))) == (413, True, 1)
    # What breaks off takes nothing.
    link = second["url"].removeprefix("http://testserver")
    cut = {"content_type": "application/octet-stream", "wsgi.input": io.BytesIO(b"xy")}
    for _ in range(3):
        assert api.client.generic("PUT", link, CONTENT_LENGTH="400000", **cut).status_code == 400
    assert fetch(api, second["url"], "PUT", b"x" * 400_000)[0] == 200


def test_what_comes_to_one_url_at_the_same_time_is_not_larger_than_the_disk_either(api: Api) -> None:
    session = SessionFactory(project=api.project, running=True, disk="1Mi")
    link = offered(api, session)["url"].removeprefix("http://testserver")
    put = {"content_type": "application/octet-stream", "CONTENT_LENGTH": "600000"}
    seen: list[int] = []

    class Slow(io.BytesIO):
        """Another one comes while this one is under way."""

        def read(self, size: int | None = -1, /) -> bytes:
            if not seen:
                seen.append(0)
                seen[0] = api.client.generic("PUT", link, b"x" * 600_000, **put).status_code
            return super().read(size)

    answer = api.client.generic("PUT", link, **put, **{"wsgi.input": Slow(b"x" * 600_000)})
    assert (answer.status_code, seen) == (200, [413])


def test_what_was_never_completed_is_swept_also_what_came_after_the_purge(
    api: Api, either: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SessionFactory(project=api.project, running=True)
    offer = offered(api, session)
    assert fetch(api, offer["url"], "PUT", b"x")[0] == 200
    saved.erase(session.pk)
    assert there(session) == []
    assert fetch(api, offer["url"], "PUT", b"x")[0] == 200
    tasks.sweep_uploads()
    assert len(there(session)) == 1 and PendingUpload.objects.exists()
    monkeypatch.setattr(links, "COMPLETION_LIFE", -60)
    PendingUpload.objects.update(until=timezone.now() - dt.timedelta(seconds=1))
    tasks.sweep_uploads()
    assert there(session) == [] and not PendingUpload.objects.exists()


def test_what_an_upload_url_is_not_for(api: Api) -> None:
    session = SessionFactory(project=api.project, running=True, disk="1Gi")
    url = f"/sessions/{session.pk}/files/upload-url"
    for path in ("", "/x", "../x", "a//b", "a\0b", "x" * 1025):
        error_of(api.post(url, {"path": path}), 400, "InvalidParameter")
    link = api.post(url, {"path": "a"}).json()["url"].removeprefix("http://testserver")
    put = {"content_type": "application/octet-stream"}
    assert api.client.generic("PUT", link, b"x", CONTENT_LENGTH=str(2**30 + 1), **put).status_code == 413
    assert (
        api.client.generic("PUT", link, CONTENT_LENGTH="3", **put, **{"wsgi.input": io.BytesIO(b"xy")}).status_code
        == 400
    )
    assert there(session) == []
    assert api.client.generic("POST", link, b"x", **put).status_code == 405
    assert api.client.get("/links/nonsense").status_code == 404
    # A link for one thing is none for another.
    token = links.signing.dumps([session.pk, "a"], salt=links.DOWNLOAD)
    assert api.client.generic("PUT", f"/links/{token}", b"x", **put).status_code == 404
    assert api.client.get(link).status_code == 404
