"""What a bundle learns from: real captures, simulated homes, and the one put into the other.

Real captures hold few kinds of attacks, simulated benign traffic is too clean. So simulated
attacks are grafted into real devices' lives, and, so that a model does not learn that foreign
traffic is malice, benign traffic of other homes is grafted the same way and stays benign.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardian.deviceclass import COMPUTER, PHONE, THING
from guardian.simulate import Scenario, simulate, training_homes
from guardian.simulate.build import build
from guardian.tables import Array, Bool
from trainer import catalogue
from trainer.catalogue import Source
from trainer.labels import CLASSES
from trainer.rows import Rows, gather
from trainer.sets import guardiandb
from trainer.streams import WINDOW, Stream, graft, read

Echo = Callable[[str], None]

HELD_OUT_SEED = 1_000_003
"""Added to the seed: the simulated homes that calibrate are none of those that teach."""


@dataclass(frozen=True)
class Recipe:
    """How much of what."""

    homes: int = 96
    held_out_homes: int = 14
    grafts: int = 170
    placebos: int = 120
    limit: int = 160
    """Sequences of an instance at most."""
    real_limit: int = 1_200
    """The same where the traffic is real: there is less of it."""
    longest_h: float = 30.0
    """Longer simulated homes are cut here, to keep the evening short."""
    epochs: int = 3
    """Of the classifier: more made it surer and no better on networks left out."""
    autoencoder_epochs: int = 10
    classifier: str = "views"
    """Name in the zoo (trainer/zoo/family.py)."""
    evened: bool = False
    """Whether origins count more alike in the classifier's fit (Rows.evened)."""
    smoothing: float = 0.05
    """Label smoothing: a model that is never quite sure ranks unseen homes better."""
    window: int = WINDOW
    seed: int = 1


QUICK = Recipe(homes=6, held_out_homes=3, grafts=6, placebos=4, limit=150, real_limit=200, epochs=3,
               autoencoder_epochs=3,
               longest_h=4.0)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What a fit works on."""

    train: Rows
    held_out: Rows
    """Captures and homes that teach nothing: thresholds and the choice of a form rest on them."""
    sources: tuple[dict[str, object], ...]
    """What was used: name, digest, licence, rows, used for."""


@dataclass(frozen=True)
class _Guest:
    """Slices of one device that may be put into another device's life."""

    group: str
    stream: Stream
    device: int


def prepare(
    data: Path | None,
    inputs: list[Path],
    recipe: Recipe,
    echo: Echo,
    lan: tuple[str, ...] = (),
) -> Material:
    """Return the material of a recipe; `inputs` are the user's own captures and logs of `lan`.

    An input without labels is taken for quiet days; the last third of quiet days calibrates.
    Raises InputError for what cannot be read.
    """
    builder = _Builder(recipe, echo)
    if data is not None:
        for use in ("train", "calibrate"):
            for source in catalogue.of(use):
                for path, stream in catalogue.streams(source, data):
                    builder.real(source, path, stream)
    for path in inputs:
        builder.own(path, lan)
    builder.simulated(recipe.homes, recipe.seed, "train")
    builder.simulated(recipe.held_out_homes, recipe.seed + HELD_OUT_SEED, "calibrate")
    return builder.material()


def held_out(data: Path, recipe: Recipe, homes: int, echo: Echo) -> Rows:
    """Return what a recipe's thresholds rest on, with so many simulated homes: the recipe's own
    and more of the same seed, none of which taught.

    Raises InputError for what cannot be read.
    """
    builder = _Builder(recipe, echo)
    for source in catalogue.of("calibrate"):
        for path, stream in catalogue.streams(source, data):
            builder.real(source, path, stream)
    builder.simulated(homes, recipe.seed + HELD_OUT_SEED, "calibrate")
    return builder.held_out()


class _Builder:
    """Gathers rows source by source, so that no more than one capture is in memory."""

    def __init__(self, recipe: Recipe, echo: Echo) -> None:
        self._recipe = recipe
        self._echo = echo
        self._rng = np.random.default_rng(recipe.seed)
        self._parts: dict[str, list[Rows]] = {"train": [], "calibrate": []}
        self._sources: list[dict[str, object]] = []
        self._hosts: list[_Guest] = []
        self._attacks: list[_Guest] = []
        self._begun = time.monotonic()

    def real(self, source: Source, path: Path, stream: Stream) -> None:
        """Take a capture; what it holds of benign devices also hosts grafts when it teaches."""
        use, group, name = source.use, source.group, source.name
        # The hour of a lone capture is chance; a model must not learn it.
        offset = int(self._rng.integers(0, 24)) * 3_600 if use == "train" else 0
        stream = replace(stream, utc_offset_s=offset)
        rows = self._gather(use, [(group, name, stream, None)], self._recipe.real_limit)
        self._note(name, source.licence, digest(path), rows, use)
        if use == "train":
            self._hosts += _guests(group, stream, stream.label == 0, 60)

    def own(self, path: Path, lan: tuple[str, ...]) -> None:
        """Take an input of the user's: a capture, a log, or the daemon's database, whose labels
        are the user's feedback.
        """
        known = guardiandb.READER.sniff(path) if path.is_file() else False
        stream = guardiandb.stream_of(path) if known else read(path, lan=lan)
        quiet = bool((stream.label <= 0).all())
        if bool((stream.label < 0).all()) and not known:
            stream = replace(stream, label=np.zeros(len(stream), dtype=np.int8))
            self._echo(f"{path.name} has no labels: taken for quiet days, all of it benign")
        late = np.arange(len(stream)) >= len(stream) * 2 // 3
        name = path.name
        for use, wanted in (("train", ~late), ("calibrate", late)) if quiet else (("train", None),):
            rows = self._gather(use, [("own", name, stream, wanted)], 4 * self._recipe.real_limit)
            self._note(name, "your own", digest(path), rows, use)
        hosts = (stream.label == 0) & ~late if quiet else stream.label == 0
        self._hosts += _guests("own", stream, hosts, 60)

    def simulated(self, count: int, seed: int, use: str) -> None:
        """Simulate homes and take them in; attacks of teaching homes become guests."""
        total = 0
        with tempfile.TemporaryDirectory() as folder:
            for number, whole in enumerate(training_homes(count, seed), 1):
                path = Path(folder) / "home.pcap"
                scenario = _shorter(whole, self._recipe.longest_h)
                simulate(scenario, path)
                stream = thin(read(path, classes=classes_of(scenario)))
                stream = replace(stream, utc_offset_s=int(scenario.utc_offset_h * 3_600))
                found = self._gather(
                    use, [("simulated", scenario.name, stream, None)], self._recipe.limit
                )
                total += len(found)
                if use == "train":
                    self._attacks += _guests("simulated", stream, stream.label > 0, 1)
                    self._hosts += _guests("simulated", stream, stream.label == 0, 60)[:2]
                self._tell(f"simulated homes to {use}", number, count)
        self._sources.append(
            {
                "name": f"simulated homes ({count})",
                "sha256": None,
                "licence": "made by guardian.simulate",
                "rows": total,
                "used_for": use,
            }
        )

    def held_out(self) -> Rows:
        return join(self._parts["calibrate"])

    def material(self) -> Material:
        self._grafts(self._recipe.grafts, self._attacks, "graft")
        placebos = [h for h in self._hosts if len(h.stream) >= 60]
        self._grafts(self._recipe.placebos, placebos, "placebo")
        joined = {use: join(parts) for use, parts in self._parts.items()}
        return Material(joined["train"], joined["calibrate"], tuple(self._sources))

    def _grafts(self, count: int, guests: list[_Guest], kind: str) -> None:
        total = 0
        for number in range(1, count + 1):
            if not guests or not self._hosts:
                break
            guest = guests[int(self._rng.integers(len(guests)))]
            # Real hosts first: there are fewer of them, and they are what a home looks like.
            real = [h for h in self._hosts if h.group != "simulated"]
            pool = real if real and self._rng.random() < 0.75 else self._hosts
            host = pool[int(self._rng.integers(len(pool)))]
            if host.stream is guest.stream:
                continue
            stream, wanted = self._insert(host, guest, kind)
            group = "+".join(sorted({host.group, guest.group}))
            rows = self._gather("train", [(group, kind, stream, wanted)], self._recipe.limit)
            total += len(rows)
            self._tell(f"{kind}s", number, count)
        self._sources.append(
            {
                "name": {"graft": "simulated attacks in real devices' traffic",
                         "placebo": "benign traffic of other homes, put in the same way"}[kind],
                "sha256": None,
                "licence": "made from the sources above",
                "rows": total,
                "used_for": "train",
            }
        )  # fmt: skip

    def _insert(self, host: _Guest, guest: _Guest, kind: str) -> tuple[Stream, Bool]:
        """Return the host's stream with the guest in it, and which slices are wanted."""
        part = guest.stream
        if kind == "placebo":  # a stretch of it, as an update or a new app would be
            size = int(self._rng.integers(30, 200))
            begin = int(self._rng.integers(0, max(1, len(part) - size)))
            part = part.take(slice(begin, begin + size))
        told = host.stream.slices.told
        share = self._rng.uniform(0.1, 0.9)
        start = int(told[0] + share * (told[-1] - told[0]))
        delta = start - int(part.slices.told[0])
        stream = graft(host.stream, host.device, part, guest.device, delta)
        end = int(part.slices.told[-1]) + delta + 600 * 10**9
        wanted = (stream.slices.told >= start) & (stream.slices.told <= end)
        wanted &= (stream.orig_device == host.device) | (stream.resp_device == host.device)
        offset = int(self._rng.integers(0, 24)) * 3_600
        return replace(stream, utc_offset_s=offset), wanted

    def _gather(
        self, use: str, streams: list[tuple[str, str, Stream, Array | None]], limit: int
    ) -> Rows:
        seed = int(self._rng.integers(1 << 31))
        rows = gather(streams, limit, seed, self._recipe.window)
        if len(rows):
            self._parts[use].append(rows)
        return rows

    def _note(self, name: str, licence: str, sha256: str, rows: Rows, use: str) -> None:
        self._sources.append(
            {"name": name, "sha256": sha256, "licence": licence, "rows": len(rows), "used_for": use}
        )
        self._echo(f"{name}: {len(rows):,} sequences to {use}")

    def _tell(self, what: str, number: int, count: int) -> None:
        if number % max(1, count // 8) and number != count:
            return
        spent = time.monotonic() - self._begun
        self._echo(f"{what}: {number} of {count}, {spent:.0f} s so far")


def _guests(group: str, stream: Stream, hit: Bool, least: int) -> list[_Guest]:
    """Return the devices that originate at least `least` of the slices hit, with those alone."""
    out = []
    devices, counts = np.unique(
        stream.orig_device[hit & (stream.orig_device >= 0)], return_counts=True
    )
    for device, count in sorted(
        zip(devices.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]
    ):
        if count < least:
            continue
        mine = hit & ((stream.orig_device == device) | (stream.resp_device == device))
        index = np.flatnonzero(mine)[:LONGEST_GUEST]
        out.append(_Guest(group, stream.take(index), device))
    return out


LONGEST_GUEST = 6_000
"""Slices of a guest or host at most: a flood has a hundred thousand that say the same."""


def thin(stream: Stream) -> Stream:
    """Return a stream in which each device's flood ends after LONGEST_GUEST slices: a hundred
    thousand more say the same and only take time.
    """
    flood = stream.label == CLASSES.index("flood")
    keep = ~flood
    for device in np.unique(stream.orig_device[flood]).tolist():
        keep[np.flatnonzero(flood & (stream.orig_device == device))[:LONGEST_GUEST]] = True
    return stream.take(keep)


def join(parts: list[Rows]) -> Rows:
    """Return rows of several parts as one."""
    names: tuple[tuple[str, str], ...] = ()
    kinds: tuple[str, ...] = ()
    instances = []
    for part in parts:
        instances.append(part.instance + len(names))
        names += part.names
        kinds += part.kinds or ("",) * len(part.names)
    return Rows(
        np.concatenate([p.x for p in parts]),
        np.concatenate([p.length for p in parts]),
        np.concatenate([p.label for p in parts]),
        np.concatenate(instances),
        np.concatenate([p.clean for p in parts]),
        names,
        kinds,
    )


def classes_of(scenario: Scenario) -> dict[str, str]:
    """Return the class of a simulated home's devices by MAC: who does desk work is a computer."""
    at_desk = {event.device for event in scenario.infections if event.kind == "desk-work"}
    return {
        host.mac.hex(":"): COMPUTER if name in at_desk else PHONE if host.kind == "phone" else THING
        for name, host in build(scenario)[0].hosts.items()
    }


def _shorter(scenario: Scenario, hours: float) -> Scenario:
    """Return a home of at most so many hours; infections that begin later move into them."""
    if scenario.hours <= hours:
        return scenario
    share = hours / scenario.hours
    return replace(
        scenario,
        hours=hours,
        devices=tuple(
            replace(
                d,
                joins=None if d.joins is None else d.joins * share,
                update_at=None if d.update_at is None else d.update_at * share,
            )
            for d in scenario.devices
        ),
        infections=tuple(replace(i, at=i.at * share) for i in scenario.infections),
    )


def digest(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
