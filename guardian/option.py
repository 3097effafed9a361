"""One key of the settings: its default, what it may be, what it says of itself.

A key is declared once, as a field of a section in config.py. What is read, refused, written and
documented of it follows from that.
"""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from guardian import minisign

T = TypeVar("T")

MAC = re.compile(r"[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}")


@dataclass(frozen=True)
class Form:
    """How an entry must be written: `read` raises ValueError where it is not."""

    read: Callable[[str], object]
    wanted: str
    """Follows `is no`."""


def _matching(pattern: str) -> Callable[[str], object]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return read


def _thing(text: str) -> object:
    return text if MAC.fullmatch(text) else ipaddress.ip_address(text)


def address_port(text: str) -> tuple[str, int]:
    """Return address and port of 127.0.0.1:9477 or [::1]:9477. Raises ValueError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = ipaddress.ip_address(bare)
    if (address.version == 6) != (bare != host) or not port.isascii() or not port.isdigit():
        raise ValueError(text)
    if not 0 < int(port) < 65_536:
        raise ValueError(text)
    return str(address), int(port)


INTERFACE = Form(
    _matching(r"[^\s/,]{1,15}"), "interface: 15 characters at most, no blank, no slash"
)
NETWORK = Form(
    lambda text: ipaddress.ip_network(text, strict=False),
    "network: write it like 192.168.1.0/24 or fd00::/8",
)
LISTEN = Form(address_port, "address and port: write it like 127.0.0.1:9477")
MAC_ADDRESS = Form(_matching(MAC.pattern), "MAC address: write it like aa:bb:cc:dd:ee:ff")
SIGNER = Form(minisign.key_of, "minisign key: write the line of the .pub file that begins with RW")
DEVICE = Form(_thing, "MAC or address: write it like aa:bb:cc:dd:ee:ff or 192.168.1.5")


@dataclass(frozen=True)
class Rule:
    """What is declared of a key beside its name and default."""

    about: str
    """What it does, in sentences; the comment above it in the file."""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    """The values that a text may have; of a table, those that its values may have."""
    form: Form | None = None
    """Of a text that is not empty, of a list's entries, or of a table's names."""
    entries: tuple[str, ...] = ()
    """The names that a table may have."""
    joined: bool = False
    """A list that may be written as one text, with commas."""
    live: bool = False
    """A running daemon takes it up at SIGHUP."""
    secret: bool = False
    """Not shown by `guardian config show`."""
    example: str = ""
    """A line shown as a comment where a table is empty."""


@dataclass(frozen=True)
class Key:
    """A key with its place."""

    section: str
    name: str
    default: Any
    rule: Rule

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return f"GUARDIAN_{self.section}_{self.name}".upper()

    @property
    def is_table(self) -> bool:
        return isinstance(self.default, Mapping)

    def value(self, given: Any) -> Any:
        """Return what was given, as the settings hold it.

        Raises ValueError with what is wrong; it begins with the key.
        """
        found, wanted = self._typed(given)
        if found is None:
            raise ValueError(f"{self.path} = {given!r} must be {wanted}")
        self._limits(found)
        self._forms(found)
        return found

    def _typed(self, given: Any) -> tuple[Any, str]:
        """Return the value, or None and what is wanted instead."""
        kind, choices = type(self.default), self.rule.choices
        if kind is bool:
            return (given if isinstance(given, bool) else None), "true or false"
        if kind in (int, float):
            good = type(given) is int or (kind is float and type(given) is float)
            return (kind(given) if good else None), "a number"
        if kind is tuple:
            if self.rule.joined and isinstance(given, str):
                given = [given]
            good = isinstance(given, list | tuple) and all(isinstance(v, str) for v in given)
            found = several(given) if good and self.rule.joined else tuple(given if good else ())
            return (found if good else None), 'a list of texts, like ["192.168.1.0/24"]'
        if self.is_table:
            good = isinstance(given, Mapping) and all(isinstance(v, str) for v in given.values())
            return (dict(given) if good else None), (
                'names with texts in quotes, like "aa:bb:cc:dd:ee:ff" = "Hall camera"'
            )
        # What has a default that is not empty cannot be switched off by emptying it.
        good = isinstance(given, str) and bool(given or not self.default)
        if choices:
            good = good and given in choices
            return (given if good else None), f"one of {', '.join(choices)}"
        wanted = "a text in quotes" + (", not empty" if self.default else "")
        return (given if good else None), wanted

    def _limits(self, value: Any) -> None:
        low, high = self.rule.low, self.rule.high
        if low is None or high is None:
            return
        if not low <= value <= high:  # NaN lies nowhere
            raise ValueError(f"{self.path} = {value} must lie between {low:g} and {high:g}")

    def _forms(self, value: Any) -> None:
        rule = self.rule
        texts = (
            [value] if isinstance(value, str) else [*value] if hasattr(value, "__iter__") else []
        )
        for text in (*texts, *value.values()) if self.is_table else texts:
            # No name or path has them, and what is no UTF-8 comes as a surrogate.
            if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
                raise ValueError(f"{self.path}: {text!a} has characters that are no text")
        for text in texts:
            if rule.entries and text not in rule.entries:
                raise ValueError(f"{self.path}: {text!r} is none of {', '.join(rule.entries)}")
            if rule.form is None or not text:
                continue
            try:
                rule.form.read(text)
            except ValueError as error:
                raise ValueError(f"{self.path}: {text!r} is no {rule.form.wanted}") from error
        if self.is_table and rule.choices:
            for name, text in value.items():
                if text not in rule.choices:
                    raise ValueError(
                        f"{self.path}.{name} = {text!r} must be one of {', '.join(rule.choices)}"
                    )

    def of_text(self, text: str) -> Any:
        """Return the value of a text, as the environment and the command line give it, in the
        default's type where it can be read so; `value` judges it."""
        if isinstance(self.default, bool):
            return _WORDS.get(text.strip().lower(), text)
        if isinstance(self.default, int | float):
            with suppress(ValueError):
                return type(self.default)(text)
        elif isinstance(self.default, tuple):
            return list(several([text]))
        elif self.is_table:
            pairs = [entry.partition("=") for entry in several([text])]
            if all(sign for _, sign, _ in pairs):
                return {name.strip(): value.strip() for name, _, value in pairs}
        return text


_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True)
_WORDS |= dict.fromkeys(("false", "0", "no", "off"), False)


def key(default: T, about: str, **rule: Any) -> T:
    """Declare a key of a section; rule: fields of Rule.

    A dict as default makes a table of texts.
    """
    metadata = {"rule": Rule(about, **rule)}
    if isinstance(default, dict):
        return cast(T, field(default_factory=default.copy, metadata=metadata))
    return field(default=default, metadata=metadata)


Keys = dict[str, dict[str, Key]]


def keys_of(settings: Any) -> Keys:
    """Return the keys of an instance of Settings with defaults, by section and name."""
    out: Keys = {}
    for section in fields(settings):
        part = getattr(settings, section.name)
        if hasattr(part, "__dataclass_fields__"):
            out[section.name] = {
                f.name: Key(section.name, f.name, getattr(part, f.name), f.metadata["rule"])
                for f in fields(part)
            }
    return out


def several(texts: Iterable[str]) -> tuple[str, ...]:
    """Return what is listed, also with commas, each once."""
    parts = (part.strip() for text in texts for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]"
