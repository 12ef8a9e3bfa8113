"""The supervisor's parts, each by itself. `e2e/test_make_run.py` tries the whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client

from sandbox_platform import canary
from sandbox_platform.models import ApiKey, Process
from sandbox_platform.queue import Queue, depth
from sandbox_platform.supervisor import exclusive, hello, lineage, logfile, setup
from sandbox_platform.supervisor.console import CannotStart
from sandbox_platform.supervisor.service import Service
from tests import workers
from tests.factories import NodeFactory


def until(condition, seconds=20.0):
    """Poll a condition, bounded."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
    return result


class TestLogFiles:
    def test_a_long_one_is_put_aside_at_a_start(self, tmp_path, monkeypatch):
        monkeypatch.setattr(logfile, "ROTATE_AT_START", 10)
        path = tmp_path / "logs" / "web.log"
        for line in (b"short\n", b"and long enough\n", b"new\n"):
            descriptor = logfile.open_for_append(path)
            os.write(descriptor, line)
            os.close(descriptor)
        assert path.read_text() == "new\n"
        assert (tmp_path / "logs" / "web.log.1").read_text() == "short\nand long enough\n"
        assert path.stat().st_mode & 0o007 == 0

    def test_one_that_grows_is_cut_under_its_writer(self, tmp_path, monkeypatch):
        monkeypatch.setattr(logfile, "ROTATE_ALWAYS", 10)
        path = tmp_path / "web.log"
        descriptor = logfile.open_for_append(path)
        os.write(descriptor, b"more than ten bytes\n")
        logfile.trim(path)
        os.write(descriptor, b"next\n")
        os.close(descriptor)
        assert path.read_text() == "next\n"
        assert (tmp_path / "web.log.1").read_text() == "more than ten bytes\n"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", ""),
            ("Traceback\nValueError: no\n", "ValueError: no"),
            (json.dumps({"event": "went wrong", "error": "no room"}), "went wrong no room"),
            ("[1]", "[1]"),
        ],
    )
    def test_last_words(self, tmp_path, content, words):
        path = tmp_path / "x.log"
        path.write_text(content)
        assert logfile.last_words(path) == words

    def test_no_log_no_words(self, tmp_path):
        assert logfile.last_words(tmp_path / "none") == ""


class TestExclusive:
    def test_a_second_supervisor_is_refused_and_told_who_is_there(self, settings, tmp_path):
        settings.STATE_DIR = tmp_path
        with (
            exclusive.state_folder(),
            pytest.raises(CannotStart, match=f"process {os.getpid()}"),
            exclusive.state_folder(),
        ):
            pass
        with exclusive.state_folder():
            pass

    def test_a_port_in_use_is_one_line_that_says_what_to_type(self, settings):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings.WEB_HOST, settings.WEB_PORT = taken.getsockname()
            with pytest.raises(CannotStart, match=f"PORT={settings.WEB_PORT + 1} make run"):
                exclusive.check_port()
        exclusive.check_port()

    def test_processes_of_an_earlier_start_are_buried_and_living_ones_are_not(self, db):
        gone = subprocess.Popen(["true"])
        gone.wait()
        host = socket.gethostname()
        dead = Process.objects.create(kind="worker:runs", host=host, pid=gone.pid)
        alive = Process.objects.create(kind="web", host=host, pid=os.getpid())
        elsewhere = Process.objects.create(kind="web", host="another host", pid=gone.pid)
        exclusive.bury_predecessors()
        assert set(Process.objects.filter(dead_at=None)) == {alive, elsewhere}
        assert Process.objects.get(pk=dead.pk).dead_at


class TestCredentials:
    @pytest.fixture(autouse=True)
    def state(self, settings, tmp_path, db):
        settings.STATE_DIR = tmp_path
        return tmp_path

    def test_made_once_and_kept_for_the_owner_alone(self, state):
        first = setup.ensure_credentials()
        assert first.new
        for name, value in (("token", first.token), ("admin-password", first.password)):
            assert (state / name).read_text() == value + "\n"
            assert (state / name).stat().st_mode & 0o777 == 0o600
        again = setup.ensure_credentials()
        assert (again.token, again.password, again.new) == (first.token, first.password, False)
        admin = get_user_model().objects.get(username="admin")
        assert admin.is_superuser
        assert admin.check_password(first.password)
        key = ApiKey.objects.get()
        assert key.matches(first.token)
        assert key.project.name == "default"

    @pytest.mark.parametrize("content", ["", "nonsense", "sbx_unknownprefx_secret"])
    def test_a_token_that_does_not_work_is_replaced(self, state, content):
        setup.ensure_credentials()
        (state / "token").write_text(content)
        renewed = setup.ensure_credentials()
        assert renewed.new
        assert ApiKey.objects.latest("created_at").matches(renewed.token)

    def test_a_password_that_was_lost_is_set_anew(self, state):
        setup.ensure_credentials()
        (state / "admin-password").unlink()
        renewed = setup.ensure_credentials()
        assert get_user_model().objects.get(username="admin").check_password(renewed.password)


class TestCanary:
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    @pytest.fixture
    def clock(self):
        return self.Clock()

    def test_heard_by_a_worker_that_works(self, transactional_db, clock):
        bird = canary.Canary(Queue.RUNS, patience=10, clock=clock)
        for _ in range(5):
            assert not bird.wedged()
            assert workers.run_one(Queue.RUNS)
            until(lambda: not bird.wedged() and not bird._outstanding)
            clock.now += canary.EVERY + 1
        assert Process.objects.filter(dead_at=None).exists(), "the worker has a heartbeat from then on"

    def test_two_unheard_in_a_row_mean_a_wedged_queue(self, transactional_db, clock):
        bird = canary.Canary(Queue.RUNS, patience=10, clock=clock)
        assert not bird.wedged()  # sent
        clock.now += 9
        assert not bird.wedged()
        looks = []
        for _ in range(3):
            clock.now += 11
            looks.append(bird.wedged())
        assert looks == [False, False, True]  # the first look learns where the queue stands
        bird.reset()
        assert not bird.wedged()

    def test_silence_with_a_good_reason_is_no_wedge(self, transactional_db, clock):
        bird = canary.Canary(Queue.BUILDS, patience=10, busy=lambda: True, clock=clock)
        for _ in range(6):
            assert not bird.wedged()
            clock.now += 11

    def test_at_most_one_waits_while_it_is_answered(self, transactional_db, clock):
        bird = canary.Canary(Queue.RUNS, patience=10, clock=clock)
        for _ in range(9):
            bird.wedged()
            clock.now += 1
        assert depth(Queue.RUNS) == 1


DESCENDANTS = """
import os, sys, time
from sandbox_platform.supervisor.lineage import die_with
parent = os.getpid()
child = os.fork()
if child == 0:
    die_with(parent)
    time.sleep(60)
print(child, flush=True)
time.sleep(60)
"""


def test_a_child_dies_with_its_parent_even_if_that_is_killed():
    root = Path(__file__).parents[1]
    parent = subprocess.Popen([sys.executable, "-c", DESCENDANTS], stdout=subprocess.PIPE, text=True, cwd=root)
    child = int(parent.stdout.readline())
    assert lineage.children(parent.pid) == {child}
    until(
        lambda: "sleep" in Path(f"/proc/{child}/wchan").read_text() or Path(f"/proc/{child}/wchan").read_text() == "0"
    )
    parent.kill()
    parent.wait()
    until(lambda: not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text())


def test_a_database_that_does_not_answer_is_one_line_without_its_password(tmp_path):
    environment = {
        **os.environ,
        "DATABASE_URL": "postgresql://someone:hidden-word@127.0.0.1:1/nothing",
        "SANDBOX_STATE_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "sandbox_platform.settings",
    }
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "manage.py", "setup"], env=environment, cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "Check DATABASE_URL" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "hidden-word" not in done.stderr + done.stdout


def test_up_is_refused_beside_another_one(settings, tmp_path):
    settings.STATE_DIR = tmp_path
    with exclusive.state_folder(), pytest.raises(CommandError, match="runs already"):
        call_command("up")


@pytest.mark.parametrize(
    ("enabled", "ready", "starts"), [(True, True, True), (False, True, True), (False, False, False), (True, False, False)]
)  # fmt: skip
def test_a_service_whose_nodes_were_switched_off_starts_again(db, monkeypatch, enabled, ready, starts):
    NodeFactory(enabled=enabled, ready=ready)
    for kind in ("worker:runs", "worker:lifecycle"):
        Process.objects.create(kind=kind, host="h", pid=1)

    def answer(self, method, path):
        found = Client().get(path)
        return found.status_code, found.json()

    monkeypatch.setattr(hello.Api, "call", answer)
    assert Service()._ready()[0] is starts
