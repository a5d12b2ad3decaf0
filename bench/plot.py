"""python -m bench plot [RECORD...]: a picture of each record, filed beside it as PNG."""

from __future__ import annotations

import argparse
import statistics
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench import view
from bench.records import RESULTS, Record, RecordError, load_records, select_files, time_of
from bench.scenario import Column, Target

OWN, STANDARD, OTHER, GOAL = "#0072B2", "#595959", "#B8B8B8", "#D55E00"  # of Okabe and Ito's palette, and greys
KINDS = {OWN: "fastinetd", STANDARD: "C, without a super-server", OTHER: "other servers"}
INK, PALE = "#222222", "#666666"
WIDTH, ROW, BELOW, LINE = 10.0, 0.42, 0.72, 0.2  # inches: of all; height of a bar, an axis, a line of text


def colour_of(case: str) -> str:
    """The colour of a case: fastinetd's, a C program's or another server's."""
    if view.is_standard(case):
        return STANDARD
    return OTHER if view.is_other(case) else OWN


def short_number(value: float) -> str:
    """Three figures, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio_text(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 10 else f"{value:.3g}"


def target_line(record: Record, target: Target) -> float | None:
    """Where the target's line is, in the metric's own unit."""
    bound = target.at_least if target.at_least is not None else target.at_most
    if bound is None or target.over is None:
        return bound
    over = view.values_of(record, target.over, target.metric)
    return bound * statistics.median(over) if over else None


def bar_label(record: Record, case: str, column: Column) -> str:
    """What stands behind a bar: its median, and its ratio to the case that the table takes it against."""
    text = short_number(statistics.median(view.values_of(record, case, column.key)) * column.scale)
    key, base = view.key_and_base(record, case)
    ratios = view.ratios_of(record, case, base, key)
    if key == column.key and ratios:
        text += "   = 1 ×" if base == case else f"   {ratio_text(statistics.median(ratios))} ×"
    return text


def draw_panel(axes: Axes, record: Record, column: Column, names: Sequence[str]) -> None:
    """One metric: a bar per case from the top, its samples as dots, its targets as lines across it."""
    marks = [(t.case, target_line(record, t)) for t in view.targets_of(record) if t.metric == column.key]
    goals = [(names.index(case), at * column.scale) for case, at in marks if at and case in names]
    medians = [statistics.median(view.values_of(record, name, column.key) or [0]) * column.scale for name in names]
    dots = [[value * column.scale for value in view.values_of(record, name, column.key)] for name in names]
    most = max([*medians, *(at for _, at in goals), *(max(row, default=0) for row in dots)]) or 1
    places = range(len(names))
    axes.barh(places, medians, height=0.62, color=[colour_of(name) for name in names], zorder=2)
    for place, name, row in zip(places, names, dots):
        axes.plot(row, [place] * len(row), "o", ms=4.5, mfc="white", mec=INK, mew=0.8, alpha=0.9, zorder=4)
        if not row:
            axes.text(most * 0.01, place, "not measured", va="center", color=PALE, fontsize=9)
            continue
        end = max(row)
        for _, at in sorted(goal for goal in goals if goal[0] == place):
            end = max(end, at) if at < end + most * 0.25 else end  # behind a target's line that is in the way
        axes.text(end + most * 0.02, place, bar_label(record, name, column), va="center", fontsize=9.5, color=INK)
    for place, at in goals:
        axes.plot([at, at], [place - 0.44, place + 0.44], color=GOAL, lw=2.6, zorder=5)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.22)
    better = "more is better" if column.key in view.MORE_IS_BETTER else "less is better"
    axes.set_xlabel(f"{column.heading}   ({better})", color=PALE, fontsize=9.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.tick_params(length=0, labelsize=9.5)
    axes.tick_params(axis="x", colors=PALE)
    axes.grid(axis="x", color="#E4E4E4", lw=0.8, zorder=0)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def facts_line(record: Record) -> str:
    """The machine and the circumstances, on one line."""
    facts = record["facts"]
    words = [
        str(facts.get("cpu", "")),
        f"{facts.get('cores', '?')} cores{', virtual' if facts.get('virtual') else ''}",
        f"Linux {facts.get('kernel', '?')}",
        f"fastinetd {facts.get('versions', {}).get('fastinetd', '?')}",
        time_of(record)[:16].replace("T", " "),
        f"{record['rounds']} × {record['seconds']:g} s",
    ]
    return " · ".join(word for word in words if word)


def remark_lines(record: Record) -> list[tuple[str, str]]:
    """The verdicts, then what the record has to say about itself: text and colour of each line."""
    lines = []
    for entry in record["targets"]:
        target = entry["target"].replace(">=", "≥").replace("<=", "≤")
        value = "" if entry["value"] is None else f": {entry['value']:.3g}"
        lines.append((f"{entry['verdict']}   {target}{value}", GOAL if entry["verdict"] == "MISS" else INK))
    lines += [(note, PALE) for note in record.get("notes", [])]
    if record["problems"]:
        lines.append((f"{len(record['problems'])} measurements had errors: see the record", GOAL))
    return lines


def draw_record(record: Record, path: Path) -> None:
    """Write the picture of *record* to *path*."""
    names, columns = list(record["cases"]), view.metrics_of(record)
    bottom = remark_lines(record)
    heading = textwrap.wrap(f"{record['scenario']}: {record['summary']}", 88)
    top = 0.62 + 0.26 * len(heading)
    foot = 0.12 + LINE * len(bottom)
    each = ROW * len(names) + BELOW
    height = top + each * len(columns) + foot
    figure, grid = pyplot.subplots(len(columns), 1, figsize=(WIDTH, height), squeeze=False)
    try:
        for axes, column in zip(grid[:, 0], columns):
            draw_panel(axes, record, column, names)
        figure.subplots_adjust(
            left=0.25, right=0.98, top=1 - top / height, bottom=(foot + BELOW) / height, hspace=BELOW / (each - BELOW)
        )
        figure.text(0.02, 1 - 0.15 / height, "\n".join(heading), va="top", fontsize=13, weight="bold", color=INK)
        below = 1 - (0.2 + 0.26 * len(heading)) / height
        figure.text(0.02, below, facts_line(record), va="top", fontsize=8.5, color=PALE)
        for place, (text, code) in enumerate(reversed(bottom)):
            figure.text(0.02, (0.12 + LINE * place) / height, text, va="bottom", fontsize=9, color=code)
        used = {colour_of(name) for name in names}
        keys = [Patch(color=code, label=text) for code, text in KINDS.items() if code in used]
        handles: list[Artist] = [*keys]
        handles += [Line2D([], [], marker="o", ls="", ms=4.5, mfc="white", mec=INK, label="one round")]
        if record["targets"]:
            handles.append(Line2D([], [], color=GOAL, lw=2.6, label="target"))
        figure.legend(
            handles=handles, loc="upper right", bbox_to_anchor=(0.985, below - 0.2 / height), ncols=len(handles),
            frameon=False, fontsize=9, handlelength=1.2, columnspacing=1.4, borderaxespad=0,
        )  # fmt: skip
        figure.savefig(path, dpi=120)
    finally:
        pyplot.close(figure)


def picture_path(path: Path, record: Record, several: bool) -> Path:
    """Where the picture of a record in this file goes."""
    return path.with_name(f"{path.stem}-{record['scenario']}.png") if several else path.with_suffix(".png")


def main(argv: Sequence[str], results: Path = RESULTS) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench plot", description=__doc__)
    parser.add_argument("record", nargs="*", help="files, directories or beginnings of names (all that are filed)")
    options = parser.parse_args(argv)
    try:
        paths = [path for name in options.record or [str(results)] for path in select_files(name, results)]
        for path in paths:
            records = load_records(path)
            for record in records:
                target = picture_path(path, record, len(records) > 1)
                draw_record(record, target)
                print(target)
    except RecordError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0
