"""How the console shows things. What a tenant wrote is inert: escaped, its control characters made visible, cut where it is long."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

# Characters. What is longer is cut, and says so.
SHOWN = 64 * 1024
# Lexers are made for honest code: more than this is shown plain, so that nobody can keep a thread busy with it.
HIGHLIGHTED = 16 * 1024
LEXERS = {
    "python": "python",
    "javascript": "javascript",
    "shell": "bash",
    "json": "json",
    "yaml": "yaml",
    "docker": "docker",
    "diff": "diff",
}
NOTHING = "–"

# Escape codes, and the marks that turn the direction of text: shown as pictures of themselves.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_PICTURES |= {
    code: f"\u27e8{code:04X}\u27e9" for code in (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_LINE_ENDS = re.compile(r"\r\n")


def inert(text: str) -> str:
    """Without anything that a terminal or a browser would act upon. Not escaped yet."""
    return _LINE_ENDS.sub("\n", text).translate(_PICTURES)


def pre(text: str, label: str = "") -> SafeString:
    """Text of a tenant in a box that scrolls: escaped, as it stands, the first SHOWN characters."""
    return _box(format_html("{}", inert(text[:SHOWN])), text, label)


def code(text: str, language: str, label: str = "") -> SafeString:
    """The same with colours."""
    shown = inert(text[:SHOWN])
    if len(shown) > HIGHLIGHTED or language not in LEXERS:
        return pre(text, label)
    lexer = get_lexer_by_name(LEXERS[language], stripnl=False, ensurenl=False)
    # Pygments escapes what it is given; it adds spans with classes and nothing else.
    return _box(mark_safe(highlight(shown, lexer, HtmlFormatter(nowrap=True))), text, label)  # noqa: S308


def as_json(value: Any, label: str = "") -> SafeString:
    """A document, with colours."""
    return code(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str), "json", label)


def _box(body: SafeString, whole: str, label: str) -> SafeString:
    if not whole:
        return format_html('<span class="quiet">{}</span>', "empty")
    cut = (
        format_html('<p class="cut">The first {} of {} characters.</p>', SHOWN, len(whole))
        if len(whole) > SHOWN
        else ""
    )
    return format_html(
        '<pre class="code" tabindex="0" role="region" aria-label="{}">{}</pre>{}', label or "Text", body, cut
    )


def badge(word: str, tone: str = "") -> SafeString:
    """A state. `tone` overrides the colour that the word has by itself (see console.css)."""
    return format_html('<span class="badge badge-{}">{}</span>', tone or word, word) if word else SafeString(NOTHING)


def moment(when: dt.datetime | None) -> SafeString | str:
    """How long ago, or how long from now; the exact time on hovering."""
    if when is None:
        return NOTHING
    seconds = (timezone.now() - when).total_seconds()
    words = f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', when.isoformat(), f"{when:%Y-%m-%d %H:%M:%S} UTC", words
    )


def duration(seconds: float) -> str:
    """In the largest unit that leaves a number of at least 1."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def link(row: Model | None, text: str = "") -> SafeString | str:
    """A link to a row's admin page."""
    if row is None:
        return NOTHING
    page = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])
    return format_html('<a href="{}">{}</a>', page, inert(text or str(row)))


def table(rows: list[tuple[Any, Any]]) -> SafeString:
    """Names and values, both escaped."""
    body = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td></tr>', rows)
    return format_html('<table class="facts"><tbody>{}</tbody></table>', body)


def timeline(steps: list[tuple[dt.datetime | None, Any]]) -> SafeString:
    """What happened when, in order; steps without a moment did not happen."""
    known = sorted(((when, what) for when, what in steps if when is not None), key=lambda step: step[0])
    rows = [(what, moment(when), f"{when:%H:%M:%S}") for when, what in known]
    body = format_html_join("", '<li>{} <span class="quiet">{} · {} UTC</span></li>', rows)
    return format_html('<ol class="timeline">{}</ol>', body)


def grid(heads: list[str], rows: list[tuple[Any, ...]], empty: str) -> SafeString:
    """A small table with a row of heads, or what to do where there are no rows."""
    if not rows:
        return format_html('<p class="quiet">{}</p>', empty)
    head = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in heads))
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    )
    return format_html(
        '<div class="results"><table class="plain"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>',
        head,
        body,
    )
