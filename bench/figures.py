"""Samples, percentiles, and the table of bars."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Samples = dict[str, list[float]]


def interleave(
    cases: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 3, settle: Callable[[str, Any], None] | None = None
) -> Samples:
    """Milliseconds of each case, A B A B: what the machine does to one, it does to all.

    `settle(name, answer)` is called behind each, outside the measured time, to end what a case has begun.
    """
    samples: Samples = defaultdict(list)
    for number in range(warm_up + rounds):
        for name, case in cases.items():
            began = time.perf_counter()
            answer = case()
            if number >= warm_up:
                samples[name].append((time.perf_counter() - began) * 1000)
            if settle is not None:
                settle(name, answer)
    return dict(samples)


def percentile(values: list[float], percent: float) -> float:
    """By the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Report:
    """Collects distributions, figures and ratios; prints and keeps them."""

    def __init__(self) -> None:
        self.distributions: Samples = {}
        self.figures: dict[str, float] = {}
        self.bars: list[tuple[str, float, float, float, bool]] = []

    def add(self, samples: Samples) -> None:
        """Print p50 and p95 of each."""
        for name, values in samples.items():
            self.distributions[name] = values
            print(
                f"  {name:<44} p50 {percentile(values, 50):8.2f} ms   p95 {percentile(values, 95):8.2f} ms   n {len(values)}"
            )

    def figure(self, name: str, value: float, unit: str) -> None:
        """Print one number."""
        self.figures[f"{name} [{unit}]"] = value
        print(f"  {name:<44} {value:10.3f} {unit}")

    def p(self, name: str, percent: float = 50) -> float:
        """A percentile of a distribution; NaN where it was left out."""
        values = self.distributions.get(name)
        return percentile(values, percent) if values else float("nan")

    def bar(self, name: str, value: float, bar: float, stretch: float, at_least: bool = False) -> None:
        """One line of the table."""
        self.bars.append((name, value, bar, stretch, at_least))

    def table(self) -> str:
        """Markdown."""
        lines = ["| work | measured | bar | stretch | |", "|---|---|---|---|---|"]
        for name, value, bar, stretch, at_least in self.bars:
            reached = lambda limit, v=value, up=at_least: v >= limit if up else v <= limit  # noqa: E731
            word = (
                "stretch"
                if reached(stretch)
                else "bar"
                if reached(bar)
                else "missed"
                if value == value
                else "not measured"
            )
            sign = ">=" if at_least else "<="
            lines.append(f"| {name} | {value:.3g} | {sign} {bar:g} | {sign} {stretch:g} | {word} |")
        return "\n".join(lines)

    def write(self, folder: Path) -> Path:
        """All of it, as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
        body = {"distributions_ms": self.distributions, "figures": self.figures, "bars": self.bars}
        path.write_text(json.dumps(body, indent=1))
        return path
