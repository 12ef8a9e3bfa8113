"""Squid as a filtering proxy: its configuration, and its life as a child of ours."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from runtime.egress import helper

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
USER = "proxy"
"""Debian's own, there on every system; it owns nothing."""
START_PATIENCE = 30.0
"""Seconds until it must take connections."""
TEMPLATES = Path("/usr/share/squid/errors/templates")
# Addresses that are nobody's business, whatever name leads there. Squid takes IPv4 in IPv6 (::ffff:10.0.0.1) for the IPv4 that it is.
# 168.63.129.16 looks public, and is the platform of the machine itself on Azure: metadata and keys.
REFUSED = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
    "::/128", "::1/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16",
    "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip
CONFIG = """\
# Written at each start.
http_port 127.0.0.1:{port} require-proxy-header
acl gateway src 127.0.0.1/32
proxy_protocol_access allow gateway
proxy_protocol_access deny all

external_acl_type listing ttl=60 negative_ttl=5 cache=20000 children-max=2 children-startup=1 concurrency=64 queue-size=4096 \
%SRC %DST %PORT %METHOD {python} -I {helper} {lists}
acl listed external listing
acl http proto HTTP
acl tunnel method CONNECT
acl refused dst {refused}
http_access deny manager
http_access deny !tunnel !http
http_access deny !listed
# The last question: nothing may come between the look at the addresses and the connection to one of them.
http_access deny refused
http_access allow all
deny_info ERR_SANDBOX_LIST listed
deny_info ERR_SANDBOX_ADDRESS refused

{nameservers}
hosts_file none
dns_timeout 10 seconds
dns_retransmit_interval 2 seconds
negative_dns_ttl {pinned} seconds
connect_timeout 15 seconds
forward_timeout 30 seconds
client_lifetime 6 hours
request_timeout 60 seconds
read_timeout {idle} seconds
client_idle_pconn_timeout {idle} seconds
# Each request has a connection of its own to the server: none is shared by two sandboxes.
server_persistent_connections off
shutdown_lifetime 0 seconds

cache deny all
cache_mem 0 MB
memory_pools off
max_filedescriptors 8192
via off
forwarded_for delete
httpd_suppress_version_string on
visible_hostname sandbox-egress
uri_whitespace deny
icp_port 0
pinger_enable off
error_directory {errors}
logformat sandbox %>a %rm %>rd %>rP %>Hs %Ss %err_code %>st %<st %tr
access_log stdio:{log} sandbox
cache_log {folder}/squid.log
cache_store_log none
logfile_rotate 0
netdb_filename none
coredump_dir {folder}
pid_filename none
"""
LIST_WORDS = "403 from the sandbox's egress proxy: %o\n"
ADDRESS_WORDS = (
    "403 from the sandbox's egress proxy: %H leads to an address that is never allowed (private, link-local, loopback, "
    "metadata, multicast, or of the host itself).\n"
)
OTHER_WORDS = "The sandbox's egress proxy could not do this: %c %E\n"


@dataclass(frozen=True)
class Options:
    """`nameservers`: addresses to ask, none for the host's own. `refused`: networks beside `REFUSED`. Seconds: `idle` until a silent
    connection is cut, `pinned` that the addresses of a name are kept at least."""

    nameservers: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    idle: int = 120
    pinned: int = 60


def program() -> str | None:
    """Where squid is; None where it is not installed."""
    return shutil.which("squid", path=PATH)


def own_addresses() -> list[str]:
    """All addresses of this host: what listens here may trust whoever comes from here."""
    found = set()
    for row in _lines("/proc/net/if_inet6"):
        found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row.split()[0])))
    previous = ""
    for row in _lines("/proc/net/fib_trie"):
        words = row.split()
        if "LOCAL" in words and "host" in words:
            found.add(previous)
        elif words and words[0] == "|--":
            previous = words[1]
    return sorted(found)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


class Squid:
    """One squid, and the folder that it and its helpers read: configuration, error texts, the lists of sandboxes.

    `rules` is the module `hosts`; `report` gets each line of its log.
    """

    def __init__(self, folder: Path, rules: ModuleType, options: Options, report: Callable[[str], None]) -> None:
        self.folder, self._rules, self._options, self._report = folder, rules, options, report
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: int | None = None
        self._rest = b""

    # The lists

    def allow(self, address: str, template: str, hosts: Iterable[str]) -> None:
        """From now on whoever comes with that address may reach these."""
        path = self._list(address)
        text = json.dumps({"template": template, "hosts": list(hosts)})
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(path)

    def forget(self, address: str) -> None:
        """It may reach nothing any more."""
        self._list(address).unlink(missing_ok=True)

    def _list(self, address: str) -> Path:
        return self.folder / "lists" / address.replace(":", "_")

    # Its life

    def prepare(self) -> None:
        """Make the folder anew, readable for the proxy's user, writable where it must be."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in (self.folder, self.folder / "lists", self.folder / "errors", self.folder / "own"):
            path.mkdir(mode=0o755)
            path.chmod(0o755)
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.folder / "own", user.pw_uid, user.pw_gid)
        for source in (helper.__file__, self._rules.__file__):
            assert source is not None
            self._write(Path(source).name, Path(source).read_text())
        for name in os.listdir(TEMPLATES):
            self._write(f"errors/{name}", OTHER_WORDS if name.startswith("ERR_") else (TEMPLATES / name).read_text())
        self._write("errors/ERR_SANDBOX_LIST", LIST_WORDS)
        self._write("errors/ERR_SANDBOX_ADDRESS", ADDRESS_WORDS)

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    async def start(self) -> None:
        """Returns once it takes connections. Raises RuntimeError with its own words where it does not."""
        squid = program()
        if squid is None:
            raise RuntimeError("squid is not installed: apt-get install squid")
        self.port = _free_port()
        config = self._write("squid.conf", self._config())
        self._open_log()
        self._process = subprocess.Popen(
            [*_as_nobody(), squid, "-N", "-f", str(config)], cwd="/", env={"PATH": PATH, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = asyncio.get_running_loop().time() + START_PATIENCE
        while not await self._answers():
            if not self.alive or asyncio.get_running_loop().time() > end:
                raise RuntimeError(f"squid does not start: {self._words()}")
            await asyncio.sleep(0.02)

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._log is not None:
            asyncio.get_running_loop().remove_reader(self._log)
            os.close(self._log)
            self._log = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _config(self) -> str:
        system = Path("/usr/bin/python3")
        return CONFIG.format(
            port=self.port,
            python=system if system.exists() else sys.executable,
            helper=self.folder / "helper.py",
            lists=self.folder / "lists",
            errors=self.folder / "errors",
            folder=self.folder / "own",
            log=self.folder / "own" / "log",
            refused=" ".join((*REFUSED, *own_addresses(), *self._options.refused)),
            nameservers=f"dns_nameservers {' '.join(self._options.nameservers)}" if self._options.nameservers else "",
            idle=self._options.idle,
            pinned=self._options.pinned,
        )

    def _open_log(self) -> None:
        """A pipe with a name; held open for writing too, so that it never ends."""
        path = self.folder / "own" / "log"
        os.mkfifo(path, 0o600)
        info = path.parent.stat()
        os.chown(path, info.st_uid, info.st_gid)
        self._log = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not stat.S_ISFIFO(os.fstat(self._log).st_mode):
            raise RuntimeError(f"{path} is not the pipe that was made")
        asyncio.get_running_loop().add_reader(self._log, self._read_log)

    def _read_log(self) -> None:
        assert self._log is not None
        *lines, self._rest = (self._rest + os.read(self._log, 65536)).split(b"\n")
        for line in lines:
            self._report(line.decode(errors="replace"))

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def _words(self) -> str:
        try:
            lines = (self.folder / "own" / "squid.log").read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        telling = [line for line in lines if "FATAL" in line or "ERROR" in line] or lines
        return " / ".join(telling[-3:])[:1000] or "it left no log"


def _as_nobody() -> list[str]:
    """Never root, never more than it was, and gone when we are."""
    shed = ["setpriv", "--no-new-privs", "--pdeathsig", "KILL"]
    if os.geteuid() == 0:
        shed += ["--reuid", USER, "--regid", USER, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return shed


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
