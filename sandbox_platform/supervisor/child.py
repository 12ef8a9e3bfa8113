"""What each part of the service is started as: `python -m sandbox_platform.supervisor.child <pid of the supervisor> <part>`.

Parts are `web`, `ticker`, `egress` and the names of queues. Neither the part nor what it forks outlives the one that started it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import sys

from sandbox_platform.supervisor.lineage import die_with


def main(supervisor: int, part: str) -> None:
    """Become the part. Returns when it has been told to stop."""
    die_with(supervisor)
    multiprocessing.util.register_after_fork(_die_with_parent, lambda follow: follow())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sandbox_platform.settings")
    # Heartbeat rows are named for it.
    sys.argv = [part]
    if part == "web":
        from gunicorn.app.wsgiapp import WSGIApplication

        sys.argv += ["--config", "python:sandbox_platform.supervisor.gunicorn_conf"]
        WSGIApplication(prog="web").run()
        return
    from django.core.management import execute_from_command_line

    if part in ("ticker", "egress"):
        execute_from_command_line(["manage.py", part])
    else:
        os.environ["Q_CLUSTER_NAME"] = part
        execute_from_command_line(["manage.py", "qcluster"])


def _die_with_parent() -> None:
    """For what django-q2 forks: sentinel, workers, pusher and monitor."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with(parent.pid)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
