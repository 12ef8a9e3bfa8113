"""Ids that nobody guesses, secrets that stay, and settings that are checked."""

import re
from pathlib import Path

import pytest
from django.test import override_settings

from sandbox_platform import crypto, ids
from sandbox_platform.checks import sandbox_settings
from sandbox_platform.secret_key import read_or_create


@pytest.mark.parametrize(
    ("make", "shape"),
    [(ids.session_id, r"sess_[a-z0-9]{16}"), (ids.execution_id, r"exec_\d{8}_[a-z0-9]{16}"), (ids.sandbox_name, r"sbx-[0-9a-f]{16}")],
)  # fmt: skip
def test_ids_have_their_shape_and_do_not_repeat(make, shape: str) -> None:
    made = {make() for _ in range(20_000)}
    assert len(made) == 20_000
    assert all(re.fullmatch(shape, one) for one in made)


def test_secrets_are_sealed() -> None:
    sealed = crypto.seal({"A": "hunter2\n\0é"})
    assert b"hunter2" not in sealed
    assert crypto.unseal(sealed) == {"A": "hunter2\n\0é"}
    assert crypto.unseal(memoryview(sealed)) == {"A": "hunter2\n\0é"}  # type: ignore[arg-type]
    assert crypto.unseal(crypto.seal({})) == {}
    assert crypto.seal({"A": "x"}) != crypto.seal({"A": "x"})


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = read_or_create(tmp_path / "key")
    assert read_or_create(tmp_path / "key") == first
    assert len(first) >= 64
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    ("change", "found"),
    [({}, set()), ({"DEBUG": True}, {"sandbox.W001"}), ({"SECRET_KEY": "short"}, {"sandbox.E001"}),
     ({"DOCKER_URL": "tcp://host:2375"}, {"sandbox.E002"}), ({"WEB_WAIT_SHARE": 1.5}, {"sandbox.E003"}),
     ({"SESSION_IDLE_TIMEOUT": 5}, {"sandbox.E004"}), ({"ALLOWED_HOSTS": ["*"]}, {"sandbox.W002"})],
)  # fmt: skip
def test_unsafe_settings_are_told_with_a_hint(change: dict, found: set[str]) -> None:
    with override_settings(**change):
        messages = sandbox_settings(None)
    # Django's test runner adds a host of its own, never a star.
    assert {message.id for message in messages} == found
    assert all(message.hint for message in messages)
