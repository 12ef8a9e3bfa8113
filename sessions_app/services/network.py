"""What a session may reach: its template's list of hosts, or less."""

from __future__ import annotations

from typing import Any

from sandbox_platform import processes
from sandbox_platform.errors import ApiError, invalid
from templates_app import hosts
from templates_app.models import Network, Template


def granted(template: Template, values: dict[str, Any]) -> list[str]:
    """The hosts of a session, empty for no network. `values` are validated fields of the request.

    400 for more than the template gives, 503 where the proxy does not run.
    """
    network, asked = values.get("network"), values.get("allowed_hosts")
    if network == Network.NONE and asked:
        raise invalid("allowed_hosts: a session without a network reaches none; leave `network` out, or the hosts")
    if network == Network.NONE:
        return []
    if (network or asked) and not template.hosts:
        raise invalid(f"{'allowed_hosts' if asked else 'network'}: template '{template.pk}' gives no network")
    if asked and (beyond := hosts.beyond(asked, template.hosts)):
        raise invalid(
            f"allowed_hosts: beyond the list of template '{template.pk}': {', '.join(beyond)[:300]}",
            "Ask for hosts of the template's own list: GET /api/v1/templates/{id} shows it",
        )
    wanted = asked or template.hosts
    if wanted and not processes.running(processes.EGRESS):
        raise ApiError(
            "RuntimeUnavailable",
            f"Template '{template.pk}' lets its sessions reach hosts, and the egress proxy does not run",
            solution='Ask for "network": "none", or have the operator install squid: `manage.py doctor` says how',
            headers={"Retry-After": "5"},
        )
    return list(wanted)
