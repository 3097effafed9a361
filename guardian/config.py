"""Settings: one TOML file, the same keys by environment, the command line last.

`GUARDIAN_MQTT_HOST=hub` is `[mqtt] host = "hub"`. Unknown keys are refused with the nearest
name, wrong values with what is expected, so that a typing error never passes in silence.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from guardian.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its earlier name
    import tomli as tomllib

DEFAULT_FILE = Path("/etc/guardian/guardian.toml")
VERSION = 1
MAC = re.compile(r"[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}")


@dataclass(frozen=True)
class CaptureSettings:
    """[capture]: where packets come from."""

    interface: tuple[str, ...] = ()
    """Interfaces on the LAN side, such as br0; one at least is required by `guardian run`."""
    backend: str = "auto"
    """`ring` (Linux), `sniffer` (scapy's, slow), or whichever there is."""
    filter: str = ""
    """What the kernel lets in, in tcpdump's words; empty means all."""
    fanout: int = 0
    """Group of processes that share an interface's flows; 0 means none."""
    ring_mib: int = 8
    """Size of the kernel's ring in MiB, for each interface."""
    snaplen: int = 2048
    """Bytes kept of a frame; payloads are only read for names and services."""
    promiscuous: bool = False
    ignore_checksums: bool = False
    """Count packets whose checksum is wrong, as captures on a host with offloading need."""


@dataclass(frozen=True)
class HomeSettings:
    """[home]: what the user knows of the home."""

    lan: tuple[str, ...] = ()
    """Networks at home; empty means the private ranges and the interface's own prefixes."""
    gateway_macs: tuple[str, ...] = ()
    """MACs of routers, known but not judged; learned where left empty."""
    names: Mapping[str, str] = field(default_factory=dict)
    """[home.names]: a MAC or address and the name the user gave it."""


@dataclass(frozen=True)
class ModelSettings:
    """[model]: who judges."""

    bundle: str = ""
    """Folder of the model bundle; empty means the shipped one."""
    counters: bool = True
    """Plain counters may speak beside the models; their incidents say so."""


@dataclass(frozen=True)
class AlertsSettings:
    """[alerts]: how often a person is told."""

    a_week: int = 2
    """Incidents told in any seven days; what is of high severity is always told. 0: no limit."""


@dataclass(frozen=True)
class StoreSettings:
    """[store]: the database and how long it remembers."""

    path: str = "/var/lib/guardian/guardian.db"
    connections_days: int = 30
    incidents_days: int = 365
    commit_s: float = 30.0
    """Seconds between commits, which spare SD cards; an incident commits at once."""


@dataclass(frozen=True)
class MqttSettings:
    """[mqtt]: the hub; off while host is empty."""

    host: str = ""
    port: int = 1883
    username: str = ""
    password: str = ""
    password_file: str = ""
    """A file that holds the password, so that the configuration may be shown to others."""
    ca: str = ""
    """Certificate authority file; setting it switches TLS on."""
    prefix: str = "guardian"
    discovery_prefix: str = "homeassistant"


@dataclass(frozen=True)
class Settings:
    """All settings, checked."""

    version: int = VERSION
    capture: CaptureSettings = CaptureSettings()
    home: HomeSettings = field(default_factory=HomeSettings)
    model: ModelSettings = ModelSettings()
    alerts: AlertsSettings = AlertsSettings()
    store: StoreSettings = StoreSettings()
    mqtt: MqttSettings = MqttSettings()


LIMITS: dict[str, tuple[float, float]] = {
    "capture.fanout": (0, 60_000),
    "capture.ring_mib": (1, 1024),
    "capture.snaplen": (128, 262_144),
    "alerts.a_week": (0, 10_000),
    "store.connections_days": (1, 3650),
    "store.incidents_days": (1, 3650),
    "store.commit_s": (0.1, 3600),
    "mqtt.port": (1, 65_535),
}
"""Smallest and largest value of each number."""


CHOICES: dict[str, tuple[str, ...]] = {"capture.backend": ("auto", "ring", "sniffer")}
"""The values that a text may have."""

ONE_OR_MORE = {"capture.interface"}
"""Lists that may be written as one text, with commas."""


def _interface(text: str) -> str:
    """Return what may be an interface's name (Linux: 15 bytes at most); raises ValueError."""
    if not re.fullmatch(r"[^\s/,]{1,15}", text):
        raise ValueError(text)
    return text


def _mac(text: str) -> str:
    """Return a MAC address that was written right; raises ValueError."""
    if not MAC.fullmatch(text):
        raise ValueError(text)
    return text


def _thing(text: str) -> str:
    """Return what may name a device, a MAC or an address; raises ValueError."""
    return text if MAC.fullmatch(text) else str(ipaddress.ip_address(text))


READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "capture.interface": (_interface, "interface: 15 characters at most, no blank, no slash"),
    "home.lan": (
        lambda text: ipaddress.ip_network(text, strict=False),
        "network: write it like 192.168.1.0/24 or fd00::/8",
    ),
    "home.gateway_macs": (_mac, "MAC address: write it like aa:bb:cc:dd:ee:ff"),
    "home.names": (_thing, "MAC or address: write it like aa:bb:cc:dd:ee:ff or 192.168.1.5"),
}
"""What the entries of a list must be read as, and how to write them."""


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Without a path, DEFAULT_FILE is read where it exists. Raises ConfigError with the line of what
    is wrong.
    """
    environ = os.environ if environ is None else environ
    text = ""
    name = "the environment"
    if path is not None or DEFAULT_FILE.exists():
        file = path or DEFAULT_FILE
        name = str(file)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"cannot read the settings {file}: {reason}") from error
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is no valid TOML: {error}; mend that line") from error
    settings = _apply(Settings(), tree, name, text)
    return _apply(settings, _from_environment(environ), "the environment", "")


def override(settings: Settings, section: str, **values: Any) -> Settings:
    """Return settings with the values that are not None set in a section."""
    given = {key: value for key, value in values.items() if value is not None}
    return replace(settings, **{section: replace(getattr(settings, section), **given)})


def several(texts: Iterable[str]) -> tuple[str, ...]:
    """Return what is listed, also with commas, each once."""
    parts = (part.strip() for text in texts for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def mqtt_password(settings: MqttSettings) -> str:
    """Return the broker's password from the setting or its file."""
    if not settings.password_file:
        return settings.password
    try:
        return Path(settings.password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read mqtt.password_file {settings.password_file}: give the user that runs "
            "guardian the right to read it"
        ) from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the tree of GUARDIAN_SECTION_KEY variables; other GUARDIAN_ names are not ours."""
    tree: dict[str, Any] = {}
    for section in fields(Settings):
        if section.name == "version":
            continue
        for key in fields(getattr(Settings(), section.name)):
            text = environ.get(f"GUARDIAN_{section.name}_{key.name}".upper())
            if text is None or key.name == "names":
                continue
            default = getattr(getattr(Settings(), section.name), key.name)
            tree.setdefault(section.name, {})[key.name] = _parse_text(text, default)
    return tree


def _parse_text(text: str, default: Any) -> Any:
    """Return the value of a variable's text, of the default's type where it can be read so."""
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if isinstance(default, tuple):
        return list(several([text]))
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            return text
    return text


def _apply(settings: Settings, tree: Mapping[str, Any], name: str, text: str) -> Settings:
    for section, values in tree.items():
        _known(section, [f.name for f in fields(Settings)], name, _line(text, section))
        if section == "version":
            if values != VERSION:
                raise ConfigError(f"{name}: version {values!r} is not {VERSION}, the one known")
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"{name}: {section} must be a section, written [{section}]")
        current = getattr(settings, section)
        changes = {}
        for key, value in values.items():
            where = f"{name}{_line(text, key, section)}"
            _known(key, [f.name for f in fields(current)], name, _line(text, key, section))
            changes[key] = _value(f"{section}.{key}", value, getattr(current, key), where)
        settings = replace(settings, **{section: replace(current, **changes)})
    return settings


def _value(key: str, value: Any, default: Any, where: str) -> Any:
    """Return value if it has the default's type and lies within its limits."""
    if isinstance(default, bool):
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        number = isinstance(value, int if isinstance(default, int) else (int, float))
        good, wanted = number and not isinstance(value, bool), "a number"
        low, high = LIMITS.get(key, (float("-inf"), float("inf")))
        if good and not low <= value <= high:
            raise ConfigError(f"{where}: {key} = {value} must lie between {low:g} and {high:g}")
    elif isinstance(default, tuple):
        if key in ONE_OR_MORE:
            value = [value] if isinstance(value, str) else value
        good = isinstance(value, list) and all(isinstance(v, str) for v in value)
        wanted = 'a list of texts, like ["192.168.1.0/24"]'
        value = several(value) if good and key in ONE_OR_MORE else value
        value = tuple(value) if good else value
    elif isinstance(default, Mapping):
        good = isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values())
        wanted = 'names in quotes, like "aa:bb:cc:dd:ee:ff" = "Hall camera"'
    else:
        # What has a default that is not empty cannot be switched off by emptying it.
        good = isinstance(value, str) and bool(value or not default)
        wanted = "a text in quotes" + (", not empty" if default else "")
        if key in CHOICES:
            good = good and value in CHOICES[key]
            wanted = f"one of {', '.join(CHOICES[key])}"
    if not good:
        raise ConfigError(f"{where}: {key} = {value!r} must be {wanted}")
    reader, wanted = READERS.get(key, (str, ""))
    for entry in value if key in READERS else ():
        try:
            reader(entry)
        except ValueError as error:
            raise ConfigError(f"{where}: {key}: {entry!r} is no {wanted}") from error
    return value


def _known(key: str, names: list[str], name: str, line: str) -> None:
    if key not in names:
        near = difflib.get_close_matches(key, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        raise ConfigError(f"{name}{line}: unknown key {key!r}; {hint}")


def _line(text: str, key: str, section: str = "") -> str:
    """Return ' line N' of a key (in a section) in the TOML text, or nothing."""
    inside = not section
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        if header:
            name = header.group(1)
            if name in (key, f"{section}.{key}"):
                return f" line {number}"
            inside = name == section if section else False
        elif inside and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
            return f" line {number}"
    return ""
