"""`python -m trainer.trial BUNDLE DATA [--only in-place]`: the short table of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.trial.course import HOMES, PARTS, judge_bundle
from trainer.trial.tables import short


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--only", type=click.Choice([p.replace(" ", "-") for p in PARTS]), default="in-place")
@click.option("--full-week", is_flag=True, help="Ask as much as where a week's limit is spent.")
def main(bundle: Path, data: Path, only: str, full_week: bool) -> None:
    """Judge BUNDLE on the captures of DATA: one part of the protocol and the benign homes."""
    wanted = {only.replace("-", " "), HOMES}
    report = judge_bundle(
        bundle, data, only=wanted, full_week=full_week, echo=lambda text: click.echo(text, err=True)
    )
    click.echo(short(report), nl=False)


if __name__ == "__main__":
    main()
