"""Entry point: `python3 -I /opt/sandbox/executor` and `python3 -m executor` both lead to `cli.main`."""

import os
import sys

if not __package__:
    # Run as a folder, Python puts the folder itself first on sys.path; its parent makes it the package `executor`.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from executor.cli import main

sys.exit(main())
