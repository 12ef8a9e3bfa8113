"""The page of a container: attestation, limits, live figures and log, what the engine says, what happened when."""

from __future__ import annotations

from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from runtime.models import Container
from runtime.services import inspection
from sandbox_platform.admin_base import Card, link
from sandbox_platform.admin_show import as_json, badge, inert, moment, table, timeline
from templates_app import resources

# What a sandbox must show, and what it means for whoever reads it.
WALLS: tuple[tuple[str, str, Any], ...] = (
    ("no_new_privileges", "Privileges can't be gained", True),
    ("seccomp", "System calls are filtered", "filter"),
    ("root_filesystem", "The root file system can't be written", "read-only"),
    ("network", "No network", "none"),
)
WEAK = ("none", "watcher", "")


def container_cards(row: Container) -> list[Card]:
    """All of it."""
    return [
        Card("Container", table(_facts(row))),
        Card("Attested after its start", _attestation(row.isolation)),
        Card("Limits, and how they are enforced", _limits(row)),
        Card("Timeline", timeline(_steps(row))),
        Card("Now", _figures(row), wide=True),
        Card("Log of the executor", _log(), wide=True),
        Card("What the engine says", as_json(inspection.document(row), "The engine's answer"), wide=True),
    ]


def _facts(row: Container) -> list[tuple[str, Any]]:
    state = format_html('<span class="badge badge-{}" data-field="status">{}</span>', row.status, row.status)
    return [
        ("Status", state), ("In words", inert(row.detail) or "–"), ("Session", link(getattr(row, "session", None))),
        ("Template", link(row.template)), ("Node", link(row.node)), ("Runtime", row.runtime_type), ("Name", row.name),
        ("Engine's id", row.ref or "–"), ("Image", row.image), ("Age", moment(row.created_at)),
    ]  # fmt: skip


def _attestation(isolation: dict[str, Any]) -> SafeString | str:
    """Green holds, red does not, amber can't be seen from inside (gVisor shows its own kernel)."""
    if not isolation:
        return format_html('<p class="quiet">{}</p>', "Nothing is attested yet: that happens when it has started.")
    rows = [(words, _verdict(isolation.get(key), wanted)) for key, words, wanted in WALLS]
    split = isolation.get("user_uid") not in (None, 0, isolation.get("executor_uid"))
    capabilities = set(isolation.get("capabilities") or ())
    rows.append(
        ("User code runs as another user", badge(f"uid {isolation.get('user_uid')}", "good" if split else "bad"))
    )
    few = capabilities <= {"SETUID", "SETGID", "KILL"}
    rows.append(
        ("Capabilities of the executor", badge(", ".join(sorted(capabilities)) or "none", "good" if few else "bad"))
    )
    interfaces = isolation.get("interfaces") or []
    rows.append(("Interfaces", badge(", ".join(interfaces) or "none", "good" if set(interfaces) <= {"lo"} else "bad")))
    own = isolation.get("kernel") == "gvisor"
    rows.append(("Kernel", badge("its own (gVisor)" if own else "shared with the host", "good" if own else "calm")))
    return table(rows)


def _verdict(value: Any, wanted: Any) -> SafeString:
    if value is None:
        return badge("not visible", "warn")
    word = {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return badge(word, "good" if value == wanted else "bad")


def _limits(row: Container) -> SafeString:
    asked = {"cpu": f"{row.cpu} cores", "memory": row.memory, "disk": row.disk}
    names = [*asked, *(name for name in row.limits_enforced if name not in asked)]
    rows = []
    for name in names:
        how = str(row.limits_enforced.get(name, ""))
        rows.append(
            (
                name,
                format_html(
                    "{} {}", asked.get(name, ""), badge(how or "not known yet", "bad" if how in WEAK else "good")
                ),
            )
        )
    return table([*rows, ("slots", row.slots)])


def _figures(row: Container) -> SafeString | str:
    if row.status not in inspection.UP:
        return format_html('<p class="quiet">{}</p>', "It does not run any more.")
    charts = (
        ("CPU", "cpu", "cpu_seconds", "cores", float(row.cpu)),
        ("Memory", "memory_bytes", "memory", "", resources.size(row.memory) / 2**20),
        ("Processes", "pids", "pids", "", 8),
    )
    drawn = format_html_join(
        "",
        '<div><h3 class="tile-label">{} <strong data-field="{}"></strong></h3><div class="chart chart-small">'
        '<canvas role="img" aria-label="{} over the last minutes" data-series="{}" data-unit="{}" data-limit="{}"></canvas></div></div>',
        ((title, field, title, series, unit, limit) for title, field, series, unit, limit in charts),
    )
    more = table([
        ("Most memory so far", format_html('<span data-field="memory_peak_bytes">{}</span>', "…")),
        ("Killed for want of memory", format_html('<span data-field="oom_kills">{}</span>', "…")),
    ])  # fmt: skip
    return format_html('<div class="charts">{}</div>{}', drawn, more)


def _log() -> SafeString:
    return format_html(
        '<p class="quiet" data-field="connection" aria-live="polite"></p>'
        '<pre class="code live" tabindex="0" role="log" aria-label="{}" data-field="log">{}</pre>', "Log", "Asking for it …",
    )  # fmt: skip


def _steps(row: Container) -> list[tuple[Any, Any]]:
    session = getattr(row, "session", None)
    steps = [
        (row.created_at, "Asked for"), (row.started_at, "Executor ready and attested"),
        (row.ended_at, badge(row.status)),
    ]  # fmt: skip
    if session:
        ended = format_html("Session ended: {}", session.status_reason)
        steps += [
            (session.started_at, "Given to its session"),
            (session.ended_at, ended),
            (session.files_saved_at, "Files saved"),
        ]
    return steps
