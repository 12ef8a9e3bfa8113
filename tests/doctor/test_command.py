"""`manage.py doctor` as an operator types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.doctor import service
from runtime.doctor.findings import Level, ok, problem, table, verdict, weak

ROOT = Path(__file__).parents[2]


def doctor(state: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name not in ("DJANGO_SETTINGS_MODULE", "DEBUG")}
    command = [sys.executable, "manage.py", "doctor", *options]
    environment = {**known, "SANDBOX_STATE_DIR": str(state), **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.bubblewrap
def test_on_this_host_nothing_must_be_mended(tmp_path):
    done = doctor(tmp_path, "--strict", SANDBOX_RUNTIME="bubblewrap")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 must be mended" in done.stdout and "seccomp" in done.stdout
    assert not (tmp_path / "db.sqlite3").exists()


def test_what_must_be_mended_fails_only_a_strict_run(tmp_path):
    broken = {"SANDBOX_RUNTIME": "docker", "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "DEBUG": "1"}
    done = doctor(tmp_path, "--strict", **broken, SECRET_KEY="short", ALLOWED_HOSTS="*")
    assert done.returncode == 1, done.stderr
    for words in ("No sandboxes can be made", "DEBUG is on", "SECRET_KEY is shorter", "ALLOWED_HOSTS accepts any"):
        assert words in done.stdout
    assert "Traceback" not in done.stderr
    assert doctor(tmp_path, **broken).returncode == 0


def test_too_little_room_must_be_mended_and_says_what_it_means(tmp_path):
    done = doctor(tmp_path, "--strict", DISK_RESERVE=str(2**60))
    assert done.returncode == 1 and "DISK_RESERVE" in done.stdout and "new sessions are refused" in done.stdout


def test_a_state_folder_that_others_read(tmp_path):
    assert service.check_state_folder(tmp_path).level == Level.OK
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o644)
    assert service.check_state_folder(tmp_path).level == Level.PROBLEM
    (tmp_path / "token").chmod(0o600)
    assert service.check_state_folder(tmp_path).level == Level.OK
    tmp_path.chmod(0o777)
    assert service.check_state_folder(tmp_path).level == Level.PROBLEM


def test_the_table():
    rows = [ok("one", "Holds."), weak("another", "word " * 40, "do this"), problem("third", "Broken.", "do that")]
    lines = table(rows).splitlines()
    assert lines[0] == "ok       one      Holds." and lines[-2].startswith("PROBLEM  third    Broken.")
    assert all(len(line) <= 110 for line in lines) and lines[-1].strip() == "-> do that"
    assert verdict(rows) == "1 hold, 1 are weaker than they could be, 1 must be mended."
