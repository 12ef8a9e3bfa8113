"""The service's own settings, with a state folder per test process and without what only slows tests down."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Short: the path of a Unix socket below it has 107 bytes at the most.
_state = tempfile.mkdtemp(prefix="sbxt-")
_maker = os.getpid()
os.environ["SANDBOX_STATE_DIR"] = _state
os.environ.setdefault("LOG_LEVEL", "ERROR")
# Those tests that want a Redis start one of their own.
os.environ.pop("REDIS_URL", None)


@atexit.register
def _remove_state() -> None:
    if os.getpid() == _maker:
        shutil.rmtree(_state, ignore_errors=True)


from sandbox_platform.settings import *  # noqa: E402, F403
from sandbox_platform.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, as in service: threads and processes of a test meet in it.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(_state) / "test.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
