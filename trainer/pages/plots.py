"""The plots of a page, each from its part of the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from trainer.pages.drawing import Look, drawn, short

Images = tuple[str, str]
LINES = ("-", "--", ":")
"""The model is a whole line; what needs no model is broken, so that print tells them apart."""
ROW = 0.26
"""Inches of a row of a bar chart."""


def roc(found: dict[str, Any]) -> Images:
    """Recall by false positive rate, its axis logarithmic: a home has many quiet connections."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        low = max(min(found["least"], 0.1), 1e-5)
        colours = (look.attack, look.soft, look.third)
        if found["band"]:
            at, least, most = np.array(found["band"]).T
            axes.fill_between(at, least, most, color=look.attack, alpha=0.18, lw=0)
        for (name, curve), colour, line in zip(
            found["curves"].items(), colours, LINES, strict=False
        ):
            x, y = np.array(curve).T
            axes.step(np.maximum(x, low), y, line, color=colour, where="post", label=name)
        chance = np.geomspace(low, 1, 50)
        axes.plot(chance, chance, color=look.soft, lw=0.8, label="chance")
        _rates(axes, low)
        axes.set(xlabel="false positive rate (log)", ylabel="recall", ylim=(-0.02, 1.02))
        axes.legend(loc="upper left", fontsize=8)

    return drawn(paint)


def _rates(axes: Axes, low: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def precision_recall(found: dict[str, Any]) -> Images:
    """Precision by recall, with the precision of flagging everything."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        colours = (look.attack, look.soft, look.third)
        for (name, curve), colour, line in zip(
            found["curves"].items(), colours, LINES, strict=False
        ):
            x, y = np.array(curve).T
            axes.plot(x, y, line, color=colour, label=name)
        axes.axhline(found["share"], color=look.soft, lw=0.8, label="flag everything")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="best", fontsize=8)

    return drawn(paint)


def spread(found: dict[str, Any]) -> Images:
    """How the scores of both sides are spread, and the line."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        edges = np.array(found["edges"])
        for side, colour, line in (("benign", look.benign, "-"), ("attack", look.attack, "--")):
            axes.stairs(found[side], edges, color=colour, lw=1.6, ls=line, label=side)
            axes.stairs(found[side], edges, color=colour, fill=True, alpha=0.2, lw=0)
        axes.axvline(found["line"], color=look.ink, lw=1.2, label="the line")
        if found["log"]:
            axes.set_xscale("log")
            _plain(axes.xaxis)
        axes.set(xlabel=f"score{' (log)' if found['log'] else ''}", ylabel="share of sequences")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.legend(fontsize=8)

    return drawn(paint)


def confusion(found: dict[str, Any]) -> Images:
    """What each class was told as, as shares of the class."""
    names = [short(name, 14) for name in found["names"]]
    many = len(names)

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        values = np.array([[np.nan if c["value"] is None else c["value"] for c in row]
                           for row in found["table"]])  # fmt: skip
        axes.imshow(np.nan_to_num(values), cmap=look.map, vmin=0, vmax=1)
        axes.set_xticks(range(many), names, rotation=45, ha="right")
        axes.set_yticks(range(many), names)
        axes.set(xlabel="told", ylabel="is")
        axes.grid(visible=False)
        dark_cells = look.map == "Blues"
        for i, j in np.ndindex(many, many):
            if np.isfinite(values[i, j]) and values[i, j] > 0:
                strong = values[i, j] > 0.55
                colour = "#ffffff" if strong == dark_cells else "#1b1e23"
                percent = 100 * values[i, j]
                text = "<1" if percent < 1 else ">99" if 99 < percent < 100 else f"{percent:.0f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)

    side = min(max(2.6, 1.3 + 0.36 * many), 8.0)
    return drawn(paint, (max(5.0, side), side))


def parts(rows: list[dict[str, Any]]) -> Images:
    """Detection and false positives of each part with their intervals."""

    def paint(figure: Figure, look: Look) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(rows))[::-1]
        for axes, key, colour, mark in (
            (left, "detection", look.attack, "o"), (right, "false_positives", look.benign, "s"),
        ):  # fmt: skip
            for place, row in zip(places, rows, strict=True):
                share = row[key]
                if share["value"] is not None:
                    axes.plot([share["low"], share["high"]], [place] * 2, color=colour, lw=1.5)
                    axes.plot(share["value"], place, mark, color=colour, ms=5)
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(-0.7, len(rows) - 0.3)
        left.set_yticks(places, [short(row["name"], 24) for row in rows])
        left.set(xlabel="detection", xlim=(-0.03, 1.03))
        most = max([0.01, *(row["false_positives"]["high"] or 0 for row in rows)])
        right.set(xlabel="false positives", xlim=(-0.03 * most, most * 1.05))
        right.xaxis.set_major_locator(MaxNLocator(3))
        left.xaxis.set_major_locator(MaxNLocator(3))
        right.xaxis.set_major_formatter(
            PercentFormatter(1, decimals=0 if most > 0.1 else 1 if most > 0.01 else 2)
        )

    return drawn(paint, (5.4, 1.2 + ROW * max(len(rows), 3)))


def training(found: dict[str, Any]) -> Images:
    """Losses by epoch."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        epochs = np.arange(1, len(found["loss"]) + 1)
        mark = "o" if len(epochs) < 30 else ""
        axes.plot(epochs, found["loss"], marker=mark, ms=3.5, color=look.soft, ls="--",
                  label="training (dropout on)")  # fmt: skip
        if found["valid"]:
            axes.plot(epochs[: len(found["valid"])], found["valid"], marker=mark, ms=3.5,
                      color=look.attack, label="held out")  # fmt: skip
        if found["best"] >= 0:
            axes.axvline(found["best"] + 1, color=look.third, lw=1.2, ls=":", label="kept")
        values = [v for v in (*found["loss"], *found["valid"]) if v is not None]
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
            _plain(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend(fontsize=8)

    return drawn(paint)


def importance(rows: list[dict[str, Any]], what: str) -> Images:
    """What the AUC loses without each feature, with the range of the rounds."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(rows))[::-1]
        axes.barh(places, [row["lost"] for row in rows], height=0.62, color=look.benign)
        for place, row in zip(places, rows, strict=True):
            axes.plot([row["low"], row["high"]], [place] * 2, color=look.ink, lw=1.2)
        axes.axvline(0, color=look.soft, lw=0.8)
        axes.set_yticks(places, [short(row["name"], 26) for row in rows])
        axes.set(xlabel=f"AUC lost without the {what}", ylim=(-0.7, len(rows) - 0.3))
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))

    return drawn(paint, (5.0, 0.9 + ROW * max(len(rows), 3)))


def feature_error(rows: list[dict[str, Any]]) -> Images:
    """The mean squared error of each feature, benign beside attack."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(rows))[::-1]
        for side, colour, mark in (("benign", look.benign, "o"), ("attack", look.attack, "D")):
            if side in rows[0]:
                axes.plot([row[side] for row in rows], places, mark, color=colour, ms=5,
                          label=side)  # fmt: skip
        if "benign" in rows[0] and "attack" in rows[0]:
            for place, row in zip(places, rows, strict=True):
                axes.plot([row["benign"], row["attack"]], [place] * 2, color=look.rule, zorder=0)
        values = [row[side] for row in rows for side in ("benign", "attack") if side in row]
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
            _plain(axes.xaxis)
        axes.set_yticks(places, [short(row["name"], 26) for row in rows])
        axes.set(xlabel=f"mean squared error{' (log)' if axes.get_xscale() == 'log' else ''}",
                 ylim=(-0.7, len(rows) - 0.3))  # fmt: skip
        axes.legend(fontsize=8, loc="lower right")

    return drawn(paint, (5.0, 0.9 + ROW * max(len(rows), 3)))


def rebuilt(example: dict[str, Any], names: Sequence[str], most: int = 4) -> Images:
    """The features of one sequence that are rebuilt worst, as given and as rebuilt."""
    given, again = np.array(example["given"]), np.array(example["again"])
    worst = np.argsort(-np.square(given - again).mean(axis=0), kind="stable")

    def steps(figure: Figure, look: Look) -> None:
        shown = worst[:most]
        place = np.arange(1, len(given) + 1)
        for k, (axes, f) in enumerate(zip(figure.subplots(2, 2, sharex=True).flat, shown)):  # noqa: B905
            axes.plot(place, given[:, f], color=look.benign, marker="o", ms=3, label="given")
            axes.plot(place, again[:, f], color=look.attack, ls="--", label="rebuilt")
            axes.set_title(short(names[f], 26), fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            if k >= 2:
                axes.set_xlabel("step")
        figure.axes[0].legend(fontsize=8)
        for axes in figure.axes[len(shown) :]:
            axes.set_visible(False)

    def one_step(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        shown = worst[: 2 * most]
        places = np.arange(len(shown))[::-1]
        axes.plot(given[0, shown], places, "o", color=look.benign, label="given")
        axes.plot(again[0, shown], places, "D", mfc="none", color=look.attack, label="rebuilt")
        for place, f in zip(places, shown, strict=True):
            axes.plot([given[0, f], again[0, f]], [place] * 2, color=look.rule, zorder=0)
        axes.set_yticks(places, [short(names[f], 26) for f in shown])
        axes.set_xlabel("value (scaled)")
        axes.legend(fontsize=8)

    return drawn(steps if len(given) > 1 else one_step)


def attention(found: dict[str, Any], most: float) -> Images:
    """How much each step of a sequence looks at each, on one scale for all classes."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        values = np.array(found["map"])
        many = len(values)
        image = axes.imshow(values, cmap=look.map, vmin=0, vmax=most,
                            extent=(0.5, many + 0.5, many + 0.5, 0.5))  # fmt: skip
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(xlabel="looks at step", ylabel="step")
        axes.set_title(f"{short(found['class'], 24)} ({found['sequences']:,})")
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(4)
        bar.update_ticks()

    return drawn(paint, (3.4, 2.9))


def doubt(rows: list[dict[str, Any]], kind: str, overall: float) -> Images:
    """How often is told wrongly by rising doubt."""

    def paint(figure: Figure, look: Look) -> None:
        axes = figure.add_subplot()
        x = np.arange(1, len(rows) + 1)
        value, low, high = (np.array([row[k] for row in rows]) for k in ("value", "low", "high"))
        axes.vlines(x, low, high, color=look.attack, lw=1.5)
        axes.plot(x, value, "o", color=look.attack, ms=5)
        axes.axhline(overall, color=look.soft, lw=1, ls="--")
        axes.set_xticks(x, [f"{row['doubt']:.2g}" for row in rows], rotation=45)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlabel=f"{kind} doubt, mean of each tenth (nats)", ylabel="told as a wrong class",
                 ylim=(-0.02, max(0.1, float(high.max()) * 1.08)))  # fmt: skip

    return drawn(paint)


def drift(rows: list[dict[str, Any]]) -> Images:
    """PSI and KS of the features that drifted most, with what chance alone would give."""

    def paint(figure: Figure, look: Look) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(rows))[::-1]
        for axes, key, colour in ((left, "psi", look.fourth), (right, "ks", look.third)):
            axes.barh(places, [row[key] for row in rows], height=0.62, color=colour)
            chance = [row[f"{key}_by_chance"] for row in rows]
            axes.plot(chance, places, "|", color=look.ink, ms=9, mew=1.5, label="by chance")
            axes.grid(visible=False, axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        for value in (0.1, 0.25):
            left.axvline(value, color=look.soft, lw=0.9, ls=":")
        left.set_yticks(places, [short(row["feature"], 24) for row in rows])
        left.set(xlabel="PSI (dotted: 0.1, 0.25)", ylim=(-0.7, len(rows) - 0.3))
        right.set(xlabel="KS", xlim=(0, 1))
        right.legend(fontsize=8, loc="lower right")

    return drawn(paint, (5.6, 1.0 + ROW * max(len(rows), 3)))
