"""Plots as PNG in data URIs, each for a light and for a dark page."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 150
SIZE = (5.0, 3.5)
"""Inches: at the width of a phone its text is still read."""
COLOURS = 96
"""Of a PNG: plots have few, and a page of many plots stays small."""
LONGEST = 30
"""Characters of a name in a plot."""


@dataclass(frozen=True)
class Look:
    """The colours of a page. Benign and attack differ in lightness, too."""

    ink: str
    soft: str
    rule: str
    back: str
    benign: str
    attack: str
    third: str
    fourth: str
    map: str


LIGHT = Look("#1b1e23", "#5b636e", "#d9dde3", "#ffffff", "#0b6fb8", "#c8480b", "#2c8c5f",
             "#8a5fb0", "Blues")  # fmt: skip
DARK = Look("#e4e7eb", "#a0a8b3", "#353b44", "#16181d", "#6cb8f2", "#ff9a5c", "#6fcf9f",
            "#c5a2ea", "Blues_r")  # fmt: skip

Paint = Callable[[Figure, Look], None]


def drawn(paint: Paint, size: tuple[float, float] = SIZE) -> tuple[str, str]:
    """Return a plot for a light and for a dark page."""
    return _png(paint, LIGHT, size), _png(paint, DARK, size)


def _png(paint: Paint, look: Look, size: tuple[float, float]) -> str:
    return "data:image/png;base64," + base64.b64encode(png(paint, look, size)).decode("ascii")


def png(paint: Paint, look: Look = LIGHT, size: tuple[float, float] = SIZE) -> bytes:
    """Return a plot as PNG."""
    settings: dict[str, Any] = {
        "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "legend.fontsize": 9,
        "xtick.labelsize": 9, "ytick.labelsize": 9, "font.family": ["DejaVu Sans"],
        "text.color": look.ink, "axes.labelcolor": look.ink, "axes.titlecolor": look.ink,
        "axes.edgecolor": look.soft, "xtick.color": look.soft, "ytick.color": look.soft,
        "xtick.labelcolor": look.ink, "ytick.labelcolor": look.ink, "axes.facecolor": look.back,
        "figure.facecolor": look.back, "grid.color": look.rule,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "axes.axisbelow": True, "legend.frameon": False, "lines.linewidth": 1.8,
        # Names come from data: a dollar sign in one is no formula.
        "text.parse_math": False, "axes.formatter.use_mathtext": False,
    }  # fmt: skip
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure, look)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba()).copy()).convert("RGB")
    out = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(out, format="PNG", optimize=True)
    return out.getvalue()


def short(name: str, most: int = LONGEST) -> str:
    """Return a name that fits beside an axis, both its ends kept."""
    text = "".join(c if c.isprintable() else "?" for c in str(name))
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[-half:]}"
