"""The WSGI application that the web server runs."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sandbox_platform.settings")


class Utf8Request(WSGIRequest):
    """Reads a query and a form as UTF-8, whatever charset is claimed: Python knows encodings that are none of text, and fail."""

    @property
    def encoding(self) -> None:  # type: ignore[override]
        """Always the default, UTF-8."""
        return None

    @encoding.setter
    def encoding(self, value: str) -> None:
        pass

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (LookupError, ValueError):  # one that can't be read counts as none, which a body's parser refuses
            meta["CONTENT_TYPE"] = self.content_type = ""
            self.content_params = {}


class Body:
    """Of a request. A client that sends nothing of it for too long is read from no more, or the server would wait for the rest."""

    def __init__(self, body: Any, connection: socket.socket) -> None:
        self._body, self._connection = body, connection

    def read(self, *size: int) -> bytes:
        """Raises OSError where the client stalls (see `RECEIVE_PATIENCE`): to Django's callers UnreadablePostError."""
        return self._give_up_at_a_stall(self._body.read, *size)

    def readline(self, *size: int) -> bytes:
        """The same of a line."""
        return self._give_up_at_a_stall(self._body.readline, *size)

    def _give_up_at_a_stall(self, read: Callable[..., bytes], *size: int) -> bytes:
        try:
            return read(*size)
        except OSError:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)
            raise


class Handler(WSGIHandler):
    """Django's own, with our requests."""

    request_class = Utf8Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """The answer."""
        connection = environ.get("gunicorn.socket")
        if connection is not None:
            environ["wsgi.input"] = Body(environ["wsgi.input"], connection)
        return super().__call__(environ, start_response)


django.setup(set_prefix=False)
application = Handler()
