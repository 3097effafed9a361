"""N-BaIoT: 115 damped-window statistics of nine devices, one row a packet.

There is no label column and no time: the file is the label, and its rows follow in time. Repeated
rows are kept, since a flood repeats. A jitter that counts from the first packet is the time since
1970 in these files and would tell the day of the attack: jitter is cut at one day (its variance
at its square).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from guardian.errors import InputError
from trainer.sets.mapping import Feature, Mapping
from trainer.sets.reader import Echo, Reader
from trainer.sets.rows import add_frame
from trainer.sets.tabular import head_of, pieces, present, table_of
from trainer.sets.writer import Nature, Writer

_LAMBDAS = ("5", "3", "1", "0.1", "0.01")
_ONE = {"weight": "packets", "mean": "bytes", "variance": "bytes^2"}
_TWO = {
    "weight": "packets", "mean": "bytes", "std": "bytes", "magnitude": "bytes",
    "radius": "bytes^2", "covariance": "bytes^2", "pcc": "correlation",
}  # fmt: skip
_STREAMS = {
    "MI_dir": _ONE,
    "H": _ONE,
    "HH": _TWO,
    "HH_jit": {"weight": "packets", "mean": "seconds", "variance": "seconds^2"},
    "HpHp": _TWO,
}
"""MI: host and MAC, H: host, HH: host to host, jit: gaps between its packets, HpHp: with ports."""
_DAY_S = 86_400.0
_HIGH = {"seconds": _DAY_S, "seconds^2": _DAY_S**2}


def _feature(stream: str, span: str, statistic: str, unit: str) -> Feature:
    name = f"{stream}_L{span}_{statistic}"
    high = _HIGH.get(unit, float("inf"))
    return Feature(name, (name,), unit, "raw" if statistic == "pcc" else "log", high=high)


_ATTACKS = {
    "gafgyt": ("combo", "junk", "scan", "tcp", "udp"),
    "mirai": ("ack", "scan", "syn", "udp", "udpplain"),
}
_NAMED = [f"{bot}-{kind}" for bot, kinds in _ATTACKS.items() for kind in kinds]

MAPPING = Mapping(
    version=1,
    features=tuple(
        _feature(stream, span, statistic, unit)
        for stream, statistics in _STREAMS.items()
        for span in _LAMBDAS
        for statistic, unit in statistics.items()
    ),
    classes=("benign", *_NAMED, "attack"),
    labels={name: name for name in ("benign", *_NAMED, "attack")},
    order="the order of the rows; the files have no times",
    groups="device and file",
    twice="keep",
    notes=(
        "Known layouts: `DEVICE/gafgyt_attacks/tcp.csv`, `DEVICE.gafgyt.tcp.csv`,"
        " `1.mirai.ack.csv`, `DEVICE/benign_traffic.csv`.",
        "Without the time in the jitter most rows of a flood are equal: of 101,536 of Ennio's TCP"
        " flood 99 are different. Published figures use the jitter as it is.",
        "`attack` is an attack of which the file does not say the kind.",
    ),
)

_WHOLE = 7_062_606
_KIND = re.compile(
    r"(gafgyt|mirai)(?:_attacks)?[./_ -]+(combo|junk|scan|tcp|udpplain|udp|ack|syn)(?![a-z])"
)


def told_by(path: Path) -> tuple[str, str]:
    """Return device and class of a file by its name and folders. Raises InputError where they say
    neither a bot's attack nor benign.
    """
    name, folder = path.name.lower(), path.parent.name.lower()
    kind = _KIND.search(f"{folder}/{name}") or _KIND.search(name)
    if "benign" in name:
        what = "benign"
    elif kind is not None:
        what = f"{kind[1]}-{kind[2]}"
    elif "attack" in name or "malicious" in name:
        what = "attack"
    else:
        raise InputError(
            f"{path.name} does not say what it holds: name it like DEVICE.gafgyt.tcp.csv or"
            " DEVICE.benign.csv"
        )
    if what != "attack" and what not in MAPPING.classes:
        raise InputError(f"{path.name} names {what}, which N-BaIoT does not have: rename the file")
    if folder.endswith("_attacks"):
        return path.parent.parent.name, what
    if re.match(r"(benign(_traffic)?|gafgyt|mirai)\b", name):
        return path.parent.name, what
    return path.name.partition(".")[0], what


def _sniff(path: Path) -> bool:
    lines = head_of(path)
    return len(lines) > 1 and lines[0].lower().startswith("mi_dir_l5_weight")


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    tables = [table_of(path) for path in paths]
    told = [told_by(path) for path in paths]
    features = present(MAPPING, tables, writer, echo)
    writer.begin([f.name for f in features])
    for table, (device, what) in zip(tables, told, strict=True):
        group = writer.group(f"{device}/{what}")
        for frame in pieces(table, limit, writer):
            add_frame(writer, MAPPING, features, frame, table, group, label=[what] * len(frame))
    whole = writer.counts.get("rows read", 0) == _WHOLE
    devices = len({device for device, _ in told})
    why = (
        ""
        if whole
        else f"Only {len(paths)} files of {devices} of the nine devices' 89 files are at hand."
    )
    return Nature(True, whole, why)


READER = Reader("nbaiot", "N-BaIoT", MAPPING, _read, _sniff, "Meidan and others 2018")
