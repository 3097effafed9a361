"""What is judged: attacks as recorded and benign homes, none of which a shipped bundle learns from.

They are the catalogue's captures for evaluation alone and some more that hold too little for a
table by connection, but a device that is infected or a home that is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guardian import deviceclass
from guardian.tables import Conns
from trainer import catalogue
from trainer.catalogue import Source
from trainer.labels import DROP
from trainer.streams import Judge, benign, lan_with, malicious

HOME, SETUP, ATTACK = "home", "set-up", "attack"

JOY = "joy"
THING, COMPUTER, PHONE = deviceclass.THING, deviceclass.COMPUTER, deviceclass.PHONE
CLASSES = (THING, COMPUTER, PHONE)


@dataclass(frozen=True)
class Subject:
    """One capture, or several short ones of a kind."""

    name: str
    patterns: tuple[str, ...]
    group: str
    """What is never its own benign pool: one network."""
    kind: str
    judge: Judge | None = None
    lan: tuple[str, ...] = ()
    infected: str = ""
    """Key of the infected device, where no connection is labelled."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Class of device by its key; "" stands for all others."""
    note: str = ""
    form: str = ""
    """As the catalogue's."""

    def class_of(self, key: str) -> str:
        return self.classes.get(key, self.classes.get("", THING))

    def paths(self, data: Path) -> list[Path]:
        """Return its files, rising; empty where the folder has none."""
        return sorted(path for pattern in self.patterns for path in data.glob(pattern))


_UNSW = {
    # The laboratory's machines by their makers' prefixes: Dell, Apple, D-Link, Cisco; two phones.
    "00:14:22:45:c2:f4": COMPUTER, "d4:9a:20:db:5a:64": COMPUTER, "78:54:2e:20:ad:fe": COMPUTER,
    "00:13:46:6c:de:00": COMPUTER, "00:16:c7:7c:0b:c0": COMPUTER, "00:24:97:cc:6f:2f": COMPUTER,
    "00:13:c4:5c:81:1a": COMPUTER, "20:54:76:d0:5c:47": PHONE, "8c:3a:e3:72:02:c2": PHONE,
    "e0:f5:c6:02:0b:f5": PHONE, "60:92:17:66:d9:3e": PHONE,
}  # fmt: skip
_CLASSES: dict[str, Mapping[str, str]] = {
    **catalogue.CLASSES,
    "unsw": _UNSW,
    "tplink": {"64:89:9a:86:a9:7d": PHONE, "68:a8:6d:06:e5:5e": COMPUTER},
    "sentinel": {
        "00:b5:6d:06:08:ba": COMPUTER, "28:b2:bd:c3:41:79": COMPUTER,
        "24:77:03:7c:ea:dc": COMPUTER, "38:0b:40:ef:85:41": PHONE, "bc:f5:ac:f4:c0:9d": PHONE,
    },
    "slips": {"": COMPUTER},
    "sanders": {"": COMPUTER},
}  # fmt: skip

_NDPI = "protocol-pcaps/ndpi"


def of_source(source: Source) -> Subject:
    """Return a source of the catalogue as it is judged."""
    # A judge that would call anything benign is that of a quiet home.
    quiet = source.judge is not None and source.judge(Conns.blank(1)) == ["benign"]
    kind = (SETUP if source.group == "sentinel" else HOME) if quiet else ATTACK
    return Subject(
        source.name, (source.pattern,), source.group, kind, source.judge, source.lan,
        classes=_CLASSES.get(source.group, {}), form=source.form,
    )  # fmt: skip


_NEST = "smart-home-pcaps/nest-hue-wemo-2014/nest"


def _knocked(conns: Conns) -> list[str]:
    """The judge of a home on public addresses: what comes from outside is nobody's word."""
    inbound = conns.local_resp & ~conns.local_orig
    return [DROP if stranger else "benign" for stranger in inbound.tolist()]


MORE: tuple[Subject, ...] = (
    Subject(
        "nest 1 april", (f"{_NEST}/1st-long-1-2april-cap.pcap",), "unsw", HOME, _knocked,
        lan_with("129.94.5.0/24"), classes=_UNSW,
    ),
    Subject(
        "ssh guesses from outside", (f"{_NEST}/28-march-setup-and-press-button-twice.pcapng",),
        "unsw", ATTACK, malicious("brute-force", orig="69.64.56.147", resp_p=22),
        lan_with("129.94.5.0/24"), classes=_UNSW,
        note="listed as benign: one stranger opens 131 SSH sessions, all alike, to one machine",
    ),
    Subject(
        "protocol samples: phones",
        tuple(f"{_NDPI}/{name}" for name in (
            "alexa-app.pcapng", "android.pcap", "googledns_android10.pcap",
        )),
        "ndpi", HOME, benign, classes={"": PHONE},
    ),
    Subject(
        "protocol samples: things",
        tuple(f"{_NDPI}/{name}" for name in ("tplink_shp.pcap", "tuya_lp.pcap", "dnp3.pcap")),
        "ndpi", HOME, benign,
    ),
    Subject(
        "protocol samples: computers",
        (*(f"{_NDPI}/{name}" for name in (
            "amqp.pcap", "dns_doh.pcap", "ftp.pcap", "http_ipv6.pcap", "ipp.pcap", "vnc.pcap",
        )), "protocol-pcaps/basics/http_espn.pcapng"),
        "ndpi", HOME, benign, classes={"": COMPUTER},
    ),
    Subject(
        "slips arp scan", ("attack-pcaps/slips/test8-malicious.pcap",), "slips", ATTACK,
        infected="50:ed:3c:39:bc:d9", classes={"": COMPUTER},
        note="ARP alone: there is no connection to judge",
    ),
    Subject(
        "arp spoofing", ("attack-pcaps/misc/arppoison.pcapng",), "sanders", ATTACK,
        infected="00:25:b3:bf:91:ee", classes={"": COMPUTER},
        note="one forged ARP answer and what then passes through the spoofer",
    ),
    Subject(
        "slips infected windows", ("stratosphere-slips/test9-mixed-zeek-dir/conn.log",), "slips9",
        ATTACK, infected="ip:10.0.2.15", classes={"": COMPUTER},
        note="no labels: all that the infected machine does counts from its first connection",
    ),
    Subject(
        "slips infected pi", ("attack-pcaps/slips/test7-malicious.pcap",), "slips7", ATTACK,
        infected="b8:27:eb:c7:e9:c9",
        note="no labels: all that the infected machine does counts from its first packet",
    ),
    Subject("dns tunnel", (f"{_NDPI}/dns-tunnel-iodine.pcap",), "ndpi", ATTACK,
            malicious("other"), classes={"": COMPUTER}),
    Subject("dns exfiltration", (f"{_NDPI}/dns_exfiltration.pcap",), "ndpi", ATTACK,
            malicious("other"), classes={"": COMPUTER}),
    Subject("coin miner", (f"{_NDPI}/monero.pcap",), "ndpi", ATTACK, malicious("other"),
            classes={"": COMPUTER}),
)  # fmt: skip

LEFT_OUT = (
    "attack-pcaps/misc/http_dvwa_*, sessionhijacking and the nDPI captures of web attacks: each is"
    " an attack inside one or two requests to a web shop, told from others by its payload alone",
    "stratosphere-slips test10: nobody says which of its machines is infected; test13 to test15:"
    " parts of test9; test11 and others: no connection logs",
    "stratosphere 004, 006, 009: no conn.log, or none with labels",
    "nest captures that were filtered from longer ones",
)
"""What of the data is not judged, and why."""


def subjects() -> tuple[Subject, ...]:
    """Return all that is judged, benign homes first."""
    every = (*map(of_source, catalogue.of("evaluate")), *MORE)
    order = (HOME, SETUP, ATTACK)
    return tuple(sorted(every, key=lambda subject: order.index(subject.kind)))
