"""The proxy's question "may this sandbox ask for that?", answered. Squid starts a copy of this file, beside a copy of `hosts.py`.

Standard library alone. `helper.py FOLDER`: in the folder is a file for each sandbox that may go out, called like the address that the
gateway gives it, with `{"hosts": [...], "template": "..."}`.

A line in: `<channel> <address> <host> <port> <method>`. A line out: `<channel> OK` or `<channel> ERR message="..."`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote, unquote

SHOWN = 12
"""Hosts of a list that a refusal names."""


def main(folder: Path) -> None:
    """Until the proxy closes the pipe."""
    sys.path.insert(0, str(Path(__file__).parent))  # isolated, Python leaves it out
    for line in sys.stdin:
        channel, *asked = line.split()
        try:
            answer = verdict(folder, *[unquote(word) for word in asked[:4]])
        except (OSError, ValueError, TypeError):
            answer = refusal("This sandbox has no way out.")
        print(channel, answer, flush=True)


def verdict(folder: Path, address: str, host: str, port: str, method: str) -> str:
    """What the proxy is told. Raises OSError where the sandbox is not known."""
    import hosts as rules  # the copy beside this one

    known = json.loads((folder / address.replace(":", "_")).read_text())
    if rules.allows(known["hosts"], host, int(port), method == "CONNECT"):
        return "OK"
    listed = ", ".join(known["hosts"][:SHOWN]) + (", ..." if len(known["hosts"]) > SHOWN else "")
    what = "tunnels (https)" if method == "CONNECT" else "plain http"
    return refusal(
        f"{host} port {port} ({what}) is not in the list of hosts that this session has of template"
        f" {known['template']}: {listed}. Without a port of its own an entry means http on 80 and https on 443."
    )


def refusal(words: str) -> str:
    """In the proxy's spelling."""
    return f"ERR message={quote(words)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
