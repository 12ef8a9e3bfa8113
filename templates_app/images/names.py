"""Names of images, as engines take them: what a template may call its own, and what it may build upon."""

from __future__ import annotations

import re

from django.conf import settings

# Every name that a build gives lies below it, so that no template can rename what others on the engine use.
PREFIX = "sandbox/"
# The base that is made from Debian packages (see bootstrap.py). Not for templates to give.
BASE = f"{PREFIX}base"
DEFAULT_BASE = "python:3.11-slim"

_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = rf"(?:(?:localhost|{_LABEL}(?:\.{_LABEL})+)(?::\d{{1,5}})?|{_LABEL}:\d{{1,5}})/"
_TAG = r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
OWN = re.compile(rf"{PREFIX}{_PART}(?:/{_PART})*{_TAG}", re.ASCII)
REFERENCE = re.compile(rf"(?:{_REGISTRY})?{_PART}(?:/{_PART})*{_TAG}(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
_HUB = re.compile(r"(?:index\.)?docker\.io/")


def own(name: str) -> str:
    """The name that a template's image gets, as it is. Raises ValueError, which says what is wrong with it."""
    if not OWN.fullmatch(name):
        raise ValueError(f"must be a name below {PREFIX} such as '{PREFIX}mine:1', in lower-case letters")
    if _below(name, BASE):
        raise ValueError(f"must not be {BASE}: that is the base of other images")
    return name


def is_own(name: str) -> bool:
    """Whether `own` takes it. Templates from before it was asked may have others, which no build gives."""
    try:
        return bool(own(name))
    except ValueError:
        return False


def base(name: str) -> str:
    """The image that a template builds upon, as it is. Raises ValueError, which says what is wrong with it."""
    if not REFERENCE.fullmatch(name):
        raise ValueError(f"must be the name of an image such as '{DEFAULT_BASE}'")
    # Names there are given by templates (one with the id "base" becomes sandbox/base:latest): who changes one would change what is
    # built upon it.
    local = _HUB.sub("", name, count=1)
    if local.startswith(PREFIX) and (not local.startswith(f"{BASE}:") or local == f"{BASE}:latest"):
        raise ValueError(f"must not lie below {PREFIX}: templates give those names to what they become")
    allowed = settings.BASE_IMAGES
    if allowed and name != DEFAULT_BASE and not any(_below(name, prefix) for prefix in allowed):
        raise ValueError("must be one of those that the operators of this service allow (SANDBOX_BASE_IMAGES)")
    return name


def _below(name: str, prefix: str) -> bool:
    """Whether `name` is `prefix` or goes on after it with another part, a tag or a digest."""
    end = ("/", ":", "@")
    return name == prefix or name.startswith(prefix if prefix.endswith(end) else tuple(prefix + mark for mark in end))
