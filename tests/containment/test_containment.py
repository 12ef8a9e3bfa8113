"""What must not go through, tried from inside: a quick round of the matrix that `make probe` makes in full."""

from __future__ import annotations

import os

import pytest

from tests.containment import matrix
from tests.containment.cases import cases

TIMES = 20
IMAGE = "sandbox/base:bookworm"
# What `docker run` by itself lets through: if these held there too, the cases would be blind.
OPEN_ELSEWHERE = {"A1", "A3", "A5", "A7", "A8", "A10", "A14", "A15", "A38", "A39", "A53"}


@pytest.mark.docker
@pytest.mark.timeout(240)
def test_docker(tmp_path, docker_images):
    target = matrix.docker(docker_images(), tmp_path / "state")
    try:
        tried = {case.number: words for case, words in matrix.tried(target, cases(TIMES))}
    finally:
        target.close()
    assert {number: words for number, words in tried.items() if words != matrix.HELD} == {}


@pytest.mark.bubblewrap
@pytest.mark.timeout(240)
def test_bubblewrap(tmp_path):
    target = matrix.bubblewrap(matrix.bubblewrap_image(tmp_path / "image"), tmp_path / "state")
    try:
        tried = {case.number: words for case, words in matrix.tried(target, cases(TIMES))}
    finally:
        target.close()
    assert {number: words for number, words in tried.items() if words != matrix.HELD} == {}


@pytest.mark.docker
@pytest.mark.timeout(240)
def test_the_cases_see_what_is_open(docker_images):
    target = matrix.Plain("plain", docker_images(), dict(os.environ))
    try:
        tried = {case.number: words for case, words in matrix.tried(target, cases(1))}
    finally:
        target.close()
    held = {number for number, words in tried.items() if words == matrix.HELD}
    assert held & OPEN_ELSEWHERE == set()
