"""Answers: strict, compact JSON."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import renderers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.utils.encoders import JSONEncoder


class JSONRenderer(renderers.BaseRenderer):
    """Compact UTF-8 JSON. No browsable API: /api/docs is the place to try things."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """Bytes of `data`; none for an empty answer."""
        if data is None:
            return b""
        return json.dumps(data, cls=JSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class AnyAccept(DefaultContentNegotiation):
    """For answers that are not JSON (files, logs, event streams): whatever Accept says, errors are JSON."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """The JSON renderer."""
        return renderers[0], renderers[0].media_type
