"""Draws a dashboard of deploy/monitoring as Grafana roughly would, from what a Prometheus has, into one PNG.

    render.py DASHBOARD.json --prometheus http://127.0.0.1:9090 --from T --to T --out FILE.png [--scrape S] [--mark FROM,TO,TEXT]…

T is in seconds since 1970. --scrape: how often Prometheus looks, 15 s unless told. --mark shades a time in which something was wrong, in each panel.
All namespaces are drawn.
"""

import argparse
import io
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

# Inches: a cell of Grafana's grid, 24 of which are the width, what is around a panel, and the lines above all.
CELL, GAP, HEAD, DPI = (0.58, 0.26), 0.05, 0.62, 100
LINES = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300", "#447ebc", "#c15c17"]
STATES = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44"}
INK, PALE, PAGE, WRONG = "#24292e", "#6e7681", "#f4f5f5", "#e02f44"


@dataclass
class Range:
    """A time that a Prometheus knows of."""

    prometheus: str
    begin: float
    end: float
    scrape: float = 15

    @property
    def step(self):
        """As wide as a panel has pixels for, and never finer than what there is."""
        return max(self.scrape, math.ceil((self.end - self.begin) / 600))

    def filled(self, expr):
        """`expr` with Grafana's variables replaced by what Grafana puts there."""
        rate = max(self.step + self.scrape, 4 * self.scrape)
        values = {"$__rate_interval": f"{rate:.0f}s", "$__range": f"{self.end - self.begin:.0f}s", "$namespace": ".*"}
        for name, value in values.items():
            expr = expr.replace(name, value)
        if left := re.search(r"\$\w+", expr):
            raise SystemExit(f"render.py: what is {left[0]} in {expr}?")
        return expr

    def ask(self, expr):
        """The series of an expression: labels, and a value for each step, NaN where there is none."""
        asked = {"query": self.filled(expr), "start": self.begin, "end": self.end, "step": self.step}
        try:
            with urllib.request.urlopen(f"{self.prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}", timeout=30) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"render.py: {asked['query']}: {error.read().decode(errors='replace')}") from error
        for series in found:
            values = [math.nan] * len(self.times())
            for at, value in series["values"]:
                values[round((at - self.begin) / self.step)] = float(value)
            yield series["metric"], values

    def times(self):
        """Seconds since the beginning."""
        return [at * self.step for at in range(int((self.end - self.begin) / self.step) + 1)]


def trimmed(value, places):
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(value, scales, places=1):
    """In the largest of the scales (a size and a name, smallest first) that the value is one of."""
    fitting = [scale for scale in scales if abs(value) >= scale[0]]
    size, name = fitting[-1] if fitting else scales[0]
    return f"{trimmed(value / size, places)}{name}"


def shown(value, unit, places=None):
    """A value as Grafana writes it, in the units that our dashboards have."""
    if math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{trimmed(value * 100, places if places is not None else 1)} %"
    if unit == "s":
        if value == 0:
            return "0 s"
        return scaled(value, [(1e-3, " ms"), (1, " s"), (60, " min"), (3600, " h"), (86400, " d")], 1 if places is None else places)
    if unit == "bytes":
        return scaled(value, [(1, " B"), (2**10, " KiB"), (2**20, " MiB"), (2**30, " GiB")], 0)
    if unit not in ("short", "cps"):
        raise SystemExit(f"render.py: no panel has had the unit {unit} yet")
    if 0 < abs(value) < 0.1 and places is None:
        text = f"{value:.2g}"
    else:
        text = scaled(value, [(1, ""), (1e3, " K"), (1e6, " Mil"), (1e9, " Bil")], 2 if places is None else places)
    return f"{text} c/s" if unit == "cps" else text


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def named(legend, labels):
    return " ".join(re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), legend).split())


class Page:
    """A figure that is measured in cells from its top left."""

    def __init__(self, height):
        self.width, self.height = 24 * CELL[0] + 2 * GAP, height * CELL[1] + HEAD + GAP
        self.figure = pyplot.figure(figsize=(self.width, self.height), dpi=DPI, facecolor=PAGE)

    def box(self, at):
        """Left, bottom, width and height of a panel, in inches."""
        left, top = at["x"] * CELL[0] + GAP, self.height - HEAD - at["y"] * CELL[1]
        height = at["h"] * CELL[1]
        return left + GAP, top - height + GAP, at["w"] * CELL[0] - 2 * GAP, height - 2 * GAP

    def card(self, box, colour="white"):
        left, bottom, width, height = box
        corner = (left / self.width, bottom / self.height)
        size = (width / self.width, height / self.height)
        self.figure.add_artist(Rectangle(corner, *size, facecolor=colour, edgecolor="#d9dcde", linewidth=0.8, zorder=-1))

    def text(self, x, y, text, **style):
        return self.figure.text(x / self.width, y / self.height, text, **{"color": INK, "va": "center", **style})

    def axes(self, left, bottom, width, height):
        return self.figure.add_axes([left / self.width, bottom / self.height, width / self.width, height / self.height])

    def save(self, out):
        drawn = io.BytesIO()
        self.figure.savefig(drawn, dpi=DPI, facecolor=PAGE)
        pyplot.close(self.figure)
        # Lines and letters have few colours: a third of the bytes, and nothing about who drew it.
        with Image.open(drawn) as image:
            reduced = image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(out, format="PNG", optimize=True)


def series_of(panel, of):
    """Name, colour and values of each line."""
    found = [(named(target["legendFormat"], labels), values) for target in panel["targets"] for labels, values in of.ask(target["expr"])]
    return [(name, LINES[at % len(LINES)], values) for at, (name, values) in enumerate(found)]


def legend(page, box, series):
    """Below, as many lines as it takes; gives their height."""
    left, bottom, width, _ = box
    lines, x = [[]], 0.0
    for name, colour, _ in series:
        wide = 0.26 + 0.0585 * len(name)
        if lines[-1] and x + wide > width - 0.15:
            lines.append([])
            x = 0.0
        lines[-1].append((x, name, colour))
        x += wide
    for row, line in enumerate(reversed(lines)):
        y = bottom + 0.11 + row * 0.14
        for x, name, colour in line:
            page.text(left + 0.1 + x, y, "▬", color=colour, fontsize=7)
            page.text(left + 0.24 + x, y, name, fontsize=7)
    return len(lines) * 0.14 + 0.06


def mark(axes, marks, letters):
    for at, (begin, end, _) in enumerate(marks):
        axes.axvspan(begin, end, color=WRONG, alpha=0.12, linewidth=0)
        if letters:
            axes.annotate("ABCDEFGHIJ"[at], ((begin + end) / 2, 1), (0, -1), xycoords=("data", "axes fraction"), textcoords="offset points",
                          color=WRONG, fontsize=7, ha="center", va="top")


def draw_lines(page, panel, box, of, marks):
    left, bottom, width, height = box
    defaults = panel["fieldConfig"]["defaults"]
    series = series_of(panel, of)
    below = legend(page, box, series) + 0.2
    axes = page.axes(left + 0.62, bottom + below, width - 0.75, height - below - 0.32)
    axes.set_facecolor("white")
    for _, colour, values in series:
        axes.plot(of.times(), values, color=colour, linewidth=1.1)
        axes.fill_between(of.times(), values, color=colour, alpha=0.08, linewidth=0)
    is_log = defaults["custom"]["scaleDistribution"]["type"] == "log"
    known = [value for _, _, values in series for value in values if not math.isnan(value)]
    if is_log and any(value > 0 for value in known):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, max([*known, 0]) * 1.12 or 1)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=defaults["unit"] == "short" and max([*known, 0]) >= 3))
    if not known:
        axes.text(0.5, 0.5, "no data", color=PALE, fontsize=9, ha="center", va="center", transform=axes.transAxes)
    axes.set_xlim(0, of.end - of.begin)
    axes.xaxis.set_major_locator(MaxNLocator(9 if width > 8 else 5, steps=[1, 1.5, 3, 6]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"], defaults.get("decimals"))))
    axes.minorticks_off()
    axes.tick_params(colors=PALE, labelsize=7, length=0, pad=2)
    axes.tick_params(axis="x", pad=5)
    axes.grid(color="#e6e8ea", linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    mark(axes, marks, letters=True)


def state(value, steps):
    """The colour of the last step that the value has reached."""
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return STATES[reached[-1]]


def draw_stat(page, panel, box, of, marks):
    left, bottom, width, height = box
    defaults = panel["fieldConfig"]["defaults"]
    values = next((values for _, _, values in series_of(panel, of)), [])
    last = next((value for value in reversed(values) if not math.isnan(value)), math.nan)
    colour = PALE if math.isnan(last) else state(last, defaults["thresholds"]["steps"])
    page.card(box, colour)
    page.text(left + 0.1, bottom + height - 0.15, panel["title"], fontsize=8.5, color="white", weight="bold")
    page.text(left + width / 2, bottom + height * 0.56, shown(last, defaults["unit"], defaults.get("decimals")), fontsize=21, color="white", ha="center")
    if values:
        axes = page.axes(left, bottom, width, height * 0.34)
        axes.axis("off")
        axes.set_xlim(0, of.end - of.begin)
        axes.set_ylim(0, max([value for value in values if not math.isnan(value)] + [0]) * 1.1 or 1)
        axes.plot(of.times(), values, color="white", linewidth=1)
        axes.fill_between(of.times(), values, color="white", alpha=0.25, linewidth=0)
        for begin, end, _ in marks:
            axes.axvspan(begin, end, color="black", alpha=0.12, linewidth=0)


def draw(dashboard, of, marks, out):
    """`marks`: begin, end and what was wrong, in the same times as the range."""
    dashboard = json.loads(Path(dashboard).read_text())
    marks = [(begin - of.begin, end - of.begin, what) for begin, end, what in marks]
    page = Page(max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]))
    page.text(3 * GAP, page.height - 0.2, dashboard["title"], fontsize=13, weight="bold")
    wrong = [f"{'ABCDEFGHIJ'[at]}  {what}, {clock(begin)} to {clock(end)}" for at, (begin, end, what) in enumerate(marks)]
    page.text(3 * GAP, page.height - 0.46, "      ".join(wrong), fontsize=9, color=WRONG)
    for panel in dashboard["panels"]:
        box = page.box(panel["gridPos"])
        if panel["type"] == "row":
            page.text(box[0] + 0.05, box[1] + box[3] / 2, panel["title"], fontsize=9, weight="bold")
        elif panel["type"] == "stat":
            draw_stat(page, panel, box, of, marks)
        else:
            page.card(box)
            page.text(box[0] + 0.1, box[1] + box[3] - 0.15, panel["title"], fontsize=8.5, weight="bold")
            draw_lines(page, panel, box, of, marks)
    page.save(out)


def marked(text):
    begin, end, what = text.split(",", 2)
    return float(begin), float(end), what


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("--prometheus", required=True)
    parser.add_argument("--from", dest="begin", type=float, required=True)
    parser.add_argument("--to", dest="end", type=float, required=True)
    parser.add_argument("--scrape", type=float, default=15)
    parser.add_argument("--mark", dest="marks", type=marked, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    draw(asked.dashboard, Range(asked.prometheus, asked.begin, asked.end, asked.scrape), asked.marks, asked.out)


if __name__ == "__main__":
    main()
