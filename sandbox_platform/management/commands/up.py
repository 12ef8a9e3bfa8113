"""`make run`: set up, start, show that it works, serve."""

from __future__ import annotations

import http.client
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sandbox_platform.supervisor import engine, exclusive, hello, logfile, setup
from sandbox_platform.supervisor.console import CannotStart, line, say, step, warn
from sandbox_platform.supervisor.service import Service, Stop, exit_code, stop_on_signals


class Command(BaseCommand):
    """Serves until SIGINT or SIGTERM, and leaves nothing running."""

    help = "Set this installation up, start it, run a first session, and serve until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--no-hello", action="store_true", help="start without a first run")

    def handle(self, **options: Any) -> None:
        """Raises CommandError with what to type where it can't be started."""
        try:
            with exclusive.state_folder():
                code = self._run(first_run=not options["no_hello"])
        except CannotStart as error:
            raise CommandError(str(error)) from error
        if code:
            sys.exit(code)

    def _run(self, first_run: bool) -> int:
        began, service = time.monotonic(), None
        try:
            stop_on_signals()
            logfile.log_here(Path(settings.STATE_DIR) / "logs" / "supervisor.log")
            line("Sandbox Control Plane")
            exclusive.check_port()
            setup.prepare_database()
            exclusive.bury_predecessors()
            credentials = setup.ensure_credentials()
            runtime_type = engine.prepare()
            service = Service()
            with step("service") as current:
                service.start()
                current.done("the web server and the workers are ready")
            if first_run:
                _say_hello(credentials.token)
            unready = engine.order_other_images(runtime_type)
            _welcome(credentials, unready, time.monotonic() - began)
            service.watch()
        except Stop:
            line()
        finally:
            gently = service.stop() if service else True
        line("Stopped.")
        return exit_code(gently)


def _say_hello(token: str) -> None:
    """A first run that fails does not keep the service down: the operator may need it to see why."""
    try:
        result = hello.run(token)
        say("first run", f"{result.body}  (session up in {result.up:.2f} s, result in {result.ran:.2f} s)")
    except (CannotStart, OSError, http.client.HTTPException) as error:
        warn(f"first run   FAILED: {error}")


def _welcome(credentials: setup.Credentials, unready: list[str], seconds: float) -> None:
    url = f"http://{_url_host()}:{settings.WEB_PORT}"
    token_file = setup.shown(Path(settings.STATE_DIR) / "token")
    line()
    say("API", f"{url}/api/v1")
    say("docs", f"{url}/api/docs")
    say(
        "admin",
        f"{url}/admin/  (user {setup.ADMIN}, password in {setup.shown(Path(settings.STATE_DIR) / 'admin-password')})",
    )
    if credentials.new:
        say("password", f"{credentials.password}  (shown this once)")
        say("token", f"{credentials.token}  (shown this once, kept in {token_file})")
    else:
        say("token", f"in {token_file}")
    if settings.WEB_HOST not in ("127.0.0.1", "localhost", "::1"):
        say("note", f"other machines must use a name in ALLOWED_HOSTS (now {', '.join(settings.ALLOWED_HOSTS)})")
    if unready:
        say("preparing", f"{', '.join(unready)}: sessions of them wait until they are ready")
    line()
    line("Try it:")
    line(f'  curl -s {url}/api/v1/sessions -H "Authorization: Bearer $(cat {token_file})" \\')
    line("""    -H 'Content-Type: application/json' -H 'Prefer: wait=30' -d '{"template_id": "python-basic"}'""")
    line()
    line(f"Ready after {seconds:.1f} s. Ctrl-C stops it all.")


def _url_host() -> str:
    host = hello.local_host()
    return f"[{host}]" if ":" in host else "localhost" if host == "127.0.0.1" else host
