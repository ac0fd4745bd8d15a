"""The README's chart, from the JSON of ``make bench``; ``python -m …chart`` draws it again."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tests.benchmarks.writers import BARE, COMMAND, FIRST, OURS, WRITERS

LEFT_OUT = {"columnar-cached", "pandas-pickled", "pyarrow-zstd"}
OURS_COLOUR, PEER_COLOUR, FLOOR_COLOUR, INK = "#0b6e4f", "#9aa5b1", "#d9b44a", "#222222"


def draw(result: dict[str, Any], path: Path) -> None:
    """Two panels of horizontal bars on one logarithmic scale: warm and cold."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from tests.benchmarks.report import cold, warm

    contenders = [c for c in (*WRITERS, BARE) if c.key not in LEFT_OUT]
    panels = (
        ("second and later tables of a process", warm),
        ("first table, from process start", cold),
    )
    bars = {
        title: {
            c.key: statistics.median(values)
            for c in contenders
            if (values := of(result, c.key)) and not (c is BARE and of is warm)
        }
        for title, of in panels
    }
    shown = [c for c in contenders if any(c.key in panel for panel in bars.values())]
    if not shown:
        return
    first = next(iter(bars.values()))
    shown.sort(key=lambda c: first.get(c.key, 0.0), reverse=True)
    longest = max(max(panel.values(), default=1.0) for panel in bars.values())
    shortest = min(min(panel.values(), default=1.0) for panel in bars.values())
    with plt.rc_context({"font.size": 8.5, "text.color": INK, "font.family": "DejaVu Sans"}):
        figure, axes = plt.subplots(
            1, 2, figsize=(8.6, 0.6 + 0.3 * len(shown)), sharey=True, layout="constrained"
        )
        for axis, (title, panel) in zip(axes, bars.items(), strict=True):
            for place, contender in enumerate(shown):
                seconds = panel.get(contender.key)
                if seconds is None:
                    continue
                colour = PEER_COLOUR
                if contender in (OURS, COMMAND, FIRST):
                    colour = OURS_COLOUR
                elif contender.key in ("limit", BARE.key):
                    colour = FLOOR_COLOUR
                axis.barh(place, seconds, color=colour, height=0.66)
                bold = "bold" if contender is OURS else "normal"
                axis.text(seconds * 1.08, place, _seconds(seconds), va="center", weight=bold)
            axis.set_xscale("log")
            axis.set_xlim(shortest / 2, longest * 2.2)
            axis.set_ylim(-0.6, len(shown) - 0.4)
            axis.set_title(title, fontsize=8.5, loc="left")
            axis.xaxis.set_visible(False)
            axis.tick_params(axis="y", length=0)
            axis.spines[:].set_visible(False)
        axes[0].set_yticks(range(len(shown)), [c.title for c in shown])
        for label, contender in zip(axes[0].get_yticklabels(), shown, strict=True):
            label.set_weight("bold" if contender is OURS else "normal")
        figure.suptitle(
            f"MNIST's gzip files to a Delta table, 70,000 rows × 787 columns, "
            f"{result['machine']['cores']} cores: seconds, log scale",
            fontsize=9,
            x=0.01,
            ha="left",
        )
        figure.savefig(path, dpi=130, metadata={"Software": None}, pil_kwargs={"optimize": True})
        plt.close(figure)


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


if __name__ == "__main__":
    from tests.benchmarks.bench import CHART, RESULT

    draw(json.loads(RESULT.read_text()), CHART)
