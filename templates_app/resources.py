"""Amounts in the API's words: cpu "0.5" to "4", memory "256Mi" to "8Gi", disk "1Gi" to "50Gi"."""

from __future__ import annotations

import re

CPU = re.compile(r"(0|[1-9][0-9]{0,6})(\.[0-9]{1,3})?")
BYTES = re.compile(r"([1-9][0-9]{0,6})(Mi|Gi)")
UNITS = {"Mi": 2**20, "Gi": 2**30}

# Least and most that may be asked for.
CPU_RANGE = ("0.5", "4")
MEMORY_RANGE = ("256Mi", "8Gi")
DISK_RANGE = ("1Gi", "50Gi")


def cpu_millis(text: str) -> int:
    """Thousandths of a core. Raises ValueError unless it is a decimal such as "1" or "0.5" in range."""
    if not CPU.fullmatch(text):
        raise ValueError('must be a decimal number of cores such as "1" or "0.5"')
    millis = round(float(text) * 1000)
    if not 500 <= millis <= 4000:
        raise ValueError(f'must be "{CPU_RANGE[0]}" to "{CPU_RANGE[1]}"')
    return millis


def size(text: str) -> int:
    """Bytes. Raises ValueError unless it is a whole number of Mi or Gi."""
    match = BYTES.fullmatch(text)
    if not match:
        raise ValueError('must be a whole number with the unit Mi or Gi, such as "512Mi"')
    return int(match[1]) * UNITS[match[2]]


def memory_bytes(text: str) -> int:
    """Bytes in range. Raises ValueError."""
    return _within(text, MEMORY_RANGE)


def disk_bytes(text: str) -> int:
    """Bytes in range. Raises ValueError."""
    return _within(text, DISK_RANGE)


def _within(text: str, bounds: tuple[str, str]) -> int:
    value = size(text)
    if not size(bounds[0]) <= value <= size(bounds[1]):
        raise ValueError(f'must be "{bounds[0]}" to "{bounds[1]}"')
    return value
