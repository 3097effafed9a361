"""`python -m trainer.zoo.page`: write the table of families into docs/models.md."""

from __future__ import annotations

from pathlib import Path

from trainer.zoo.config import PRESETS
from trainer.zoo.family import REGISTRY, Family, Shape

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
FEATURES, CLASSES = 20, 7
_BEGIN = "<!-- made by python -m trainer.zoo.page -->"
_END = "<!-- end -->"


def table() -> str:
    """Return the families as a table: name, drawing, parameters, what becomes of it at export."""
    rows = [
        f"| `{name}` | {family.task} | {family.about} {family.drawing} | {family.defaults.window} |"
        f" {_size(family)} | {family.at_export} |"
        for name, family in REGISTRY.items()
    ]
    return "\n".join(
        [
            "| name | task | what it is, and its drawing | steps | parameters | at export |",
            "|---|---|---|--:|--:|---|",
            *rows,
        ]
    )


def presets() -> str:
    """Return the presets as a list."""
    return "\n".join(f"- `{name}`: {preset.about}." for name, preset in PRESETS.items())


def _size(family: Family) -> str:
    """Return how many parameters it has at its default shape; trees grow with the data."""
    if family.task in ("screen", "ensemble"):
        return "-"
    features = _own() if family.own else FEATURES
    shape = Shape(family.defaults.window, features, CLASSES)
    return f"{family.build(shape, family.defaults).count_params():,}"


def _own() -> int:
    from guardian.features import NAMES  # noqa: PLC0415 - only some ask

    return len(NAMES)


def filled(page: str) -> str:
    """Return the page with both lists made anew."""
    for made in (table(), presets()):
        head, _, rest = page.partition(_BEGIN)
        _, _, tail = rest.partition(_END)
        # A marker that is done is told apart from the next one until all are.
        page = f"{head}\0{made}\n\1{tail}"
    return page.replace("\0", f"{_BEGIN}\n").replace("\1", _END)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
