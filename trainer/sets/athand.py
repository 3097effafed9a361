"""The sets of the project's data folder, each with its reader and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AtHand:
    """A set that can be asked for by name, with the data folder as its path."""

    name: str
    reader: str
    patterns: tuple[str, ...]
    """Globs below the data folder."""
    why: str = ""
    """What is said of the files as they lie there, beside what the reader says."""
    ordered: bool = True
    """False where the files' rows are no sequence, whatever the reader makes of them."""

    def files(self, data: Path) -> list[Path]:
        """Return its files, sorted; none where the folder lacks them."""
        return sorted(path for pattern in self.patterns for path in data.glob(pattern))


_IOT23 = ("iot23/*-labeled.csv",)
_STRATOSPHERE = (
    "stratosphere/001-*/labeled-conn.log",
    "stratosphere/002-*/conn.log.gz",
    "stratosphere/*-mixed/data/conn.log.labeled.gz",
)

_IOT23_WHY = (
    "Six of the 23 captures are at hand; benign rows of the malware captures are the infected"
    " Pi's own, and all 8,222 malicious rows of 8-1 are one SYN to one port."
)
_STRATOSPHERE_WHY = (
    "Hosts are Windows PCs with public addresses, and most malicious rows are scans from the"
    " Internet."
)
_MQTTSET_WHY = (
    "Benign are seven long connections of simulated sensors in nine minutes, and each attack has"
    " its own capture."
)

SETS: dict[str, AtHand] = {
    entry.name: entry
    for entry in (
        AtHand("iot23", "zeek", _IOT23, _IOT23_WHY),
        AtHand("iot23-gateway", "pcap", _IOT23, _IOT23_WHY),
        AtHand("stratosphere", "zeek", _STRATOSPHERE, _STRATOSPHERE_WHY),
        AtHand("stratosphere-gateway", "pcap", _STRATOSPHERE, _STRATOSPHERE_WHY),
        AtHand("nbaiot", "nbaiot", ("nbaiot/*.zip", "nbaiot/sample.*.csv")),
        AtHand("cicids2017", "cic", ("cicids2017/*_*.csv.gz",)),
        AtHand("unswnb15", "unsw", ("unswnb15/unsw-nb15_1_sampled.csv.gz",)),
        AtHand("unswnb15-10k", "unsw", ("unswnb15/unsw-nb15_training_10K.csv.gz",)),
        AtHand("iotid20", "iotid20", ("iotid20/*.csv.gz",)),
        AtHand("nslkdd", "nslkdd", ("nslkdd/*.txt.gz",)),
        AtHand("homes", "pcap", (
            "smart-home-pcaps/one-week-2021/*.pcap", "smart-home-pcaps/*-2019/*.pcap",
            "smart-home-pcaps/tplink-plug-2018/*.pcap",
        )),
        AtHand("mqttset", "pcap", ("mqttset/*.pcap", "mqttset/*.pcapng"), _MQTTSET_WHY),
        AtHand("hai", "hai", ("hai*/**/*.csv", "hai*/**/*.npz")),
    )
}  # fmt: skip
