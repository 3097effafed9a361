"""What the commands that read settings share: --config, --set, and the settings they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

_SETS = "guardian.sets"


def _complete(
    _context: click.Context, _option: click.Parameter, begun: str
) -> list[CompletionItem]:
    from guardian.config import KEYS  # noqa: PLC0415 - only where a shell asks

    keys = (key for section in KEYS.values() for key in section.values())
    return [CompletionItem(f"{key.path}=") for key in keys if f"{key.path}=".startswith(begun)]


def _remember(context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> None:
    context.meta[_SETS] = value


def settings_options(command: F) -> F:
    """Add -c FILE, which the command takes as `config`, and --set, which settings_of knows."""
    command = click.option(
        "--set", multiple=True, metavar="KEY=VALUE", expose_value=False, callback=_remember,
        shell_complete=_complete,
        help="A setting for this run, such as mqtt.host=hub.local; repeatable.",
    )(command)  # fmt: skip
    return click.option(
        "-c", "--config", type=click.Path(path_type=Path), metavar="FILE",
        help="Settings, instead of /etc/guardian/guardian.toml.",
    )(command)  # fmt: skip


def sets_given() -> tuple[str, ...]:
    """Return the texts of --set of the command that runs."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_SETS, ()) if context else ()


def settings_of(
    config: Path | None,
    lan: tuple[str, ...] = (),
    bundle: Path | None = None,
    ignore_checksums: bool | None = None,
) -> Any:
    """Return the settings of the file and environment, with the command line's on top."""
    from guardian import config as configuration  # noqa: PLC0415 - `--help` reads no settings

    settings = configuration.load(config, sets=sets_given())
    settings = configuration.override(settings, "home", lan=lan or None)
    settings = configuration.override(settings, "model", bundle=str(bundle) if bundle else None)
    return configuration.override(settings, "capture", ignore_checksums=ignore_checksums)


def watching(settings: Any, interface: tuple[str, ...], text: str | None) -> Any:
    """Return settings with what the command line says of live capture on top."""
    from guardian import config as configuration  # noqa: PLC0415

    names = configuration.several(interface) or None
    return configuration.override(settings, "capture", interface=names, filter=text)
