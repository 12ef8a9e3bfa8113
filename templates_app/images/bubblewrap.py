"""Images for bubblewrap: a folder with the executor and the packages, seen beside the host's own read-only /usr."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from django.conf import settings

from templates_app.images import site, sources
from templates_app.images.base import BuildFailed, Made, Recipe, Say
from templates_app.images.site import Target

# As in the sandbox, where the executor is started as `python3`.
SANDBOX_PATH = "/usr/local/bin:/usr/bin:/bin"


class BubblewrapBuilder:
    """Folders `<state>/images/<template>-<fingerprint>/{executor,site}`, complete once they have this name."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(settings.STATE_DIR) / "images"

    def fingerprint(self, recipe: Recipe, say: Say) -> str:
        """Of the executor, the packages and this host's Python."""
        target = _host_python()
        return sources.fingerprint(
            runtime="bubblewrap",
            template=recipe.template_id,
            packages=site.ingredients(recipe),
            python=target.version,
            platform=target.platform,
        )

    def find(self, recipe: Recipe, fingerprint: str) -> str | None:
        """The folder, if it is there."""
        folder = self._place(recipe, fingerprint)
        return str(folder) if folder.is_dir() else None

    def build(self, recipe: Recipe, fingerprint: str, say: Say) -> str:
        """The folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.folder))
        try:
            sources.copy_executor(draft / "executor")
            site.install(recipe, _host_python(), draft / "site", say)
            say("Compiling")
            site.compile_all(_python_path(), [draft / "executor", draft / "site"])
            sources.open_to_all(draft)
            place = self._place(recipe, fingerprint)
            if not place.exists():
                draft.rename(place)
        except OSError as error:
            raise BuildFailed(f"Writing to {self.folder} failed: {error.strerror or error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return str(place)

    def describe(self, ref: str) -> Made:
        """The digest is of all names and contents of the folder, in order; byte code does not count."""
        folder, digest, size = Path(ref), hashlib.sha256(), 0
        try:
            for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
                digest.update(f"{path.relative_to(folder)}\0".encode() + content)
                size += path.stat().st_size
        except OSError as error:
            raise BuildFailed(f"Reading {folder} failed: {error.strerror or error}") from error
        return Made(f"sha256:{digest.hexdigest()}", size, site.frozen(folder / "site"))

    def prune(self, in_use: set[str]) -> list[str]:
        """Folders that no row and no sandbox names, and drafts whose builder died. Call when nothing is being built."""
        if not self.folder.is_dir():
            return []
        unused = [path for path in self.folder.iterdir() if str(path) not in in_use]
        for path in unused:
            shutil.rmtree(path, ignore_errors=True)
        return [path.name for path in unused]

    def _place(self, recipe: Recipe, fingerprint: str) -> Path:
        return self.folder / f"{recipe.template_id}-{fingerprint[:12]}"


def _python_path() -> str:
    found = shutil.which("python3", path=SANDBOX_PATH)
    if not found:
        raise BuildFailed("This host has no /usr/bin/python3 for sandboxes: apt-get install python3")
    return found


def _host_python() -> Target:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([_python_path(), "-I", "-c", code], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{_python_path()} does not start: {done.stderr.strip()[-300:]}")
    return Target(done.stdout.strip(), f"{platform.machine()}-unknown-linux-gnu")
