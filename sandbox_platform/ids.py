"""Public ids: readable prefix, unguessable tail (36 letters, 16 places: 82 bits)."""

from __future__ import annotations

import datetime as dt
import secrets
import string

ALPHABET = string.ascii_lowercase + string.digits


def tail(length: int = 16) -> str:
    """`length` random places of [a-z0-9]."""
    number = secrets.randbelow(len(ALPHABET) ** length)  # one call of the kernel's, not one a place
    places = []
    for _ in range(length):
        number, place = divmod(number, len(ALPHABET))
        places.append(ALPHABET[place])
    return "".join(places)


def session_id() -> str:
    """sess_ and 16 places."""
    return f"sess_{tail()}"


def execution_id() -> str:
    """exec_, today's date in UTC and 16 places."""
    return f"exec_{dt.datetime.now(dt.UTC):%Y%m%d}_{tail()}"


def sandbox_name() -> str:
    """The name under which an engine knows a sandbox of ours."""
    return f"sbx-{secrets.token_hex(8)}"
