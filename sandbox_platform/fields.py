"""Serializer fields that take JSON at its word: no "30" for 30, no true for 1, no unknown keys; null means absent."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from rest_framework import serializers


class StrictSerializer(serializers.Serializer):
    """Refuses unknown fields. An optional field that is null counts as absent, except those in `nullable`."""

    nullable: frozenset[str] = frozenset()

    @classmethod
    def read(cls, data: Any) -> dict[str, Any]:
        """The validated values of a request's body. Raises ValidationError.

        By one instance for all requests: what validates holds nothing of them, and to make its fields anew takes longer than to use them.
        """
        return _reader(cls).run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        """Validated values."""
        if isinstance(data, dict):
            if unknown := [key for key in data if key not in self.fields]:
                raise serializers.ValidationError({str(key)[:100]: ["unknown field"] for key in unknown[:20]})
            data = {k: v for k, v in data.items() if v is not None or k in self.nullable or self.fields[k].required}
        return super().to_internal_value(data)


@cache
def _reader(kind: type[StrictSerializer]) -> StrictSerializer:
    return kind()


class StrictInteger(serializers.IntegerField):
    """A JSON integer."""

    def to_internal_value(self, data: Any) -> int:
        """The number itself."""
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("must be a whole number")
        return data


class StrictBoolean(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        """The value itself."""
        if not isinstance(data, bool):
            raise serializers.ValidationError("must be true or false")
        return data


class Text(serializers.CharField):
    """A JSON string, kept as it is: not trimmed, and without NUL unless `nul` (neither arguments nor text columns can carry one)."""

    def __init__(self, *, nul: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)
        self.nul = nul
        if nul:
            self.validators = [v for v in self.validators if not isinstance(v, ProhibitNullCharactersValidator)]

    def to_internal_value(self, data: Any) -> str:
        """The string itself."""
        if not isinstance(data, str):
            raise serializers.ValidationError("must be a string")
        if "\0" in data and not self.nul:
            raise serializers.ValidationError("must not contain NUL")
        return data


class FlatMap(serializers.DictField):
    """A flat object of strings, with limits in entries and bytes."""

    def __init__(self, *, most: int, value_bytes: int, total_bytes: int, **kwargs: Any) -> None:
        self.most, self.value_bytes, self.total_bytes = most, value_bytes, total_bytes
        super().__init__(child=Text(allow_blank=True), **kwargs)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """The checked map."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("must be an object of strings")
        if len(data) > self.most:
            raise serializers.ValidationError(f"must have at most {self.most} entries")
        values: dict[str, str] = super().to_internal_value(data)
        sizes = {key: len(value.encode()) for key, value in values.items()}
        for key, size in sizes.items():
            if "\0" in key:
                raise serializers.ValidationError("a name must not contain NUL")
            if size > self.value_bytes:
                raise serializers.ValidationError({key[:100]: [f"must be at most {self.value_bytes} bytes"]})
        if sum(sizes.values()) + sum(len(key.encode()) for key in values) > self.total_bytes:
            raise serializers.ValidationError(f"must be at most {self.total_bytes} bytes in all")
        return values


ENV_REFUSED_PREFIXES = ("LD_", "PYTHON", "NODE_", "DOCKER_", "SANDBOX_")
ENV_REFUSED = frozenset({"PATH", "BASH_ENV", "ENV", "IFS", "GCONV_PATH"})


class EnvVars(FlatMap):
    """Environment variables of user code: 64 at most, 4 KiB a value, 32 KiB in all, no name that steers the loader or us."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(most=64, value_bytes=4096, total_bytes=32768, **kwargs)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """The checked map."""
        values = super().to_internal_value(data)
        for name in values:
            if not (name.isascii() and name.isidentifier() and len(name) <= 128):
                raise serializers.ValidationError({name[:100]: ["a name must match [A-Za-z_][A-Za-z0-9_]*"]})
            if name in ENV_REFUSED or name.startswith(ENV_REFUSED_PREFIXES) or name.upper().endswith("_PROXY"):
                raise serializers.ValidationError({name: ["this name is reserved"]})
        return values
