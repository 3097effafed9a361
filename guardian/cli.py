"""The command line: `guardian`. Each command's work lives in a module of its own.

Modules are imported inside the commands, so that `guardian --help` is quick and the gateway never
loads what it does not run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from guardian import __version__
from guardian.bundlecli import BUNDLE_COMMANDS
from guardian.configcli import CONFIG_COMMANDS
from guardian.errors import ConfigError, GuardianError
from guardian.installcli import INSTALL_COMMANDS
from guardian.options import settings_of, settings_options, watching
from guardian.statuscli import STATUS_COMMANDS
from guardian.storecli import STORE_COMMANDS
from guardian.tell import harmless
from guardian.traincli import TRAIN_COMMANDS
from guardian.usercli import USER_COMMANDS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
INPUT = click.argument("input_path", metavar="INPUT", type=click.Path(path_type=Path))
CONFIG = settings_options
LAN = click.option("--lan", multiple=True, metavar="CIDR", help="A network at home; repeatable.")
BUNDLE = click.option("--bundle", type=click.Path(path_type=Path), help="Folder of a model bundle.")
INTERFACE = click.option(
    "-i", "--interface", multiple=True, help="LAN-side interface, such as br0; repeatable."
)
FILTER = click.option(
    "--filter", "text", metavar="TEXT", help="Watch only what matches, in tcpdump's words."
)
CHECKSUMS = click.option(
    "--ignore-checksums", is_flag=True, default=None, help="Count packets whose checksum is wrong."
)


class EnoughReadError(Exception):
    """Who reads (head, less) has seen enough."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises EnoughReadError where its reader is gone: of a broken pipe click
        makes a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise EnoughReadError from None


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="guardian")
def cli() -> None:
    """The guardian of a home network."""


@cli.command()
@CONFIG
@INTERFACE
@FILTER
@LAN
@BUNDLE
def run(
    config: Path | None,
    interface: tuple[str, ...],
    text: str | None,
    lan: tuple[str, ...],
    bundle: Path | None,
) -> None:
    """Watch the network: the daemon.

    SIGHUP makes it read its settings again; `guardian status` shows how it is.
    """
    from guardian.config import file_of
    from guardian.daemon import Daemon

    def settings() -> Any:
        return watching(settings_of(config, lan, bundle), interface, text)

    file = file_of(config)
    raise SystemExit(Daemon(settings(), settings, str(file) if file else "").run())


@cli.command()
@click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--db", type=click.Path(path_type=Path), help="Also write to this database.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
@CONFIG
@LAN
@BUNDLE
@CHECKSUMS
def replay(
    inputs: tuple[Path, ...],
    db: Path | None,
    as_json: bool,
    config: Path | None,
    lan: tuple[str, ...],
    bundle: Path | None,
    ignore_checksums: bool | None,
) -> None:
    """Run captures or logs through the daemon's pipeline."""
    from guardian.replay import replay as work

    work(inputs, settings_of(config, lan, bundle, ignore_checksums), db=db, as_json=as_json)


@cli.command()
@INPUT
@click.option(
    "--format",
    "form",
    type=click.Choice(["zeek", "json", "csv", "none"]),
    default="zeek",
    show_default=True,
)
@CONFIG
@LAN
@BUNDLE
@CHECKSUMS
def conns(
    input_path: Path,
    form: str,
    config: Path | None,
    lan: tuple[str, ...],
    bundle: Path | None,
    ignore_checksums: bool | None,
) -> None:
    """Print connection records, as Zeek's conn.log has them; `none` only counts.

    No model is asked: --bundle is taken, as by all commands that read INPUT, and not loaded.
    """
    from guardian.listing import conns as work

    work(input_path, settings_of(config, lan, bundle, ignore_checksums), form)


@cli.command()
@INPUT
@click.option(
    "--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True
)
@CONFIG
@LAN
@BUNDLE
@CHECKSUMS
def score(
    input_path: Path,
    form: str,
    config: Path | None,
    lan: tuple[str, ...],
    bundle: Path | None,
    ignore_checksums: bool | None,
) -> None:
    """Print one row per connection with what the gateway holds of it in the end.

    `attack` is what an incident has, `anomaly` what only the autoencoder finds odd. `threat` is the
    probability that the models give, raised by the evidence the connection was part of: from 0.95
    on an incident has it. So rows are printed when the input ends. The database keeps the models'
    words alone, written as they come.
    """
    from guardian.listing import score as work

    work(input_path, settings_of(config, lan, bundle, ignore_checksums), form)


@cli.command()
@click.argument("scenario", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .pcap to write.")
@click.option("--seed", type=int, help="Another seed gives another day.")
@click.option("--hours", type=float, help="Length in hours.")
def simulate(
    scenario: str | None, output: Path | None, seed: int | None, hours: float | None
) -> None:
    """Write labelled home traffic, quiet or infected; without SCENARIO, list them."""
    from guardian.drill import simulate as work

    work(scenario, output, seed, hours)


@cli.command()
@click.option("--keep", type=click.Path(path_type=Path), help="Keep capture and database here.")
@click.option(
    "--broker", metavar="HOST[:PORT]", help="Show it to the hub at this broker, until Enter."
)
@BUNDLE
def demo(keep: Path | None, broker: str | None, bundle: Path | None) -> None:
    """A simulated home with one infected device, end to end."""
    from guardian.demo import demo as work

    work(keep, broker, settings_of(None, (), bundle))


@cli.command()
@CONFIG
@INTERFACE
@FILTER
@click.option("--quick", is_flag=True, help="Leave out what takes time: for ExecStartPre.")
def check(config: Path | None, interface: tuple[str, ...], text: str | None, quick: bool) -> None:
    """Tell what is wrong and how to mend it, a line each: `ok`, `note` or `WRONG`.

    Looks at settings, interface, ring, rights, model, database, disk, alerts, clock, the running
    daemon, broker and hub. Exits with 1 where something is wrong.
    """
    from guardian.check import check as work
    from guardian.config import file_of

    def settings() -> Any:
        return watching(settings_of(config), interface, text)

    raise SystemExit(work(settings, file_of(config), quick=quick))


for command in (
    *BUNDLE_COMMANDS,
    *CONFIG_COMMANDS,
    *INSTALL_COMMANDS,
    *STATUS_COMMANDS,
    *STORE_COMMANDS,
    *TRAIN_COMMANDS,
    *USER_COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line: 0 done, 1 failed with a sentence on stderr, 2 usage."""
    if sys.stdout is None:  # started with `>&-`: there is nobody to tell
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        cli(standalone_mode=False, prog_name="guardian")
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        fail("interrupted: what was written until then is kept")
    except ConfigError as error:
        fail(f"settings: {error}")
    except GuardianError as error:
        fail(str(error))
    except (EnoughReadError, BrokenPipeError):
        # What is still to be written has no reader: keep Python from complaining at exit.
        mute()
        sys.exit(0)
    except OSError as error:
        # A full disk, a folder that may not be written: the user's to mend, not ours to explain.
        mute()
        where = f" {error.filename}" if error.filename else " the result"
        fail(f"cannot read or write{where}: {error.strerror or error}; check path, rights and room")


def fail(text: str) -> NoReturn:
    """End with 1 and one line on stderr, whatever a file's name holds."""
    click.echo(f"guardian: {harmless(text)}", err=True)
    sys.exit(1)


def mute() -> None:
    """Let what still waits for stdout go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
