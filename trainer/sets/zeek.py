"""Connection logs: Zeek's conn.log as TSV or JSON, labelled or not, and IoT-23 as CSV.

One row a connection, with what its line says; `pcap` instead gives the gateway's own features of
logs, too. Read by guardian.zeeklog, which skips and counts rows that are cut or make no sense.
Repeated rows are kept: a beacon repeats. Rows that nobody labelled stay, as -1, since they belong
to the sequence of their host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from guardian import capture, zeeklog
from guardian.addresses import Lan, pack, text
from guardian.const import NS
from guardian.errors import InputError
from guardian.tables import CONN_STATES, F64, Array, Conns
from guardian.zeeklog import LogBatch
from trainer.labels import CLASSES, DROP, RELABEL, codes, to_class
from trainer.labels import MAPPING as LABELS
from trainer.sets.known import source_of
from trainer.sets.mapping import Feature, Mapping, one_of
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.writer import Nature, Writer

_AMOUNTS = {
    "duration": "seconds",
    "orig_bytes": "bytes",
    "resp_bytes": "bytes",
    "orig_pkts": "packets",
    "resp_pkts": "packets",
    "orig_ip_bytes": "bytes",
    "resp_ip_bytes": "bytes",
    "missed_bytes": "bytes",
}
_PROTOS = {"tcp": (6,), "udp": (17,), "icmp": (1, 58)}
_SERVICES = ("dns", "http", "ssl", "ssh", "dhcp", "ftp", "smtp", "irc")
_LETTERS = "ShADFRTadfrt"
"""Of history: who opened, sent, closed and repeated; capitals are the originator's."""

MAPPING = Mapping(
    version=1,
    features=(
        *(Feature(name, (name,), unit, "log") for name, unit in _AMOUNTS.items()),
        *(one_of(f"proto_{name}", "proto", name) for name in _PROTOS),
        *(one_of(f"state_{name}", "conn_state", name.lower()) for name in CONN_STATES),
        *(one_of(f"service_{name}", "service", name) for name in _SERVICES),
        *(one_of(f"history_{c}", "history", f"with {c}") for c in _LETTERS),
        Feature("outbound", ("local_orig",), "flag"),
        Feature("inside", ("local_orig", "local_resp"), "flag"),
        Feature("gap", ("ts",), "seconds since the host's previous connection", "log"),
    ),
    classes=CLASSES,
    labels=LABELS,
    label_columns=("detailed-label", "label"),
    dropped={
        "uid": "a name",
        "id.orig_h": "an address: a model would learn the network; it makes the groups",
        "id.resp_h": "an address",
        "id.orig_p": "chosen by chance",
        "id.resp_p": "the C&C server of each capture has its own port: it tells the label",
        "ts": "attacks have their hours; it orders the rows and gives `gap`",
        "tunnel_parents": "names",
        "ip_proto": "said by proto",
    },
    order="ts, the first packet",
    groups="capture and host of the home (the originator where it is local, else the responder)",
    twice="keep",
    notes=(
        "Classes and labels are those of trainer/labels.py, which every bundle is trained with."
        " There, too, wrong labels of known captures are put right: "
        + "; ".join(f"{a}:{p} in {stem} is {name}" for (stem, a, p), name in RELABEL.items())
        + ".",
        "Rows with the label Background, or without one, are kept unlabelled.",
        "Logs that are in the trainer's catalogue but carry no labels get those of the catalogue.",
    ),
)


def _sniff(path: Path) -> bool:
    try:
        if capture.sniff(path) != "log":
            return False
        rows = zeeklog.read(path)
        try:
            next(rows, None)
        finally:
            rows.close()  # type: ignore[attr-defined]
    except InputError:
        return False
    return True


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    writer.begin([f.name for f in MAPPING.features], gap="gap")
    for path, name in zip(paths, group_names(paths), strict=True):
        known = source_of(path)
        home = Lan(known.lan) if known else Lan()
        left = limit
        for batch in _batches(path, home, writer, echo):
            conns = batch.conns.take(slice(0, left))
            writer.count("rows read", len(conns) + batch.skipped)
            writer.count("dropped: cut or no sense", batch.skipped)
            if known and known.judge:
                said = codes(known.judge(conns))
            else:
                said = labels(path, conns, batch.label, batch.detailed)
            writer.count("rows unlabelled", np.count_nonzero(said < 0))
            writer.add(_values(conns), said, _groups(conns, name, writer), conns.ts / NS)
            left = None if left is None else left - len(conns)
            if left is not None and left <= 0:
                break
    return Nature(
        True, False, "Published figures are of other captures and of rows dealt out by chance."
    )


def _batches(path: Path, home: Lan, writer: Writer, echo: Echo) -> Iterator[LogBatch]:
    """Yield what can be read of a log; damage after the first rows is counted and told."""
    begun = False
    try:
        for batch in zeeklog.read(path, home):
            begun = True
            yield batch
    except InputError as error:
        if not begun:
            raise
        writer.count("files cut", 1)
        echo(str(error))


def labels(path: Path, conns: Conns, label: Sequence[str], detailed: Sequence[str]) -> Array:
    """Return int8[n]: the class of each record by its labels, -1 where nobody said."""
    both = list(zip(label, detailed, strict=False))[: len(conns)]
    found = {pair: to_class(*pair) if any(pair) else DROP for pair in set(both)}
    said = codes(found[pair] for pair in both)
    for (stem, address, port), name in RELABEL.items():
        if path.name.startswith(stem) or stem.replace("CTU-", "CTU-IoT-") in path.name:
            hit = (conns.resp == np.array(pack(address), dtype=np.uint64)).all(axis=1)
            said[hit & (conns.resp_p == port) & (conns.proto == 6)] = CLASSES.index(name)
    return said


def _values(conns: Conns) -> F64:
    """Return float64[n, F] in the order of the mapping; `gap` is filled in by the Writer."""
    services, place = np.unique(conns.service, return_inverse=True)
    words = [set(service.decode("ascii", "replace").split(",")) for service in services]
    history = np.ascontiguousarray(conns.history).view(np.uint8).reshape(len(conns), -1)
    columns = [np.log1p(np.maximum(getattr(conns, name), 0)) for name in _AMOUNTS]
    columns += [np.isin(conns.proto, numbers) for numbers in _PROTOS.values()]
    columns += [conns.conn_state == k for k in range(len(CONN_STATES))]
    columns += [np.array([name in w for w in words], dtype=bool)[place] for name in _SERVICES]
    columns += [(history == ord(c)).any(axis=1) for c in _LETTERS]
    columns += [conns.local_orig, conns.local_orig & conns.local_resp, np.zeros(len(conns))]
    return np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)


def _groups(conns: Conns, name: str, writer: Writer) -> Array:
    """Return int32[n]: the group of each record's host of the home."""
    host = np.where((conns.local_orig | ~conns.local_resp)[:, None], conns.orig, conns.resp)
    found, place = np.unique(host, axis=0, return_inverse=True)
    numbers = [writer.group(f"{name}/{text(*pair)}") for pair in found.tolist()]
    return np.array(numbers, dtype=np.int32)[place.ravel()]


READER = Reader(
    "zeek", "Connection logs of Zeek, IoT-23", MAPPING, _read, _sniff,
    "Garcia, Parmisano, Erquiaga 2020 (IoT-23)",
)  # fmt: skip
