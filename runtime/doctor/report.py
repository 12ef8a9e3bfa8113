"""All checks for the runtime that this installation uses."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from runtime.doctor import engine, host, service
from runtime.doctor.findings import Finding, ok, problem
from runtime.drivers import registry
from runtime.drivers.errors import DriverError
from runtime.services import disk


def examine(wanted: str, docker_url: str, state_dir: Path) -> list[Finding]:
    """`wanted` is SANDBOX_RUNTIME: auto, docker or bubblewrap."""
    try:
        choice = registry.detect(wanted, docker_url=docker_url)
    except DriverError as error:
        runtime_type = "docker" if wanted == "docker" else "bubblewrap"
        mend = "Install bubblewrap or Docker: apt-get install bubblewrap (as root), or docker.io."
        found = [problem("runtime", f"No sandboxes can be made: {error}", mend)]
    else:
        runtime_type = choice.runtime_type
        found = [ok("runtime", f"{runtime_type}, since {choice.reason}. Sandboxes can be made.")]
    info = None
    if runtime_type == "docker":
        found.append(engine.check_socket(docker_url))
        try:
            info, version = engine.ask(docker_url)
        except ConnectionError as error:
            found.append(problem("engine", f"It does not answer: {error}", "Start it, or set DOCKER_HOST."))
        else:
            found += engine.check_engine(info, version)
            mounts = engine.check_mount_namespace(docker_url)
            found += [mounts] if mounts else []
    found += host.check_cgroups()
    found.append(host.check_seccomp(runtime_type))
    found += host.check_workspaces(state_dir)
    found.append(host.check_user_namespaces())
    found.append(host.check_apparmor(engine.has_apparmor(info) if info else None))
    found.append(host.check_core_dumps())
    found.append(host.check_egress())
    found.append(_room())
    found.append(service.check_state_folder(state_dir))
    return found + service.check_settings()


def _room() -> Finding:
    left = disk.free()
    words = f"{left / 2**30:.1f} GiB are free below {disk.folder()}."
    if left < settings.DISK_RESERVE:
        words += f" That is less than DISK_RESERVE, {settings.DISK_RESERVE / 2**30:.1f} GiB: new sessions are refused."
        return problem("room", words, "Workspaces are sparse: what sandboxes write must fit here. Make room.")
    return ok("room", words)
