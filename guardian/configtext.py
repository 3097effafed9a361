"""The settings as text: the commented file with every key, and a file brought up to date.

`python -m guardian.configtext docs/guardian.toml` writes the documented file; a test keeps the two
equal.
"""

from __future__ import annotations

import grp
import os
import sys
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from guardian.config import KEYS, Settings, combined
from guardian.errors import ConfigError
from guardian.layers import VERSION, checked, parse, read_file
from guardian.option import Key, toml

WIDTH = 100
"""Columns of the file."""

FILE_MODE = 0o640
"""It may hold a password: the owner writes, the daemon's group reads, nobody else does."""

GROUP = "guardian"

HEAD = """\
# Settings of Guardian. Every key is shown with its default. Each can also be given by the
# environment, as GUARDIAN_SECTION_KEY (GUARDIAN_MQTT_HOST=hub), and on the command line, as
# `--set section.key=value` (--set mqtt.host=hub); the command line wins, then the environment.
# A running daemon reads this file again at SIGHUP (sudo systemctl reload guardian); keys
# marked "restart" wait for a restart. `guardian config check FILE` looks for mistakes.
"""


def render(values: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the whole file; values, by section and key, stand in place of defaults."""
    values = values or {}
    out = [HEAD + f"version = {VERSION}\n"]
    for section, keys in KEYS.items():
        given = values.get(section, {})
        about = (getattr(Settings(), section).__doc__ or "").strip()
        lines = [f"\n# {about}\n[{section}]\n"]
        tables: list[str] = []
        for name, key in keys.items():
            value = given.get(name, key.default)
            (tables if key.is_table else lines).append(_entry(key, value))
        out += lines + tables
    return "".join(out)


def _entry(key: Key, value: Any) -> str:
    said = key.rule.about
    if key.rule.low is not None and key.rule.high is not None:
        said += f" From {key.rule.low:g} to {key.rule.high:.12g}."
    if not key.rule.live:
        said += " (restart)"
    comment = textwrap.fill(
        said, WIDTH, initial_indent="# ", subsequent_indent="# ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    if not key.is_table:
        return f"{comment}\n{key.name} = {toml(value)}\n"
    lines = [f"{toml(name)} = {toml(text)}\n" for name, text in value.items()]
    example = f"# {key.rule.example}\n" if key.rule.example and not lines else ""
    return f"\n{comment}\n[{key.path}]\n{example}{''.join(lines)}"


def write_new(path: Path, text: str, *, force: bool = False) -> Path | None:
    """Write a settings file; return the copy of the one that stood there, if one did.

    Raises ConfigError where there is one and force is not given, or where it cannot be written.
    """
    try:
        if path.exists() and not force:
            raise ConfigError(
                f"{path} exists: `guardian config update {path}` adds what is new to it, --force "
                "replaces it and keeps a copy"
            )
        copy = backup(path) if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {error.filename or path}: {error.strerror or error}; use sudo, or name "
            "another file with -o"
        ) from error
    return copy


def update(path: Path) -> Path:
    """Write a settings file anew, with this version's keys and comments and the values it has.

    Return the copy of the old one: comments of the user's own stand in it alone. Raises
    ConfigError, and changes nothing, where the file has a mistake or cannot be written.
    """
    layer = read_file(path)
    text = render(checked(KEYS, layer))
    if combined([parse(text, str(path))]) != combined([layer]):
        raise ConfigError(f"{path} would not mean the same after the update: please report this")
    copy = write_new(path, text, force=True)
    assert copy is not None
    return copy


def backup(path: Path) -> Path:
    """Copy a settings file beside itself, with its rights; return the copy's path."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    copy = path.with_name(f"{path.name}.{stamp}.bak")
    number = 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.{stamp}-{number}.bak")
    _write(copy, path.read_text(encoding="utf-8"), like=path)
    return copy


def _write(path: Path, text: str, like: Path | None = None) -> None:
    """Write a file whole or not at all, with the rights of the one that it replaces."""
    path = path.resolve()  # what a link points to is replaced, not the link
    pattern = like or path
    known = pattern.stat() if pattern.exists() else None
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, known.st_mode & 0o7777 if known else FILE_MODE)
            with suppress(PermissionError, KeyError):  # one's own copy of another's file
                if known is not None:
                    os.fchown(fd, known.st_uid, known.st_gid)
                elif os.geteuid() == 0:  # or the daemon could not read what root made
                    os.fchown(fd, 0, grp.getgrnam(GROUP).gr_gid)
            file.write(text)
            file.flush()
            os.fsync(fd)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def main(path: Path) -> None:
    """Write the documented file."""
    path.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
