"""`guardian config` and `guardian completion`: the settings file, made, shown and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from guardian.errors import ConfigError
from guardian.options import settings_options
from guardian.shell import print_json


@click.group()
def config() -> None:
    """Make, show and check the settings.

    Every key stands in the file that `guardian config init` writes, with a comment. It can also be
    given by the environment (GUARDIAN_MQTT_HOST=hub) and by --set mqtt.host=hub. GUARDIAN_CONFIG
    names another file than /etc/guardian/guardian.toml.
    """


@config.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
    help="Where to (default: /etc/guardian/guardian.toml; - is stdout).",
)  # fmt: skip
@click.option(
    "-i", "--interface", multiple=True,
    help="LAN-side interface; repeatable. Without it, what looks like it is taken.",
)  # fmt: skip
@click.option("--plain", is_flag=True, help="Defaults alone: do not look for an interface.")
@click.option("--force", is_flag=True, help="Replace a file that is there; a copy is kept.")
def init(output: Path | None, interface: tuple[str, ...], plain: bool, force: bool) -> None:
    """Write a settings file with every key, its default and what it does."""
    from guardian import configtext, lanside  # noqa: PLC0415 - `guardian --help` is quick
    from guardian.config import DEFAULT_FILE, KEYS, several  # noqa: PLC0415

    names: tuple[str, ...] = several(interface)
    guessed = () if names or plain else tuple(lanside.guess())
    try:
        given = KEYS["capture"]["interface"].value(list(names or guessed))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    text = configtext.render({"capture": {"interface": given}} if given else None)
    if str(output) == "-":
        click.echo(text, nl=False)
    else:
        path = output or DEFAULT_FILE
        copy = configtext.write_new(path, text, force=force)
        click.echo(f"{path} is written" + (f"; what was there is {copy}" if copy else ""))
    if plain:
        return
    said = f"watching {', '.join(given)}" + (
        " (by its looks: see if that is the LAN side)" * bool(guessed)
    )
    if not given:
        said = "no interface looks like the LAN side: set [capture] interface"
    click.echo(said, err=str(output) == "-")


@config.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@click.option("--changed", is_flag=True, help="Only what differs from the default.")
def show(config: Path | None, as_json: bool, changed: bool) -> None:
    """Print the settings in force and where each comes from; passwords are not shown."""
    from guardian.config import KEYS, combined, file_of, layers_of  # noqa: PLC0415
    from guardian.layers import checked  # noqa: PLC0415
    from guardian.option import toml  # noqa: PLC0415
    from guardian.options import sets_given  # noqa: PLC0415

    layers = layers_of(config, sets=sets_given())
    settings = combined(layers)
    origin: dict[str, str] = {}
    for layer in layers:
        for section, values in checked(KEYS, layer).items():
            origin |= {f"{section}.{name}": layer.where(section, name) for name in values}
    rows = []
    for section, keys in KEYS.items():
        for name, key in keys.items():
            value = getattr(getattr(settings, section), name)
            shown: Any = "(set)" if key.rule.secret and value else value
            if not changed or value != key.default:
                rows.append((key, shown, origin.get(key.path, "default")))
    if as_json:
        print_json({key.path: {"value": value, "from": where} for key, value, where in rows})
        return
    file = file_of(config)
    click.echo(f"# {file}" if file else "# no file: defaults")
    wide = max((len(f"{key.path} = {toml(value)}") for key, value, _ in rows), default=0)
    for key, value, where in rows:
        click.echo(f"{f'{key.path} = {toml(value)}':{min(wide, 60)}}  # {where}")


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Look for mistakes in a settings FILE alone; exit with 1 where there is one.

    `guardian check` also tries what it names: interface, rights, model, database, broker.
    """
    from guardian.config import DEFAULT_FILE, combined, file_of  # noqa: PLC0415
    from guardian.layers import VERSION, read_file  # noqa: PLC0415

    path = file or file_of() or DEFAULT_FILE
    layer = read_file(path)
    combined([layer])
    old = "" if layer.version == VERSION else (
        f"; it is of version {layer.version}, which is understood: `guardian config update {path}` "
        f"makes it {VERSION}"
    )  # fmt: skip
    click.echo(f"{path} is right{old}")


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def update(file: Path | None) -> None:
    """Add what is new to a settings FILE: all keys and comments of this version, your values.

    A copy of it is kept beside it; comments of your own stand in the copy alone.
    """
    from guardian import configtext  # noqa: PLC0415
    from guardian.config import DEFAULT_FILE, file_of  # noqa: PLC0415

    path = file or file_of() or DEFAULT_FILE
    copy = configtext.update(path)
    click.echo(f"{path} is up to date; as it was, it is {copy}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete guardian's words.

    \b
    bash: guardian completion bash > ~/.local/share/bash-completion/completions/guardian
    zsh:  guardian completion zsh > ~/.zfunc/_guardian   (with ~/.zfunc in $fpath)
    fish: guardian completion fish > ~/.config/fish/completions/guardian.fish
    """
    made = get_completion_class(shell)
    if made is None:  # pragma: no cover - click knows these three
        raise ConfigError(f"click does not know {shell}")
    one = made(context.find_root().command, {}, "guardian", "_GUARDIAN_COMPLETE")
    click.echo(one.source_template % one.source_vars())


CONFIG_COMMANDS: list[click.Command] = [config, completion]
