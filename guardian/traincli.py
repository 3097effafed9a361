"""`guardian train`, `guardian evaluate`, `guardian export`: their options, and nothing of the work.

What they do lives in trainer.commands, which is imported when a command runs: a gateway has none of
what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from guardian.errors import ConfigError, GuardianError
from guardian.hush import hushed

F = TypeVar("F", bound=Callable[..., Any])

PARTS = ("in-place", "homes", "grafted", "simulated")
"""Of the protocol, as --only names them."""
FORMS = ("int8", "float32", "dynamic")
_PATH = click.Path(path_type=Path)
_POSITIVE = click.IntRange(min=1)

_MODEL = (
    click.option("--model", metavar="NAME", help="The family to train; --list shows them."),
    click.option("--set", "set_name", metavar="NAME",
                 help="A data set below --data, or the kind of INPUT (else it is guessed)."),
    click.option("--preset", metavar="NAME",
                 help="fast, high-performance, interpretability or online."),
    click.option("--split", type=click.Choice(["group", "time", "row"]), default=None,
                 help="Keep captures or devices apart (group, the default), or not."),
    click.option("--seq-length", type=_POSITIVE, help="Steps of a sequence."),
    click.option("--stride", type=_POSITIVE, help="Steps between two sequences."),
    click.option("--hidden-size", metavar="N[,N...]", help="Units of each layer."),
    click.option("--layers", type=_POSITIVE, help="How many layers."),
    click.option("--heads", type=_POSITIVE, help="Heads of attention."),
    click.option("--dropout", type=float, help="Share of units dropped while training."),
    click.option("--batch", type=_POSITIVE, help="Sequences of one training step."),
    click.option("--rate", type=float, help="Learning rate at its peak."),
    click.option("--patience", type=click.IntRange(min=0),
                 help="Epochs without a better validation loss before it stops."),
    click.option("--option", "options", multiple=True, metavar="KEY=VALUE",
                 help="Any other hyperparameter of the model; repeatable."),
    click.option("--class-weights", is_flag=True, default=None,
                 help="Every class counts the same."),
    click.option("--precision", type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
                 default=None, help="Numbers that layers compute in."),
    click.option("--gradient-checkpointing", is_flag=True, default=None,
                 help="Less memory, more time."),
    click.option("--distribute", type=click.Choice(["mirrored", "multiworker"]), default=None,
                 help="Over all GPUs, or over the machines that TF_CONFIG names."),
    click.option("--search", type=_POSITIVE, metavar="N",
                 help="Try N hyperparameters by validation, then train the best."),
    click.option("--adapt", is_flag=True,
                 help="Grow and prune the network by validation, then train the size kept."),
    click.option("--resume", is_flag=True, help="Go on with the run in OUT where it was killed."),
    click.option("--from", "from_config", type=_PATH, metavar="CONFIG",
                 help="Repeat a run from its config.json."),
    click.option("--limit", type=_POSITIVE, help="Read the first rows of each file alone."),
    click.option("--cache", type=_PATH, help="Folder of prepared sets."),
    click.option("--threshold", metavar="METHOD", help="The line that the exported model carries."),
    click.option("--tensorboard", is_flag=True, default=None, help="Curves for TensorBoard."),
    click.option("--onnx", is_flag=True, help="Export as ONNX, too."),
    click.option("--list", "list_all", is_flag=True,
                 help="Show the models, data sets and presets, and end."),
)  # fmt: skip


def _with(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorated(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


@click.command()
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, type=_PATH)
@click.option("-o", "--out", type=_PATH, help="Folder of the bundle, or of the run with --model.")
@click.option("--data", type=_PATH, help="Folder of data sets: also learn from it; with --set.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--epochs", type=click.IntRange(min=0), default=0, help="0: as many as is usual.")
@click.option("--simulate", "homes", type=int, default=24, show_default=True,
              help="Homes of the shipped recipe.")  # fmt: skip
@click.option("--quick", is_flag=True, help="The recipe with few homes, to try the way.")
@click.option("-c", "--config", type=_PATH,
              help="Settings (TOML); with --model its hyperparameters.")  # fmt: skip
@click.option("--lan", multiple=True, metavar="CIDR", help="A network at home; of the recipe.")
@_with(_MODEL)
def train(
    inputs: tuple[Path, ...],
    out: Path | None,
    data: Path | None,
    seed: int,
    epochs: int,
    homes: int,
    quick: bool,
    config: Path | None,
    lan: tuple[str, ...],
    list_all: bool,
    **wishes: Any,
) -> None:
    """Train on a workstation: the shipped recipe's bundle, or any model by its name.

    Without --model the recipe learns from INPUT (captures, logs, the daemon's database) and from
    simulated homes, and writes a bundle. With --model, INPUT is a file or folder of any known
    kind, or --set NAME --data FOLDER; OUT gets all of the run.
    """
    given = {key: value for key, value in wishes.items() if value not in (None, False, ())}
    if list_all:
        click.echo(workstation().listing(), nl=False)
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    if any(key in given for key in ("model", "from_config", "resume")):
        if quick or lan:
            raise ConfigError(f"{'--quick' if quick else '--lan'} is of the shipped recipe: leave"
                              " it out, or leave --model out")  # fmt: skip
        work = workstation()
        try:
            text = work.train_model(
                list(inputs), out, data=data, seed=seed, epochs=epochs or None, config=config,
                echo=say, **given,
            )  # fmt: skip
        except ConfigError as error:  # of an option, not of the settings
            raise GuardianError(str(error)) from error
        click.echo(text, nl=False)
        return
    if given:
        name = next(iter(given)).replace("set_name", "set").replace("_", "-")
        raise ConfigError(f"--{name} is of a model by name: give --model NAME (--list shows them)")
    from guardian import config as configuration  # noqa: PLC0415

    settings = configuration.override(configuration.load(config), "home", lan=lan or None)
    workstation().train(
        list(inputs), out, data=data, simulate=homes, seed=seed, epochs=epochs, quick=quick,
        echo=say, lan=settings.home.lan,
    )  # fmt: skip


@click.command()
@click.argument("run_folder", metavar="[RUN]", required=False, type=_PATH)
@click.option("--bundle", type=_PATH, help="Bundle (default: the shipped).")
@click.option("--data", type=_PATH, help="Folder of captures.")
@click.option("-o", "--out", type=_PATH, help="Folder of the report (detection.md).")
@click.option("--leave-one-out", is_flag=True, help="Retrain without each network.")
@click.option(
    "--only",
    type=click.Choice(PARTS),
    multiple=True,
    help="These tests alone; repeatable. Homes are always judged.",
)
@click.option("--no-baselines", is_flag=True, help="Fit nothing to compare with.")
@click.option("--why", default="", help="What the run is for; stands in the log.")
@click.option(
    "--rehearse",
    type=_PATH,
    metavar="INPUT",
    help="Which incidents of a capture, log or database --bundle would change.",
)
@click.option("--promote", is_flag=True, help="Ship --bundle, if it is no worse than what is.")
def evaluate(
    run_folder: Path | None,
    bundle: Path | None,
    data: Path | None,
    out: Path | None,
    leave_one_out: bool,
    only: tuple[str, ...],
    no_baselines: bool,
    why: str,
    rehearse: Path | None,
    promote: bool,
) -> None:
    """What a model is worth (workstation).

    Of a RUN of `guardian train --model` its report, on the rows that were its test; else what a
    bundle finds and what it raises on captures left out of training (docs/detection.md).
    """
    if run_folder is not None:
        if bundle is not None or leave_one_out or rehearse or promote:
            raise ConfigError("a RUN is judged on its own test rows: leave --bundle,"
                              " --leave-one-out, --rehearse and --promote out")  # fmt: skip
        click.echo(workstation().report(run_folder, out, echo=say), nl=False)
        return
    if (rehearse or promote) and bundle is None:
        raise ConfigError("say which bundle is to take the shipped one's place: --bundle FOLDER")
    if rehearse is not None:
        click.echo(workstation().rehearsal(bundle, rehearse, echo=say))
        return
    if data is None:
        data = Path(os.environ.get("GUARDIAN_DATA", "../shared/data"))
    if not data.is_dir():
        raise GuardianError(f"no captures at {data}: give --data FOLDER or set GUARDIAN_DATA")
    work = workstation()
    if promote:
        told, promoted = work.promotion(bundle, data, echo=say)
        click.echo(told)
        raise SystemExit(0 if promoted else 1)
    wanted = {"only": tuple(part.replace("-", " ") for part in only)} if only else {}
    report = work.evaluate(
        bundle, data, out, leave_one_out=leave_one_out, baselines=not no_baselines, why=why,
        echo=say, **wanted,
    )  # fmt: skip
    click.echo(work.short(report), nl=False)


@click.command()
@click.argument("run_folder", metavar="RUN", type=_PATH)
@click.option("-o", "--out", type=_PATH, required=True, help="Folder of the bundle or the model.")
@click.option(
    "--form",
    type=click.Choice(FORMS),
    help="Of a run by --model (default: the quickest that loses next to nothing).",
)
@click.option("--onnx", is_flag=True, help="Also as ONNX.")
@click.option("--sign", "key_file", type=_PATH, metavar="KEY", help="Sign the bundle.")
def export(
    run_folder: Path, out: Path, form: str | None, onnx: bool, key_file: Path | None
) -> None:
    """Quantize a trained run again and write its bundle or model (workstation).

    Where RUN is a bundle itself, it is signed as it is: -o is its own folder, --sign the key.
    """
    if (run_folder / "manifest.json").exists():
        if key_file is None or run_folder.resolve() != out.resolve():
            raise ConfigError("this is a bundle, not a run: sign it in place by --sign KEY -o the"
                              " same folder")  # fmt: skip
        sign_bundle(out, key_file)
        return
    work = workstation()
    if (run_folder / "config.json").exists():
        if key_file is not None:
            raise ConfigError("a model by name is no bundle: leave --sign out")
        click.echo(work.export_model(run_folder, out, form=form, onnx=onnx, echo=say), nl=False)
        return
    if form or onnx:
        raise ConfigError("a bundle has its forms from the recipe: leave --form and --onnx out, or"
                          " give the run of a model by name")  # fmt: skip
    work.export(run_folder, out, echo=say)
    if key_file is not None:
        sign_bundle(out, key_file)


def sign_bundle(folder: Path, key_file: Path) -> None:
    """Sign a bundle and say what the gateway's settings need."""
    from trainer.sign import sign  # noqa: PLC0415

    say(f'signed; on the gateway: [model] key = "{sign(folder, key_file).line}"')


TRAIN_COMMANDS: tuple[click.Command, ...] = (train, evaluate, export)


def say(text: str) -> None:
    """Tell progress: on stderr, so that stdout stays for results."""
    click.echo(text, err=True)


def workstation() -> Any:
    """Return trainer.commands, or say how to install what it needs."""
    try:
        with hushed():  # it tells of processors and drivers that it does not find
            from trainer import commands  # noqa: PLC0415
    except ImportError as error:
        raise GuardianError(
            f"this needs the workstation's packages ({error.name} is missing): "
            "pip install './guardian_home-VERSION-py3-none-any.whl[train]' with the wheel, or "
            "pip install '.[train]' in the repository"
        ) from error
    return commands
