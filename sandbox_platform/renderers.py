"""Answers: strict, compact JSON."""

from __future__ import annotations

import secrets
from typing import Any

from rest_framework import renderers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.utils.encoders import JSONEncoder


class RawJSON:
    """JSON text that stands in an answer as it is: read and written anew, numbers and repeated keys would not be themselves."""

    def __init__(self, text: str) -> None:
        self.text = text


class _Encoder(JSONEncoder):
    """Puts a token where raw text goes, since an encoder can't be handed text."""

    def __init__(self) -> None:
        super().__init__(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.raw: dict[str, str] = {}

    def default(self, value: Any) -> Any:
        if not isinstance(value, RawJSON):
            return super().default(value)
        token = secrets.token_hex(16)
        self.raw[f'"{token}"'] = value.text
        return token


class JSONRenderer(renderers.BaseRenderer):
    """Compact UTF-8 JSON. No browsable API: /api/docs is the place to try things."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """Bytes of `data`; none for an empty answer."""
        if data is None:
            return b""
        encoder = _Encoder()
        text = encoder.encode(data)
        for token, raw in encoder.raw.items():
            text = text.replace(token, raw, 1)
        return text.encode()


class AnyAccept(DefaultContentNegotiation):
    """For answers that are not JSON (files, logs, event streams): whatever Accept says, errors are JSON."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """The JSON renderer."""
        return renderers[0], renderers[0].media_type
