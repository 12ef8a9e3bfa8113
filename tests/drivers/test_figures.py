"""Matplotlib figures that a run leaves open become PNG files of its working directory, on the image of python-datascience."""

import secrets

import pytest

from tests.drivers.conftest import printed, run

DATASCIENCE = "sandbox/python:3.11-datascience"
pytestmark = pytest.mark.docker
PLOT = "import matplotlib.pyplot as plt\nplt.figure(); plt.plot([1, 2, 4])\n"


@pytest.fixture(scope="module")
def drawing(docker_images, tmp_path_factory):
    """A sandbox that saves figures."""
    from runtime.drivers.docker import DockerDriver
    from runtime.drivers.types import Resources, SandboxSpec

    image = docker_images(base=DATASCIENCE)
    mark = secrets.token_hex(4)  # names are the engine's: each worker has its own
    driver = DockerDriver(f"t{mark}", tmp_path_factory.mktemp("state"))
    spec = SandboxSpec(name=f"sbx-{mark}", image=image, figures=True, preload=("matplotlib.pyplot",), slots=2,
                       resources=Resources(memory=1024 * 2**20, pids=64))  # fmt: skip
    yield driver.create(spec)
    driver.remove(spec.name)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("", "ok"),
        ("def handler(event): return plt.get_backend().lower()", "ok"),
        ("import sys\nsys.exit(3)", "exception"),
        ("raise ValueError", "exception"),
    ],
)
def test_figures_are_artifacts_however_the_run_ends(drawing, end, outcome):
    result, _, stderr = run(drawing, PLOT + "plt.figure(7)\n" + end)
    assert result.outcome == outcome, stderr
    assert [(a.path, a.size > 1000) for a in result.artifacts] == [("figure-1.png", True), ("figure-7.png", True)]
    assert result.return_value in (None, '"agg"')
    assert printed(drawing, "print(open('figure-7.png', 'rb').read(8))") == r"b'\x89PNG\r\n\x1a\n'"


def test_nothing_is_saved_where_nothing_was_left_open(drawing):
    for code in (PLOT + "plt.close('all')", "print(1)", "import matplotlib.pyplot"):
        result, _, stderr = run(drawing, code)
        assert (result.outcome, result.artifacts) == ("ok", ()), stderr


def test_they_go_to_the_working_directory(drawing):
    code = "import os\nos.makedirs('sub', exist_ok=True)\nos.chdir('sub')\n" + PLOT
    assert [a.path for a in run(drawing, code)[0].artifacts] == ["sub/figure-1.png"]


def test_there_is_a_most_of_them(drawing):
    code = PLOT + "import warnings\nwarnings.simplefilter('ignore')\nfor n in range(30): plt.figure(figsize=(1, 1))"
    result, _, stderr = run(drawing, code)
    assert len(result.artifacts) == 20
    assert stderr == "the rest was not saved: of 31 figures only 20 are saved\n"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("plt.Figure.savefig = lambda *a, **k: 1 / 0", "figure-1.png was not saved: ZeroDivisionError"),
        ("plt.Figure.savefig = lambda *a, **k: exec('while True: pass')", "the rest was not saved: drawing took longer than"),
        ("import os\nplt.Figure.savefig = lambda *a, **k: os.kill(os.getpid(), 11)", "the rest was not saved: drawing ended with signal"),
        ("plt.get_fignums = None", ""),
        ("plt.figure(figsize=(600, 600), dpi=100)\nplt.close(1)", "figure-2.png was not saved: ValueError: 60000 x 60000 pixels"),
        ("import os\nos.chmod('.', 0o500) if os.stat('.').st_uid == os.getuid() else os.chdir('/proc')", "figure-1.png was not saved"),
    ],
)  # fmt: skip
def test_what_can_not_be_saved_is_said_and_changes_nothing(drawing, harm, words):
    result, stdout, stderr = run(drawing, PLOT + harm + "\nprint('end')\ndef handler(event): return 5", timeout=5)
    assert (result.outcome, result.return_value, stdout) == ("ok", "5", "end\n"), result
    assert stderr.startswith(words) and len(stderr.splitlines()) == bool(words), stderr
    assert result.artifacts == ()
