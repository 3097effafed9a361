"""Captures and logs as labelled streams of slices, and streams as labelled sequences.

A stream is what the gateway would have seen of one capture: its slices in the order they were
told, the home device on either side, and a class for each. All that follows (features, sequences)
is the gateway's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from guardian import capture, slices, zeeklog
from guardian import simulate as simulated
from guardian.addresses import PRIVATE, Lan, pack
from guardian.conns import ConnTable
from guardian.const import ROWS_PER_CHUNK
from guardian.decode import Decoder
from guardian.deviceclass import THING
from guardian.devices import DeviceTable
from guardian.errors import InputError
from guardian.features import NAMES, FeatureExtractor
from guardian.sequences import SequenceTable
from guardian.tables import I32, I64, Array, Conns, Sequences
from trainer.labels import CLASSES, DROP, RELABEL, codes, to_class

WINDOW = 12
"""T: the study's length; longer was not measured."""

Judge = Callable[[Conns], list[str]]
"""Says the class (or DROP) of each slice of a capture that carries no labels."""


@dataclass(frozen=True)
class Stream:
    """Slices of one capture with what is known of them; all arrays have n rows."""

    name: str
    slices: Conns
    orig_device: I32
    resp_device: I32
    """Device at home on either side, -1 where none."""
    label: Array
    """int8[n]: index into CLASSES, -1 where nobody said."""
    lan: tuple[str, ...] = ()
    utc_offset_s: int = 0
    kinds: Mapping[int, str] = field(default_factory=dict)
    """Class of each device, of guardian.deviceclass.CLASSES; without one nobody said."""

    def __len__(self) -> int:
        return len(self.slices)

    def take(self, index: Array | slice) -> Stream:
        return replace(
            self,
            slices=self.slices.take(index),
            orig_device=self.orig_device[index],
            resp_device=self.resp_device[index],
            label=self.label[index],
        )


def read(
    path: Path,
    *,
    lan: tuple[str, ...] = (),
    judge: Judge | None = None,
    classes: Mapping[str, str] | None = None,
) -> Stream:
    """Read a capture or log with its labels: from its own columns, from `judge`, or from the
    simulator's .labels.csv beside a capture. Without any, every label is unknown.

    `classes` has the class of device by its key, "" of all others; where not given it is what
    the gateway sees. Raises InputError where the file cannot be read or has a label without a
    class.
    """
    stream, devices = _log(path, lan) if capture.sniff(path) == "log" else _capture(path, lan)
    stream = replace(stream, kinds=kinds_of(devices, classes))
    if judge is not None:
        stream = replace(stream, label=codes(judge(stream.slices)))
    return stream


def kinds_of(devices: DeviceTable, classes: Mapping[str, str] | None) -> dict[int, str]:
    """Return the class of each device by its index, as somebody said or as the gateway sees it."""
    if classes is None:
        return {device.index: device.kind for device in devices.devices()}
    rest = classes.get("", THING)
    return {device.index: classes.get(device.key, rest) for device in devices.devices()}


def benign(conns: Conns) -> list[str]:
    """The judge of a capture in which nothing is malicious."""
    return ["benign"] * len(conns)


def malicious(name: str, *, orig: str = "", resp: str = "", resp_p: int | None = None) -> Judge:
    """Return a judge that gives a class to connections with these ends and drops the others,
    since a capture made around an attack does not say what the rest is.
    """

    def judge(conns: Conns) -> list[str]:
        hit = np.ones(len(conns), dtype=np.bool_)
        if orig:
            hit &= (conns.orig == np.array(pack(orig), dtype=np.uint64)).all(axis=1)
        if resp:
            hit &= (conns.resp == np.array(pack(resp), dtype=np.uint64)).all(axis=1)
        if resp_p is not None:
            hit &= conns.resp_p == resp_p
        return [name if h else DROP for h in hit.tolist()]

    return judge


def _log(path: Path, lan: tuple[str, ...]) -> tuple[Stream, DeviceTable]:
    home = Lan(lan)
    batches = list(zeeklog.read(path, home))
    records = Conns.concat([b.conns for b in batches])
    classes = [
        to_class(label, detailed)
        for b in batches
        for label, detailed in zip(b.label, b.detailed, strict=True)
    ]
    label = codes(classes)
    for (stem, address, port), name in RELABEL.items():
        if path.name.startswith(stem):
            hit = (records.resp == np.array(pack(address), dtype=np.uint64)).all(axis=1)
            label[hit & (records.resp_p == port) & (records.proto == 6)] = CLASSES.index(name)
    devices = DeviceTable(home)
    devices.learn_from_conns(records)
    pieces, parent = slices.cut(records)
    orig, resp = devices.sides(pieces)
    return Stream(path.name, pieces, orig, resp, label[parent], lan), devices


def _capture(path: Path, lan: tuple[str, ...]) -> tuple[Stream, DeviceTable]:
    devices = DeviceTable(Lan(lan))
    pieces, orig, resp = slices_of(path, Lan(lan), devices)
    marks = simulated.labels_path(path)
    label = np.full(len(pieces), -1, dtype=np.int8)
    if marks.exists():
        label = codes(
            name or DROP for name in simulated.match(pieces, simulated.read_labels(marks))
        )
    return Stream(path.name, pieces, orig, resp, label, lan), devices


def slices_of(path: Path, home: Lan, devices: DeviceTable) -> tuple[Conns, I32, I32]:
    """Return the slices of a capture and their devices, as the gateway would have them; the table
    of devices learns from it.

    Captures made on a sending host have wrong checksums, so these are not judged. A capture that
    is cut off gives what came before the cut.
    """
    table = ConnTable(home)
    decoder = Decoder(ignore_checksums=True)
    parts: list[tuple[Conns, I32, I32]] = []

    def add(pieces: Conns) -> None:
        if len(pieces):
            parts.append((pieces, *devices.sides(pieces)))

    try:
        for frames in capture.read_frames(path):
            decoded = decoder.decode(frames)
            devices.step(decoded)
            add(table.step(decoded).slices)
    except InputError:
        if not parts:
            raise
    add(table.finish().slices)
    blank = np.zeros(0, dtype=np.int32)
    return (
        Conns.concat([p[0] for p in parts]),
        np.concatenate([blank, *(p[1] for p in parts)]),
        np.concatenate([blank, *(p[2] for p in parts)]),
    )


def lan_with(*cidrs: str) -> tuple[str, ...]:
    """Return the private ranges and some more."""
    return (*cidrs, *PRIVATE)


@dataclass(frozen=True)
class Chunk:
    """Some sequences of a stream, with what they are about."""

    sequences: Sequences
    label: Array
    """int8[m]"""
    at: I64
    """int64[m]: index of the slice in the stream."""


def sequences(stream: Stream, window: int = WINDOW) -> Iterator[Chunk]:
    """Yield the sequences of a stream, a bounded number at a time."""
    extractor = FeatureExtractor(Lan(stream.lan), utc_offset_s=stream.utc_offset_s)
    table = SequenceTable(window, len(NAMES))
    for k in range(0, len(stream), ROWS_PER_CHUNK):
        part = stream.take(slice(k, k + ROWS_PER_CHUNK))
        rows = extractor.step(part.slices, part.orig_device, part.resp_device)
        found = table.step(rows)
        if len(found):
            yield Chunk(found, part.label[found.row], found.row + k)


def graft(host: Stream, device: int, guest: Stream, guest_device: int, delta: int) -> Stream:
    """Return host with the guest's slices of one device put into one of its own devices' life.

    `delta` (ns) is added to the guest's times. Only slices of guest_device come along; on its
    side they belong to `device`, the other side is no device of this home.
    """
    mine = guest.orig_device == guest_device
    keep = mine | (guest.resp_device == guest_device)
    part = guest.take(keep)
    mine = mine[keep]
    uid = np.array([b"g" + u for u in part.slices.uid.tolist()], dtype=part.slices.uid.dtype)
    moved = replace(part.slices, uid=uid, ts=part.slices.ts + delta, told=part.slices.told + delta)
    both = Conns.concat([host.slices, moved])
    order = np.lexsort((both.uid, both.told))
    none = np.int32(-1)
    return replace(
        host,
        slices=both.take(order),
        orig_device=np.concatenate([host.orig_device, np.where(mine, device, none)])[order].astype(
            np.int32
        ),
        resp_device=np.concatenate([host.resp_device, np.where(mine, none, device)])[order].astype(
            np.int32
        ),
        label=np.concatenate([host.label, part.label])[order],
    )
