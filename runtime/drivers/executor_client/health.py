"""What an executor says of itself, read field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.drivers.executor_client import fields
from runtime.drivers.executor_client.protocol import MAX_TEXT

PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Mount:
    """One line of the sandbox's mount table, as the executor reports it."""

    target: str
    type: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class SelfReport:
    """What the executor says of itself, from /proc/self. Capabilities are bit masks.

    `apart`: it is unknown to what is mounted at /proc. False also from an executor of before there was that word.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    user_uid: int
    cap_eff: int
    cap_prm: int
    cap_bnd: int
    no_new_privs: int
    seccomp: int
    rootfs_read_only: bool
    apart: bool
    interfaces: tuple[str, ...]
    mounts: tuple[Mount, ...]


@dataclass(frozen=True)
class Health:
    """An executor's answer to `GET /v1/health`; `state` is "starting" or "ready"."""

    protocol: int
    version: str
    state: str
    slots: int
    active: int
    held: int
    python: str | None
    node: str | None
    preloaded: tuple[str, ...]
    preload_errors: dict[str, str]
    attestation: SelfReport


def parse_health(value: dict[str, Any]) -> Health:
    """Reads a health answer. Fields that a newer executor adds are left alone; another protocol is refused."""
    if fields.whole(value, "protocol") != PROTOCOL_VERSION:
        fields.wrong("another version of the protocol")
    state = fields.text(value, "state", 16)
    if state not in ("starting", "ready"):
        fields.wrong("an unknown state")
    errors = fields.mapping(fields.take(value, "preload_errors"))
    return Health(
        protocol=PROTOCOL_VERSION,
        version=fields.text(value, "version", 64),
        state=state,
        slots=fields.whole(value, "slots"),
        active=fields.whole(value, "active"),
        held=fields.whole(value, "held"),
        python=fields.optional_text(value, "python", 64),
        node=fields.optional_text(value, "node", 64),
        preloaded=fields.texts(value, "preloaded"),
        preload_errors={key: fields.text(errors, key, MAX_TEXT) for key in list(errors)},
        attestation=_self_report(fields.mapping(fields.take(value, "attestation"))),
    )


def _self_report(value: dict[str, Any]) -> SelfReport:
    mounts = []
    for item in fields.items(value, "mounts", 1000):
        mount = fields.mapping(item)
        mounts.append(
            Mount(fields.path(mount, "target"), fields.text(mount, "type", 64), fields.texts(mount, "options"))
        )
    groups = fields.items(value, "groups", 1000)
    if any(type(group) is not int for group in groups):
        fields.wrong("groups that are no numbers")
    return SelfReport(
        pid=fields.whole(value, "pid"),
        uid=fields.whole(value, "uid"),
        gid=fields.whole(value, "gid"),
        groups=tuple(groups),
        user_uid=fields.whole(value, "user_uid"),
        cap_eff=fields.mask(value, "cap_eff"),
        cap_prm=fields.mask(value, "cap_prm"),
        cap_bnd=fields.mask(value, "cap_bnd"),
        no_new_privs=fields.whole(value, "no_new_privs"),
        seccomp=fields.whole(value, "seccomp"),
        rootfs_read_only=fields.flag(value, "rootfs_read_only"),
        apart=fields.flag(value, "apart") if "apart" in value else False,
        interfaces=fields.texts(value, "interfaces"),
        mounts=tuple(mounts),
    )
