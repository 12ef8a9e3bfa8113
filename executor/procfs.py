"""/proc as PID 1's own namespace has it, also where what is mounted there by now belongs to the runs' (see apart.py)."""

from __future__ import annotations

import os

_folder: int | None = None


def keep(folder: int = -1) -> None:
    """Goes on with the folder that is there now, or with a descriptor of it that was inherited."""
    global _folder
    if folder >= 0:
        os.set_inheritable(folder, False)
    _folder = folder if folder >= 0 else os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def forget() -> None:
    """Nothing of it may reach a run."""
    global _folder
    if _folder is not None:
        os.close(_folder)
    _folder = None


def kept() -> set[int]:
    """The descriptor, if there is one: for whoever closes all others."""
    return set() if _folder is None else {_folder}


def place(name: str) -> tuple[str, int | None]:
    """Path and `dir_fd` of an entry ("self/status"), for functions of `os`."""
    return (f"/proc/{name}", None) if _folder is None else (name, _folder)


def read(name: str) -> str:
    path, folder = place(name)
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), encoding="utf-8") as file:
        return file.read()


def write(name: str, text: str) -> None:
    path, folder = place(name)
    with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder), "w", encoding="utf-8") as file:
        file.write(text)


def owner(pid: int) -> int | None:
    """The effective uid of a process: its folder always belongs to that. None when it is gone."""
    path, folder = place(str(pid))
    try:
        return os.stat(path, dir_fd=folder).st_uid
    except OSError:
        return None


def threads(pid: int) -> int:
    """How many a process has; 0 when it is gone."""
    path, folder = place(f"{pid}/task")
    try:
        tasks = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return 0
    try:
        return len(os.listdir(tasks))
    except OSError:
        return 0
    finally:
        os.close(tasks)


def pids() -> list[int]:
    """All processes, zombies included."""
    return [int(name) for name in os.listdir("/proc" if _folder is None else _folder) if name.isdigit()]
