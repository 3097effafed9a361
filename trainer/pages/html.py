"""The page's HTML: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
:root{color-scheme:light dark;--ink:#1b1e23;--soft:#5b636e;--rule:#d9dde3;--back:#fff;
--shade:#f4f6f8;--warn:#8a4b00;--warnback:#fff4e0;--link:#0b5cad}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e4e7eb;--soft:#a0a8b3;--rule:#353b44;
--back:#16181d;--shade:#1e2127;--warn:#ffcf8a;--warnback:#33260f;--link:#7db7f5}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:64rem;color:var(--ink);background:var(--back);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;margin:2.2rem 0 .5rem;border-top:1px solid var(--rule);padding-top:1rem}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
p{margin:.4rem 0;max-width:46rem}
a{color:var(--link)}
nav{font-size:.9rem;color:var(--soft);margin:.6rem 0}
nav a{margin-right:.6rem;white-space:nowrap}
.note,figcaption{color:var(--soft);font-size:.875rem}
.warn{border-left:4px solid var(--warn);background:var(--warnback);padding:.5rem .8rem;
margin:.6rem 0}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600}thead th{border-bottom:2px solid var(--rule);vertical-align:bottom}
th[scope=row],thead th:first-child,td.text,th.text{text-align:left}
th[scope=row]{font-weight:400;overflow-wrap:anywhere;min-width:7rem}
tr.chosen>*{background:var(--shade);font-weight:600}
td small{color:var(--soft);display:block;white-space:nowrap}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem;
align-items:start;margin:.8rem 0}
.figures.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,13rem),1fr))}
figure{margin:0}
img{width:100%;height:auto;display:block;border-radius:4px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.6rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:34rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}body{padding:.75rem}}
@media print{body{max-width:none;padding:0;font-size:10pt}nav{display:none}
.scroll{overflow:visible}figure,tr,.warn{break-inside:avoid}h2,h3{break-after:avoid}
.figures{grid-template-columns:1fr 1fr}table{font-size:8pt}th,td{padding:.15rem .3rem}}
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Should anything slip in, a browser loads and runs nothing of it."""
NONE = "-"


def esc(value: Any) -> str:
    """Return text that is safe in HTML; what cannot be printed is shown as a question mark."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return html.escape(text, quote=True)


def shown(value: Any, how: str) -> str:
    """Return a number as the page shows it: `auc`, `share`, `count` or `figure`."""
    if value is None:
        return NONE
    if how == "count":
        return f"{value:,}"
    if how == "auc":
        return f"{round(value, 3) + 0.0:.3f}"  # never -0.000
    if how == "share":
        percent = 100 * value
        places = 0 if percent in (0, 100) else 1 if 1 <= percent <= 99 else 2
        return f"{percent:.{places}f} %"
    if 0 < abs(value) < 1e-100:  # a line as close to 0 as a number can be
        return "just above 0" if value > 0 else "just below 0"
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.3g}"


def at(facts: Any, path: str) -> Any:
    """Return what a path like /headline/rows/0 leads to."""
    for part in path.strip("/").split("/"):
        facts = facts[int(part)] if isinstance(facts, list) else facts[part]
    return facts


class Numbers:
    """Numbers of the page, each with the path to it in the JSON: the two cannot differ."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def one(self, path: str, how: str) -> str:
        """Return the number at a path as HTML."""
        text = esc(shown(at(self.facts, path), how))
        return f'<data value="{esc(path)}" class="{how}">{text}</data>'

    def bounded(self, path: str, how: str) -> str:
        """Return value, low and high at a path as HTML: the value, its interval below."""
        found = at(self.facts, path)
        if found["value"] is None:
            return NONE
        text = self.one(f"{path}/value", how)
        if found["low"] is None:
            return text
        low, high = self.one(f"{path}/low", how), self.one(f"{path}/high", how)
        return f"{text}<small>{low} to {high}</small>"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    *,
    text: Sequence[int] = (),
    chosen: Sequence[int] = (),
) -> str:
    """Return a table of cells that are HTML already; the first of a row names it.

    `text` are further columns of text, `chosen` rows to be seen first.
    """
    left = {0, *text}
    cells = "".join(f'<th scope="col"{_text(k in left)}>{cell}</th>' for k, cell in enumerate(head))
    body = []
    for number, row in enumerate(rows):
        first, *others = row
        inner = f'<th scope="row">{first}</th>'
        inner += "".join(f"<td{_text(k in left)}>{c}</td>" for k, c in enumerate(others, 1))
        body.append(f"<tr{' class=chosen' if number in chosen else ''}>{inner}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>\n{note(caption) if caption else ''}"
    )


def _text(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def figure(images: tuple[str, str], about: str, caption: str = "") -> str:
    """Return a figure of a light and a dark image; `about` says in words what it shows."""
    light, dark = images
    told = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        '<figure><picture><source media="screen and (prefers-color-scheme:dark)" '
        f'srcset="{dark}"><img src="{light}" alt="{esc(about)}"></picture>{told}</figure>\n'
    )


def figures(parts: Iterable[str], *, small: bool = False) -> str:
    """Return figures side by side where there is room."""
    return f'<div class="figures{" small" if small else ""}">{"".join(parts)}</div>\n'


def listing(pairs: Iterable[tuple[str, str]]) -> str:
    """Return terms with what is to be said of them, as HTML already."""
    return f"<dl>{''.join(f'<dt>{esc(name)}</dt><dd>{told}</dd>' for name, told in pairs)}</dl>\n"


def note(text: str) -> str:
    """Return a remark; `text` is HTML."""
    return f'<p class="note">{text}</p>\n'


def page(title: str, begin: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Return a whole page; a section is its id, its heading and its HTML."""
    links = " ".join(f'<a href="#{name}">{esc(head)}</a>' for name, head, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{esc(head)}</h2>\n{told}</section>\n'
        for name, head, told in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{esc(title)}</title><style>{STYLE}</style></head><body>\n"
        f"<header>{begin}<nav>{links}</nav></header>\n<main>\n{body}</main></body></html>\n"
    )
