"""Settings: one TOML file, the same keys by environment, the command line last.

`GUARDIAN_MQTT_HOST=hub` and `--set mqtt.host=hub` are `[mqtt] host = "hub"`. A key is declared here
and nowhere else (option.py): the file that `guardian config init` writes, docs/guardian.toml and
what is refused follow from it. Keys with live=True are taken by a running daemon at SIGHUP.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardian import layers
from guardian.errors import ConfigError
from guardian.layers import VERSION, Layer
from guardian.logs import LEVELS, PARTS
from guardian.option import (
    DEVICE,
    INTERFACE,
    LISTEN,
    MAC_ADDRESS,
    NETWORK,
    SIGNER,
    key,
    keys_of,
    several,
)

__all__ = ["KEYS", "VERSION", "Settings", "load", "mqtt_password", "override", "several"]

DEFAULT_FILE = Path("/etc/guardian/guardian.toml")


@dataclass(frozen=True)
class CaptureSettings:
    """Where packets come from."""

    interface: tuple[str, ...] = key(
        (),
        "The interface on the LAN side: br0, br-lan, eth1. Required. Several make a list, "
        '["br0", "eth1.20"]: each has a ring of its own, and one that is down or not there yet '
        "does not stop the others. A packet routed from one to another counts where it came in; a "
        "port of a watched bridge, or a VLAN of a watched interface, is left out, since its "
        "packets would count twice.",
        form=INTERFACE,
        joined=True,
    )
    backend: str = key(
        "auto",
        '"ring": the kernel\'s, on Linux. "sniffer": scapy\'s, elsewhere (BSD, macOS); it loses '
        'bursts. "auto": what there is.',
        choices=("auto", "ring", "sniffer"),
    )
    filter: str = key(
        "",
        'What the kernel lets in, in tcpdump\'s words (needs libpcap): "not port 22". Empty: all. '
        "The kernel takes the outer VLAN tag off: `port 22` also matches tagged frames, `vlan 20` "
        "still works.",
    )
    fanout: int = key(
        0,
        "Shares the interface's flows among all processes with the same number: both directions of "
        "a flow go to the same one. Good where one core is not enough; but each process needs a "
        "[store] path of its own and judges a device by its share of the flows. Further interfaces "
        "take the next numbers. 0: off.",
        low=0,
        high=60_000,
    )
    ring_mib: int = key(
        8,
        "The kernel's ring, in MiB, for each interface; more survives longer pauses.",
        low=1,
        high=1024,
    )
    snaplen: int = key(
        2048,
        "Bytes kept of each frame; payloads are only read for names and services.",
        low=128,
        high=262_144,
    )
    promiscuous: bool = key(False, "See frames for others too, as a mirror port needs.")
    ignore_checksums: bool = key(
        False,
        "Count packets whose checksum is wrong, as captures on a host with offloading need.",
    )


@dataclass(frozen=True)
class HomeSettings:
    """What you know of the home."""

    lan: tuple[str, ...] = key(
        (),
        "Networks at home. Empty: the private ranges and the interface's own prefixes.",
        form=NETWORK,
    )
    gateway_macs: tuple[str, ...] = key(
        (),
        "MACs of routers, known but not judged; learned where left empty.",
        form=MAC_ADDRESS,
    )
    names: Mapping[str, str] = key(
        {},
        "Names of devices, by MAC or address. A name given by `guardian devices --name` wins.",
        form=DEVICE,
        live=True,
        example='"aa:bb:cc:dd:ee:ff" = "Hall camera"',
    )


@dataclass(frozen=True)
class ModelSettings:
    """Who judges."""

    bundle: str = key(
        "", "Folder of the model bundle. Empty: the one installed last, else the shipped one."
    )
    counters: bool = key(
        True,
        "Plain counters may speak beside the models; their incidents say so.",
        live=True,
    )
    key: str = key(
        "",
        "A minisign public key, the line that begins with RW: a bundle other than the shipped one "
        "is loaded only if its manifest is signed with it. Empty: signatures are not asked for.",
        form=SIGNER,
    )


@dataclass(frozen=True)
class AlertsSettings:
    """How often a person is told."""

    a_week: int = key(
        2,
        "Incidents that are told in any seven days, for the whole home. What is of high severity "
        "or was seen by a plain rule is always told; the others beyond it are held back: `guardian "
        "alerts --held` lists them. "
        "What that costs in detection stands in docs/incidents.md. 0: no limit.",
        low=0,
        high=10_000,
        live=True,
    )
    adapt: bool = key(
        True,
        "A device's own lines follow its calm past, within bounds (docs/incidents.md). false: the "
        "models' lines alone hold for all devices. `guardian devices --unlearn DEVICE` undoes it.",
        live=True,
    )


@dataclass(frozen=True)
class StoreSettings:
    """The database and how long it remembers."""

    path: str = key("/var/lib/guardian/guardian.db", "The database.")
    connections_days: int = key(30, "Days that connections stay.", low=1, high=3650, live=True)
    incidents_days: int = key(365, "Days that ended incidents stay.", low=1, high=3650, live=True)
    commit_s: float = key(
        60.0,
        "Seconds between commits, which spare SD cards; an incident commits at once.",
        low=0.1,
        high=3600,
    )
    max_mib: int = key(
        1024,
        "The most that the database may take on the disk, in MiB. Beyond it the oldest connections "
        "go before their time.",
        low=64,
        high=1 << 20,
        live=True,
    )


@dataclass(frozen=True)
class PrivacySettings:
    """What is kept and told at all."""

    level: int = key(
        0,
        "0: all. 1: no host names, neither of places that were called nor those that devices give "
        "themselves. 2: no addresses outside the home either. 3: counters only, no single "
        "connection. What was kept before is taken away, too; earlier backups are not touched.",
        low=0,
        high=3,
        live=True,
    )


@dataclass(frozen=True)
class MqttSettings:
    """The hub over MQTT."""

    host: str = key("", "The broker. Empty: nothing is sent.", live=True)
    port: int = key(1883, "Its port.", low=1, high=65_535, live=True)
    username: str = key("", "The name to sign on with, where the broker asks for one.", live=True)
    password: str = key("", "The password.", live=True, secret=True)
    password_file: str = key(
        "", "A file that holds the password, instead of the line above.", live=True
    )
    version: str = key("3.1.1", "Of MQTT.", choices=("3.1.1", "5"), live=True)
    transport: str = key(
        "tcp", "How the broker is reached.", choices=("tcp", "websockets"), live=True
    )
    path: str = key("/mqtt", "The websocket's path at the broker.", live=True)
    tls: bool = key(
        False,
        "Speak TLS, and trust the authorities that this machine trusts; port 8883 as a rule.",
        live=True,
    )
    ca: str = key(
        "", "File of the broker's own certificate authority; setting it switches TLS on.", live=True
    )
    certificate: str = key(
        "", "File of a client certificate, where the broker asks for one.", live=True
    )
    certificate_key: str = key("", "File of its private key.", live=True)
    client_id: str = key(
        "", "The name of this client; empty: guardian- and this installation's own eight digits.",
        live=True,
    )  # fmt: skip
    commands: bool = key(
        True,
        "Let the hub say something: snooze, feedback, names, the alert budget, fire drills. Who "
        "may publish to the broker may then say it. false: it only looks.",
        live=True,
    )
    prefix: str = key("guardian", "Topics of Guardian's own begin with this.", live=True)
    discovery_prefix: str = key(
        "homeassistant", "Topics by which Home Assistant finds devices begin with this.", live=True
    )


@dataclass(frozen=True)
class NotifySettings:
    """Other receivers of incidents, beside the hub. Empty: nothing leaves that way."""

    webhook: str = key(
        "",
        "An http or https address that gets each incident that is told as JSON, by POST. Names and "
        "addresses of devices leave to it.",
        live=True,
        secret=True,
    )
    webhook_token_file: str = key(
        "", "A file with a token, sent as `Authorization: Bearer TOKEN`.", live=True
    )
    push: tuple[str, ...] = key(
        (),
        "Services for phones, as addresses of Apprise (sudo /opt/guardian/bin/python -m "
        'pip install apprise): ["ntfys://my-topic"]. Explanation and advice leave to them.',
        live=True,
        secret=True,
    )
    syslog: str = key(
        "",
        'Address of a syslog server, "192.168.1.9:514" (UDP) or "tcp://192.168.1.9:514".',
        live=True,
    )
    syslog_form: str = key(
        "text",
        '"text": a sentence. "eve": JSON as Suricata writes it, for a SIEM.',
        choices=("text", "eve"),
        live=True,
    )
    eve: str = key(
        "", "A file that gets each incident as a line of Suricata's EVE-JSON.", live=True
    )


@dataclass(frozen=True)
class LogSettings:
    """What the daemon says on stderr, which systemd's journal keeps with its level."""

    level: str = key(
        "info", "The least that is said: debug, info, warning, error.", choices=LEVELS, live=True
    )
    parts: Mapping[str, str] = key(
        {},
        f"Levels of parts: {', '.join(PARTS)}.",
        entries=PARTS,
        choices=LEVELS,
        live=True,
        example='capture = "debug"',
    )


@dataclass(frozen=True)
class MetricsSettings:
    """Figures for Prometheus; off while listen is empty, and then nothing listens."""

    listen: str = key(
        "",
        'Address and port where they are read: "127.0.0.1:9477". Anybody on this machine may read '
        "them; they name no device.",
        form=LISTEN,
    )
    exposed: bool = key(
        False,
        "Let `listen` be another address than loopback. There is no password: whoever reaches it "
        "reads.",
    )


@dataclass(frozen=True)
class Settings:
    """All settings, checked."""

    version: int = VERSION
    capture: CaptureSettings = CaptureSettings()
    home: HomeSettings = field(default_factory=HomeSettings)
    model: ModelSettings = ModelSettings()
    alerts: AlertsSettings = AlertsSettings()
    store: StoreSettings = StoreSettings()
    privacy: PrivacySettings = PrivacySettings()
    mqtt: MqttSettings = MqttSettings()
    notify: NotifySettings = NotifySettings()
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = MetricsSettings()


KEYS = keys_of(Settings())
"""Every key, by section and name."""


def file_of(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the settings file that counts: the one given, GUARDIAN_CONFIG, DEFAULT_FILE where it
    exists; None where there is none."""
    environ = os.environ if environ is None else environ
    if path is None and environ.get("GUARDIAN_CONFIG"):
        path = Path(environ["GUARDIAN_CONFIG"])
    if path is not None:
        return path
    try:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    except OSError:
        return DEFAULT_FILE  # it may not be looked at, which reading it says


def layers_of(
    path: Path | None = None, environ: Mapping[str, str] | None = None, sets: Iterable[str] = ()
) -> list[Layer]:
    """Return what says something, the weightiest last. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    file = file_of(path, environ)
    found = [layers.read_file(file)] if file is not None else []
    return [*found, layers.from_environment(KEYS, environ), layers.from_sets(KEYS, sets)]


def load(
    path: Path | None = None, environ: Mapping[str, str] | None = None, sets: Iterable[str] = ()
) -> Settings:
    """Read the settings: file, environment, `--set` texts.

    Raises ConfigError with the line of what is wrong.
    """
    return combined(layers_of(path, environ, sets))


def combined(found: Iterable[Layer]) -> Settings:
    """Return the settings of layers, the weightiest last. Raises ConfigError."""
    settings = Settings()
    for layer in found:
        for section, values in layers.checked(KEYS, layer).items():
            settings = override(settings, section, **values)
    return settings


def override(settings: Settings, section: str, **values: Any) -> Settings:
    """Return settings with the values that are not None set in a section."""
    given = {key: value for key, value in values.items() if value is not None}
    return replace(settings, **{section: replace(getattr(settings, section), **given)})


def database(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Return the database that the settings name, for those who may not read all of them."""
    environ = os.environ if environ is None else environ
    try:
        return Path(load(path, environ).store.path)
    except ConfigError:
        # Settings hold passwords: those who may read the database need not read them.
        named = environ.get("GUARDIAN_STORE_PATH") or environ.get("GUARDIAN_DB")
        return Path(named or KEYS["store"]["path"].default)


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
