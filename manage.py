#!/usr/bin/env python
"""Django's command line, for this project."""

import os
import sys


def main() -> None:
    """Run a command. Settings that can't be read are one line that says which, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sandbox_platform.settings")
    try:
        from django.conf import settings
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("The dependencies are not installed: make run does that (or deploy/install run), into .venv")
    try:
        settings.INSTALLED_APPS  # noqa: B018 - reading any one reads them all
    except OSError as error:
        sys.exit(f"{error.filename} can't be written to ({error.strerror}): set SANDBOX_STATE_DIR to a folder that can")
    except ValueError as error:
        sys.exit(f"The settings can't be read from the environment: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
