"""Lets a test end a process of the service at a named step, exactly there, by SIGKILL: nothing of the service knows of it.

Python imports this at its start where the folder is on PYTHONPATH. A step is armed by the file `$CRASH_DIR/<part>.<step>`; the first
thread of that part to get there takes the file away and dies with its process. A step whose function is gone stops the service.
"""

import importlib.abc
import importlib.machinery
import os
import signal
import sys

FOLDER = os.environ.get("CRASH_DIR", "")
# Module, function, step, and whether the step lies after the call (if that gave something) rather than before it.
STEPS = [
    ("executions_app.services.submit", "submit", "written", True),  # not committed
    ("executions_app.services.submit", "submit_here", "written", True),  # one statement: committed
    ("executions_app.services.submit", "submit_alone", "written", True),
    ("executions_app.services.here", "_follow", "committed", False),
    ("executions_app.tasks", "dispatch", "doorbell", False),  # taken from the queue, nothing done
    ("executions_app.services.claim", "eldest", "claimed", True),
    ("executions_app.services.ending", "Collected.add", "started", False),  # the executor has told of its first event
    ("executions_app.services.drive", "settle", "ended", False),  # the result is known, and not stored
    ("executions_app.services.here", "_acknowledge", "stored", False),  # and the executor holds it still
    ("executions_app.services.loop", "DriveLoop._acknowledge", "stored", False),
    (
        "sessions_app.services.copies",
        "_copy",
        "written",
        True,
    ),  # the bytes of one file of a batch, which is not safe yet
    ("sessions_app.services.saved", "remember", "safe", False),  # the bytes of a batch, without its rows
    ("sessions_app.services.copies", "_strike_out", "paid", False),  # all is there, and still owed
    ("sessions_app.services.workspace", "upload", "restored", True),  # one file of those that a session starts with
]


def crash_at(step):
    path = os.path.join(FOLDER, f"{os.path.basename(sys.argv[0])}.{step}")
    try:
        os.unlink(path)
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(function, step, after):
    def call(*args, **kwargs):
        if not after:
            crash_at(step)
        value = function(*args, **kwargs)
        if after and value is not None:
            crash_at(step)
        return value

    return call


def patch(module):
    for name, path, step, after in STEPS:
        if name == module.__name__:
            *places, last = path.split(".")
            owner = module
            for place in places:
                owner = getattr(owner, place)
            setattr(owner, last, wrapped(getattr(owner, last), step, after))
    if module.__name__ == "sandbox_platform.supervisor.part":
        module.LONGEST_PAUSE = module.FIRST_PAUSE  # many deaths are meant here


class Loader(importlib.abc.Loader):
    def __init__(self, real):
        self.real = real

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        self.real.exec_module(module)
        patch(module)


class Finder(importlib.abc.MetaPathFinder):
    names = {name for name, *_ in STEPS} | {"sandbox_platform.supervisor.part"}

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = Loader(spec.loader)
        return spec


if FOLDER:
    sys.meta_path.insert(0, Finder())
