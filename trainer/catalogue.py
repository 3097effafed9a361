"""The captures at hand: where each lies, what it says, and what it may be used for.

`train` and `calibrate` only name sets whose licence lets a shipped bundle learn from them;
everything else is for evaluation alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from guardian.deviceclass import COMPUTER, PHONE
from guardian.errors import InputError
from guardian.tables import Conns
from trainer import joy
from trainer.labels import DROP
from trainer.streams import Judge, Stream, benign, kinds_of, lan_with, malicious, read

IOT23 = "CC BY 4.0; Garcia, Parmisano, Erquiaga 2020, doi 10.5281/zenodo.4743746"
STRATOSPHERE = "GPL-2.0 (records of connections); Stratosphere Laboratory, CTU Prague"
ACTIVECM = "GPL-3.0 (records of connections); Active Countermeasures, RITA test data"
NEMEA = "BSD-3-Clause; CESNET, NEMEA-SIoT annotated data sets"
MONIOTR = "Apache-2.0; Mon(IoT)r Lab, Northeastern University"

TCP, SSH = 6, 22
JOY = "joy"


@dataclass(frozen=True)
class Source:
    """One capture, or several short ones of a kind."""

    name: str
    pattern: str
    """Path or glob below the data folder."""
    use: str
    """train, calibrate or evaluate."""
    group: str
    """What is left out together: one laboratory's network, one home."""
    judge: Judge | None = None
    lan: tuple[str, ...] = ()
    licence: str = "evaluation only"
    form: str = ""
    """JOY where its files are flows of Cisco Joy."""

    @property
    def classes(self) -> Mapping[str, str] | None:
        """Class of device by its key, "" of all others; None where nobody said: what the gateway
        sees."""
        return CLASSES.get(self.group, {}) if self.use != "evaluate" else None


CLASSES: Mapping[str, Mapping[str, str]] = {
    "windows-pcs": {"": COMPUTER},
    "nmap": {"": COMPUTER},
    "njrat": {"": COMPUTER},
    "exposed": {"": COMPUTER},
    "joy-ikea": {f"ip:192.168.3.{n}": PHONE for n in (154, 177)},
}
"""By group, who is no thing among what may teach or calibrate."""


def _iot23(number: str, use: str, group: str) -> Source:
    return Source(f"iot23 {number}", f"iot23/*-{number}-labeled.csv", use, group, licence=IOT23)


def _mixed(number: str, use: str, host: str) -> Source:
    return Source(
        f"stratosphere {number}",
        f"stratosphere/{number}-zeek-mixed/data/conn.log.labeled.gz",
        use,
        "windows-pcs",
        lan=lan_with(f"{host}/32"),
        licence=STRATOSPHERE,
    )


def _exposed(conns: Conns) -> list[str]:
    """The judge of a server that is open to the Internet: nobody was invited to it.

    SSH sessions guess passwords, what finds no service or says nothing looks for one. The rest
    (web visits, its own look-ups) may be anything.
    """
    inbound = conns.local_resp & ~conns.local_orig & (conns.proto == TCP)
    guess = inbound & (conns.resp_p == SSH) & (conns.orig_bytes > 0)
    futile = inbound & ((conns.resp_bytes <= 0) | (conns.orig_bytes <= 0))
    return [
        "brute-force" if g else "scan" if f else DROP
        for g, f in zip(guess.tolist(), futile.tolist(), strict=True)
    ]


def _unsolicited_aside(conns: Conns) -> list[str]:
    """The judge of a quiet home with public addresses, where strangers knock: nobody said which
    of what comes from outside is benign. Some plainly is not: one guesses SSH passwords.
    """
    inbound = conns.local_resp & ~conns.local_orig
    return [DROP if one else "benign" for one in inbound.tolist()]


_HOMES = "smart-home-pcaps"
_NEST = f"{_HOMES}/nest-hue-wemo-2014"
_UNSW = lan_with("129.94.5.0/24")
_SLIPS = "attack-pcaps/slips"
_DDOS = "attack-pcaps/ddos"

CATALOGUE: tuple[Source, ...] = (
    # --- may teach and calibrate a shipped bundle ------------------------------------------
    _iot23("5-1", "train", "echo"),
    _iot23("8-1", "train", "pi-a"),
    _iot23("20-1", "train", "pi-a"),
    _iot23("42-1", "train", "pi-b"),
    _iot23("44-1", "train", "pi-b"),
    Source(
        "stratosphere 001",
        "stratosphere/001-zeek-scenario-malicious/labeled-conn.log",
        "train",
        "njrat",
        licence=STRATOSPHERE,
    ),
    Source(
        "stratosphere 002",
        "stratosphere/002-zeek-scenario-port-scanning/conn.log.gz",
        "train",
        "nmap",
        malicious("scan", orig="172.16.1.11"),
        licence=STRATOSPHERE,
    ),
    _mixed("008", "train", "147.32.81.167"),
    Source(
        "exposed server",
        "zeek-internet-facing/2024-04-19/conn.*.log.gz",
        "train",
        "exposed",
        _exposed,
        lan_with("64.225.56.201/32"),
        licence=ACTIVECM,
    ),
    Source(
        "yi camera", f"{_HOMES}/yi-camera-2019/*.pcap", "train", "yi", benign, licence=MONIOTR
    ),
    Source("joy ikea gateway", "joy-flows/ikea-app/*/*.json.gz", "train", "joy-ikea", benign,
           licence=NEMEA, form=JOY),
    Source("joy ip camera", "joy-flows/ipcam/*/*.json.gz", "train", "joy-camera", benign,
           licence=NEMEA, form=JOY),
    _iot23("4-1", "calibrate", "hue"),
    _mixed("010", "calibrate", "147.32.83.234"),
    Source(
        "blink hub 2019",
        f"{_HOMES}/blink-hub-idle-2019/*.pcap",
        "calibrate",
        "blink-hub",
        benign,
        licence=MONIOTR,
    ),
    # --- benign, evaluation alone -------------------------------------------------------------
    *(
        Source(name, f"{_HOMES}/one-week-2021/{name}.*pcap", "evaluate", "one-week", benign)
        for name in (
            "blink-cam-01", "blink-cam-02", "lockly-hub-01", "schlage-lock-01", "ultraloq-hub-01",
        )
    ),
    Source(
        "tplink-plug", f"{_HOMES}/tplink-plug-2018/*.pcap", "evaluate", "tplink", benign
    ),
    Source(
        "nest 28 march", f"{_NEST}/nest/28-march-setup-2-long-capture.pcapng", "evaluate", "unsw",
        _unsolicited_aside, _UNSW,
    ),
    Source(
        "nest 27 march", f"{_NEST}/nest/nest-343-27march-2130.pcapng", "evaluate", "unsw",
        _unsolicited_aside, _UNSW,
    ),
    Source("nest fire test", f"{_NEST}/nest/fire-tests-343nest-fire-test2-full.pcap", "evaluate",
           "unsw", _unsolicited_aside, _UNSW),
    Source("hue 2014", f"{_NEST}/hue/*.pcap", "evaluate", "unsw", _unsolicited_aside, _UNSW),
    Source("wemo 2014", f"{_NEST}/wemo/*.pcap", "evaluate", "unsw", _unsolicited_aside, _UNSW),
    Source("mqttset benign", "mqttset/benign-train.pcap", "evaluate", "mqttset", benign),
    Source("iot-sentinel set-ups", "iot-sentinel/*/*.pcap", "evaluate", "sentinel", benign),
    # --- attacks, evaluation alone --------------------------------------------------------------
    Source("slips beacon", f"{_SLIPS}/test-cc/*.pcap", "evaluate", "slips",
           malicious("c2", orig="147.32.80.37"), lan_with("147.32.80.37/32")),
    Source("slips icmp scan", f"{_SLIPS}/test12-icmp-portscan.pcap", "evaluate", "slips",
           malicious("scan", orig="192.168.1.109")),
    Source("syn scan", "attack-pcaps/misc/synscan.pcapng", "evaluate", "sanders",
           malicious("scan", orig="172.16.0.8")),
    Source("slips port scan", "stratosphere-slips/port-scans/horizontal/conn.log", "evaluate",
           "slips", malicious("scan")),
    Source("syn flood (target)", f"{_DDOS}/pkt.TCP.synflood.spoofed.pcap", "evaluate", "ddos",
           malicious("flood", resp="10.10.10.10")),
    Source("syn-ack reflection (target)", f"{_DDOS}/amp.TCP.reflection.SYNACK.pcap", "evaluate",
           "ddos", malicious("flood")),
    Source("isakmp amplification (target)", f"{_DDOS}/amp.UDP.isakmp.pcap", "evaluate", "ddos",
           malicious("flood", resp="10.10.10.10")),
    Source("dns amplification (target)", f"{_DDOS}/amp.dns.RRSIG.fragmented.pcap", "evaluate",
           "ddos", malicious("flood", resp="10.10.10.10")),
    *(
        Source(f"mqttset {name}", f"mqttset/{name}-train.*", "evaluate", "mqttset",
               malicious(label))
        for name, label in (
            ("bruteforce", "brute-force"), ("flood", "flood"), ("malariados", "flood"),
            ("malformed", "other"), ("slowite", "flood"),
        )
    ),
)  # fmt: skip


def of(use: str) -> tuple[Source, ...]:
    return tuple(source for source in CATALOGUE if source.use == use)


def streams(source: Source, data: Path) -> Iterator[tuple[Path, Stream]]:
    """Yield the streams of a source's files. Raises InputError where the folder has none."""
    paths = sorted(data.glob(source.pattern))
    if not paths:
        raise InputError(f"{data} lacks {source.pattern}: give the folder of captures with --data")
    for path in paths:
        if source.form == JOY:
            stream, devices = joy.read(path, lan=source.lan, judge=source.judge)
            yield path, replace(stream, kinds=kinds_of(devices, source.classes))
        else:
            yield path, read(path, lan=source.lan, judge=source.judge, classes=source.classes)
