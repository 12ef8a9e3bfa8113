"""Images for Docker: executor/Dockerfile, on a base that is pulled or made from Debian packages."""

from __future__ import annotations

import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
from django.conf import settings
from docker.errors import APIError, DockerException, ImageNotFound

from templates_app.images import bootstrap, names, site, sources
from templates_app.images.base import Bootstrap, BuildFailed, Made, Recipe, Say
from templates_app.images.site import Target

LABEL_FINGERPRINT = "sbx.fingerprint"
LABEL_PACKAGES = "sbx.packages"
# Seconds: without any word from the engine; for a pull as a whole; before a pull that failed is tried again.
SILENCE, PULL_TIMEOUT, PULL_AGAIN = 60, 900, 600
PLATFORMS = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}

_failed_pulls: dict[str, float] = {}


class DockerBuilder:
    """Builds on the engine at `url`, or at DOCKER_HOST. A reference is an image id."""

    def __init__(self, url: str = "") -> None:
        try:
            self.client = docker.DockerClient(base_url=url or settings.DOCKER_URL, timeout=SILENCE)
        except DockerException as error:
            raise BuildFailed(f"Docker does not answer: {error}") from error

    def fingerprint(self, recipe: Recipe, say: Say) -> str:
        """Of the executor, the packages, the Dockerfile and the base image's id."""
        base = self._base(recipe, say)
        return sources.fingerprint(
            runtime="docker",
            template=recipe.template_id,
            packages=site.ingredients(recipe),
            base=base.id,
            dockerfile=sources.DOCKERFILE.read_text(),
        )

    def find(self, recipe: Recipe, fingerprint: str) -> str | None:
        """Any image on the engine with this fingerprint: another installation may have made it."""
        with _engine_errors():
            for image in self.client.images.list(filters={"label": f"{LABEL_FINGERPRINT}={fingerprint}"}):
                with suppress(ImageNotFound):  # it went between the list and the tag
                    self._hold(image, recipe, fingerprint)
                    return str(image.id)
        return None

    def build(self, recipe: Recipe, fingerprint: str, say: Say) -> str:
        """Install the packages here, then have the engine copy them onto the base. No step there has a network."""
        base = self._base(recipe, say)
        with (
            tempfile.TemporaryDirectory(prefix="image-", dir=settings.FILE_UPLOAD_TEMP_DIR) as scratch,
            _engine_errors(),
        ):
            folder = Path(scratch)
            sources.copy_executor(folder / "executor")
            site.install(recipe, self._target(base), folder / "site", say)
            sources.open_to_all(folder)
            (folder / "Dockerfile").write_bytes(sources.DOCKERFILE.read_bytes())
            say("Building the image")
            with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as context:
                _pack(folder, context)
                context.seek(0)
                packages = " ".join(site.frozen(folder / "site"))
                return self._build(recipe, fingerprint, str(base.id), context, packages, say)

    def describe(self, ref: str) -> Made:
        """The digest is the image's id, which is that of its whole content."""
        with _engine_errors():
            image = self.client.images.get(ref)
        packages = (image.labels or {}).get(LABEL_PACKAGES, "")
        return Made(str(image.id), int(image.attrs.get("Size") or 0), tuple(packages.split()))

    def prune(self, in_use: set[str]) -> list[str]:
        """Let go of images that no row and no sandbox needs. The engine removes those that nobody else holds."""
        removed = []
        with _engine_errors():
            for image in self.client.images.list(_holder()):
                for tag in image.tags if image.id not in in_use else []:
                    if tag.startswith(f"{_holder()}:"):
                        with suppress(APIError):  # a container uses it
                            self.client.images.remove(tag)
                            removed.append(tag)
        return removed

    def _hold(self, image: Any, recipe: Recipe, fingerprint: str) -> None:
        """Give it the template's name, and one of this installation alone: others may rename and prune theirs meanwhile."""
        if names.is_own(recipe.image):
            image.tag(recipe.image)
        image.tag(_holder(), _tag(recipe, fingerprint))

    def _build(self, recipe: Recipe, fingerprint: str, base: str, context: Any, packages: str, say: Say) -> str:
        labels = {
            LABEL_FINGERPRINT: fingerprint,
            LABEL_PACKAGES: packages,
            "sbx.template": recipe.template_id,
        }
        name = f"{_holder()}:{_tag(recipe, fingerprint)}"
        events = self.client.api.build(
            fileobj=context, custom_context=True, tag=name, labels=labels, buildargs={"BASE_IMAGE": base},
            network_mode="none", rm=True, forcerm=True, decode=True, timeout=PULL_TIMEOUT,
        )  # fmt: skip
        said = ""
        for event in events:
            if "error" in event:
                raise BuildFailed(f"docker build failed: {event['error'].strip()} {said[-1000:].strip()}".strip())
            said += event.get("stream", "")
            say(event.get("stream", "").strip())
        built = re.findall(r"Successfully built ([0-9a-f]+)", said)
        image = self.client.images.get(built[-1] if built else name)
        self._hold(image, recipe, fingerprint)
        return str(image.id)

    def _base(self, recipe: Recipe, say: Say) -> Any:
        """The base image: what is here, what can be pulled, or one made from Debian packages."""
        with _engine_errors():
            if recipe.bootstrap != Bootstrap.ALWAYS and (image := self._local(recipe.base_image)):
                return image
            # A base that was made here before means that nothing could be pulled: a start does not wait for that again.
            known = self._local(bootstrap.IMAGE)
            if recipe.bootstrap != Bootstrap.NEVER and known:
                return known
            if recipe.bootstrap != Bootstrap.ALWAYS and (image := self._pull(recipe.base_image, say) or known):
                return image
            if recipe.bootstrap == Bootstrap.NEVER or not bootstrap.possible():
                raise BuildFailed(
                    f"{recipe.base_image} can't be pulled. Make a base from Debian packages instead, as root: "
                    "apt-get install mmdebstrap && manage.py build_images --bootstrap"
                )
            tar = bootstrap.tarball(say)
            say(f"Importing {bootstrap.IMAGE}")
            repository, tag = bootstrap.IMAGE.split(":")
            changes = ["ENV PATH=/usr/local/bin:/usr/bin:/bin", "LABEL sbx.base=debian"]
            self.client.api.import_image_from_file(str(tar), repository=repository, tag=tag, changes=changes)
            return self.client.images.get(bootstrap.IMAGE)

    def _local(self, name: str) -> Any:
        try:
            return self.client.images.get(name)
        except ImageNotFound:
            return None

    def _pull(self, name: str, say: Say) -> Any:
        """The image, or None. Bounded in time; a failure is remembered: three templates don't wait three times."""
        if time.monotonic() - _failed_pulls.get(name, -PULL_AGAIN) < PULL_AGAIN:
            return None
        say(f"Pulling {name}")
        end = time.monotonic() + PULL_TIMEOUT
        try:
            for event in self.client.api.pull(name, stream=True, decode=True):
                if "error" in event or time.monotonic() > end:
                    raise BuildFailed(str(event.get("error", "out of time")))
            return self.client.images.get(name)
        except (BuildFailed, DockerException, requests.RequestException):
            _failed_pulls[name] = time.monotonic()
            return None

    def _target(self, base: Any) -> Target:
        """Which Python the base has: from its PYTHON_VERSION, or by asking it, confined."""
        architecture = base.attrs["Architecture"]
        if architecture not in PLATFORMS:
            raise BuildFailed(f"There are no packages for images of the architecture {architecture}")
        for entry in base.attrs["Config"].get("Env") or []:
            name, _, value = entry.partition("=")
            if name == "PYTHON_VERSION":
                return Target(".".join(value.split(".")[:2]), PLATFORMS[architecture])
        return Target(self._ask_version(base), PLATFORMS[architecture])

    def _ask_version(self, base: Any) -> str:
        container = self.client.containers.create(
            base.id, ["-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], entrypoint="python3",
            network_mode="none", read_only=True, cap_drop=["ALL"], pids_limit=16, mem_limit="256m", user="65534:65534",
            labels={"sbx.probe": settings.INSTANCE_ID},
        )  # fmt: skip
        try:
            container.start()
            container.wait(timeout=30)
            answer = container.logs(stdout=True, stderr=False, tail=1).decode().strip()
        finally:
            container.remove(force=True)
        if not answer.replace(".", "", 1).isdigit():
            raise BuildFailed("The base image has no python3 in its PATH")
        return answer


@contextmanager
def _engine_errors() -> Iterator[None]:
    """What the engine or the connection to it raises becomes BuildFailed."""
    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise BuildFailed(f"Docker: {getattr(error, 'explanation', None) or error}") from error


def _holder() -> str:
    """The repository whose tags hold this installation's images."""
    return f"sandbox-images/{settings.INSTANCE_ID.lower()}"


def _tag(recipe: Recipe, fingerprint: str) -> str:
    return f"{recipe.template_id}-{fingerprint[:12]}"


def _pack(folder: Path, context: Any) -> None:
    """The build context: root's files with fixed times, so that the same content gives the same layers."""

    def normal(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = 0
        return member

    with tarfile.open(fileobj=context, mode="w") as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, arcname=entry.name, filter=normal)
