"""The WSGI application that the web server runs."""

import os
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


class Handler(WSGIHandler):
    """Django's own, with our requests."""

    request_class = Utf8Request


django.setup(set_prefix=False)
application = Handler()
