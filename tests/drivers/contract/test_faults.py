"""The contract of `runtime.drivers.base`, kept by every driver, on the real thing: what may go wrong in the making."""

import secrets
import time

import pytest

from runtime.drivers import bubblewrap_spec
from runtime.drivers import docker as docker_module
from runtime.drivers.errors import (
    AttestationFailed,
    BootFailed,
    ImageUnavailable,
    RuntimeUnsupported,
)
from tests.drivers.conftest import leftovers


def test_no_such_image(kind):
    driver, spec = kind.driver(), kind.spec(image=f"/nowhere/{secrets.token_hex(4)}")
    if kind.name == "docker":
        spec = kind.spec(image=f"sandbox/none:{secrets.token_hex(4)}")
    with pytest.raises(ImageUnavailable):
        driver.create(spec)
    assert driver.list() == [] and leftovers(kind, spec.name) == []


def test_no_such_oci_runtime(kind):
    driver, spec = kind.driver(), kind.spec(oci_runtime="no-such-runtime")
    with pytest.raises(RuntimeUnsupported):
        driver.create(spec)
    assert leftovers(kind, spec.name) == []


def test_an_executor_that_ends_at_once(kind):
    driver, spec = kind.driver(), kind.spec(image=kind.build("print('the disk is on fire', flush=True); exit(3)"))
    begun = time.monotonic()
    with pytest.raises(BootFailed) as caught:
        driver.create(spec)
    assert "the disk is on fire" in caught.value.log
    assert time.monotonic() - begun < 10
    assert driver.list() == [] and leftovers(kind, spec.name) == []


def test_whatever_is_written_to_the_log_is_inert_lines_of_bounded_length(kind):
    written = [
        b"A" * 40_000, b"[" * 9000, b"2026-01-06T10:00:00Z [ERROR] forged", b"\x1b[2J\r\0\xe2\x80\xae\xff",
        rb'{"level": "error", "event": "a\u001b\n2026 [INFO] b", "x y": "\ud800 c=d"}', b'{"level": "info", "event": "over", "pid": 1}',
    ]  # fmt: skip
    code = f"import os; os.write(2, {b''.join(line + bytes([10]) for line in written)!r}); raise SystemExit(3)"
    driver, spec = kind.driver(), kind.spec(image=kind.build(code))
    with pytest.raises(BootFailed) as caught:
        driver.create(spec)
    lines = [line.partition(" ")[2] for line in caught.value.log.splitlines()[-4:]]
    assert lines == [
        "2026-01-06T10:00:00Z [ERROR] forged", r"\x1b[2J\r\x00\u202e" + "\ufffd",
        r'[ERROR] a\x1b\n2026 [INFO] b "x y"="\ud800 c=d"', "[INFO] over pid=1",
    ]  # fmt: skip
    assert len(caught.value.log) <= 4096


def test_an_executor_that_never_answers(kind):
    image = kind.build("import signal; print('waiting', flush=True); signal.pause()")
    driver, spec = kind.driver(), kind.spec(image=image, boot_timeout=1.5)
    begun = time.monotonic()
    with pytest.raises(BootFailed) as caught:
        driver.create(spec)
    assert 1.4 < time.monotonic() - begun < 6
    assert "waiting" in caught.value.log
    assert driver.list() == [] and leftovers(kind, spec.name) == []


WRONG = {
    "docker": {
        "a capability more": lambda body: body["HostConfig"]["CapAdd"].append("CHOWN"),
        "new privileges": lambda body: body["HostConfig"]["SecurityOpt"].remove("no-new-privileges"),
        "no seccomp": lambda body: body["HostConfig"].update(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
        "writable root": lambda body: body["HostConfig"].update(ReadonlyRootfs=False),
        "a mount more": lambda body: body["HostConfig"].update(Binds=["/usr/share:/mnt:ro"]),
        "the host's network": lambda body: body["HostConfig"].update(NetworkMode="host") or body.pop("NetworkDisabled"),
    },
    "bubblewrap": {
        "a capability more": lambda line: (
            line[-line[::-1].index("--") :].clear() or _swap(line, "+kill", "+kill,+chown")
        ),
        "no seccomp": lambda line: _drop(line, "--seccomp", 2),
        "writable root": lambda line: _drop(line, "--remount-ro", 2, last=True),
        "the host's network": lambda line: _drop(line, "--unshare-net", 1),
        "a mount more": lambda line: line.__setitem__(slice(1, 1), ["--ro-bind", "/var", "/var"]),
        "no workspace": lambda line: _drop(line, "--bind", 3, last=True),
    },
}


def _swap(line, old, new):
    line[:] = [word.replace(old, new) for word in line]


def _drop(line, option, words, last=False):
    index = len(line) - 1 - line[::-1].index(option) if last else line.index(option)
    del line[index : index + words]


@pytest.mark.parametrize("number", range(6))
def test_what_does_not_match_is_removed(kind, number, monkeypatch):
    words, change = list(WRONG[kind.name].items())[number]
    module, builder = {"docker": (docker_module, "container_body"), "bubblewrap": (bubblewrap_spec, "command")}[
        kind.name
    ]
    original = getattr(module, builder)

    def changed(*arguments):
        made = original(*arguments)
        change(made)
        return made

    monkeypatch.setattr(module, builder, changed)
    driver, spec = kind.driver(), kind.spec(boot_timeout=10)
    with pytest.raises((AttestationFailed, BootFailed)) as caught:
        driver.create(spec)
    assert isinstance(caught.value, AttestationFailed) or words == "no workspace", caught.value.log
    assert driver.list() == [] and leftovers(kind, spec.name) == []
