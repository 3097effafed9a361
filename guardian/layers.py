"""Where settings come from: the file, above it the environment, above that the command line.

Each layer is a tree, checked as a whole. Unknown keys are refused with the nearest name, so that a
typing error never passes in silence; a mistake in the file is named with its line.
"""

from __future__ import annotations

import copy
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardian.errors import ConfigError
from guardian.option import Key, Keys

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its earlier name
    import tomli as tomllib

VERSION = 1
"""Version of the file's keys and of what they mean."""

MAX_BYTES = 1 << 20
"""Bytes of a settings file: the generated one has some ten thousand."""

ENVIRONMENT = "the environment"
COMMAND_LINE = "--set"

Tree = dict[str, Any]
Step = Callable[[Tree], None]

STEPS: dict[int, Step] = {}
"""For each earlier version: what makes its tree one of the next, in place."""


@dataclass(frozen=True)
class Layer:
    """What one place says."""

    name: str
    tree: Tree
    text: str = ""
    """The file's, to find lines in."""
    version: int = VERSION
    """Of the file, before it was brought to the newest."""
    words: dict[str, str] = field(default_factory=dict)
    """How a key was given, where not in the file: GUARDIAN_MQTT_PORT, --set mqtt.port."""

    def where(self, *path: str) -> str:
        """Return the place of a key for a message: the file with its line, or the word used."""
        if self.text:
            return self.name + line_of(self.text, path)
        word = self.words.get(".".join(path[:2]))
        return word or self.name


def read_file(path: Path) -> Layer:
    """Return the layer of a file. Raises ConfigError where it cannot be read or is no TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"cannot read the settings {path}: larger than {MAX_BYTES >> 20} MiB")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read the settings {path}: {reason}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Layer:
    """Return the layer of a TOML text, brought to the newest version."""
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else "nested too deep"
        raise ConfigError(f"{name} is no valid TOML: {said}; mend that line") from error
    layer = Layer(name, tree, text)
    version = tree.get("version", VERSION)
    if type(version) is not int or version < min(STEPS, default=VERSION):
        raise ConfigError(
            f"{layer.where('version')}: version {version!r} is not {VERSION}, the one known"
        )
    if version > VERSION:
        raise ConfigError(
            f"{layer.where('version')}: version {version} is not {VERSION}, the one known: these "
            "settings are of a newer Guardian"
        )
    for old in range(version, VERSION):
        STEPS[old](tree)
    return Layer(name, tree, text, version)


def from_environment(keys: Keys, environ: Mapping[str, str]) -> Layer:
    """Return what GUARDIAN_SECTION_KEY variables say; other GUARDIAN_ names are not ours."""
    known = {key.variable: key for section in keys.values() for key in section.values()}
    tree: Tree = {}
    words: dict[str, str] = {}
    for variable, text in environ.items():
        begin = variable.split("_")[:2]
        if begin[0] != "GUARDIAN" or len(begin) < 2 or begin[1].lower() not in keys:
            continue
        key = known.get(variable)
        if key is None:
            raise ConfigError(f"{ENVIRONMENT}: unknown {variable}; {_near(variable, list(known))}")
        _put(tree, words, key, text, variable)
    store = known.get("GUARDIAN_STORE_PATH")
    if store is not None and environ.get("GUARDIAN_DB"):  # its older name
        if words.get(store.path) and tree["store"]["path"] != environ["GUARDIAN_DB"]:
            raise ConfigError(
                f"{ENVIRONMENT}: GUARDIAN_DB and GUARDIAN_STORE_PATH name two databases; they mean "
                "the same, set one"
            )
        _put(tree, words, store, environ["GUARDIAN_DB"], "GUARDIAN_DB")
    return Layer(ENVIRONMENT, tree, words=words)


def from_sets(keys: Keys, sets: Iterable[str]) -> Layer:
    """Return what `--set section.key=value` says, the last one of a key."""
    tree: Tree = {}
    words: dict[str, str] = {}
    for text in sets:
        path, sign, value = text.partition("=")
        section, dot, name = path.strip().partition(".")
        if not sign or not dot:
            raise ConfigError(
                f"{COMMAND_LINE} {text!r}: write it like {COMMAND_LINE} mqtt.host=hub.local"
            )
        known(section, list(keys), COMMAND_LINE)
        known(name, list(keys[section]), f"{COMMAND_LINE} {path.strip()}")
        key = keys[section][name]
        _put(tree, words, key, value, f"{COMMAND_LINE} {key.path}")
    return Layer(COMMAND_LINE, tree, words=words)


def _put(tree: Tree, words: dict[str, str], key: Key, text: str, word: str) -> None:
    tree.setdefault(key.section, {})[key.name] = key.of_text(text)
    words[key.path] = word


def checked(keys: Keys, layer: Layer) -> dict[str, dict[str, Any]]:
    """Return the values of a layer by section and key. Raises ConfigError with the place."""
    out: dict[str, dict[str, Any]] = {}
    for section, values in layer.tree.items():
        if section == "version":
            continue
        if section not in keys:
            known(section, [*keys, "version"], layer.where(section))
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{layer.where(section)}: {section} must be a section, written [{section}]"
            )
        found = out[section] = {}
        for name, value in values.items():
            if name not in keys[section]:
                known(name, list(keys[section]), layer.where(section, name))
            try:
                found[name] = keys[section][name].value(copy.copy(value))
            except ValueError as error:
                where = _inner(layer, section, name, value, str(error))
                raise ConfigError(f"{where or layer.where(section, name)}: {error}") from error
    return out


def _inner(layer: Layer, section: str, name: str, value: Any, said: str) -> str:
    """Return the place of the entry of a table that an error speaks of, or nothing."""
    for entry in value if isinstance(value, Mapping) and layer.text else ():
        if repr(entry) in said or f".{entry} =" in said:
            return layer.where(section, name, entry)
    return ""


def known(name: str, names: list[str], where: str) -> None:
    """Raise ConfigError with the nearest name where a name is none of those known."""
    if name not in names:
        raise ConfigError(f"{where}: unknown key {name!r}; {_near(name, names)}")


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"


def line_of(text: str, path: Iterable[str]) -> str:
    """Return ` line N` where a key begins in a TOML text, or nothing.

    It is the first line with which the text, read up to there, holds the key; so it is right for
    every way in which TOML may write one.
    """
    lines, names = text.splitlines(keepends=True), tuple(path)
    if not _holds(_until(lines, len(lines))[1], names):
        return ""
    without, holding = 0, len(lines)
    while holding - without > 1:
        middle = (without + holding) // 2
        number, tree = _until(lines, middle)
        if _holds(tree, names):
            holding = number
        else:
            without = middle
    return f" line {_until(lines, holding - 1)[0] + 1}"


def _until(lines: list[str], number: int) -> tuple[int, Tree]:
    """Return the last line up to `number` that ends what it belongs to, and the tree until it."""
    while number > 0:
        try:
            return number, tomllib.loads("".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            number -= 1  # in the midst of a list of several lines
    return 0, {}


def _holds(tree: Any, names: Iterable[str]) -> bool:
    for name in names:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True
