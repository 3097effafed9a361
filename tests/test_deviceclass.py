"""The class of a device: from what it shows, with little room for who lies; lines by class."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardian import bundle as bundles
from guardian import deviceclass
from guardian.addresses import Lan, mac_text
from guardian.alerts import AlertSettings, IncidentTable, Watch
from guardian.const import NS
from guardian.deviceclass import COMPUTER, PHONE, THING
from guardian.devices import Device, DeviceTable
from guardian.dhcp import fingerprint_of
from guardian.evidence import EvidenceSettings, class_line, device_line, log_odds, own_line
from guardian.featurelist import NAMES as FEATURES
from guardian.privacy import Privacy
from guardian.scoring import Scorer
from guardian.store import Store
from guardian.tables import F32
from tests import bundles as made
from tests.incident_rows import (
    CAMERA,
    LINE,
    MACS,
    START,
    S,
    beacon,
    calm,
    device_table,
    ruler,
    run,
    scan,
)
from tests.test_devices import P, decoded
from tests.test_kin import announces, asks, guardian, home, record, speaks, watch
from trainer import calibrate, card, classlines, recipe, rows, streams
from trainer.rows import Rows
from trainer.sets import guardiandb

MADE_UP, BOUGHT = 0x3E0000000001, 0x3C0000000001
IOS = bytes([1, 121, 3, 6, 15, 108, 114, 119, 252])
ANDROID = bytes([1, 3, 6, 15, 26, 28, 51, 58, 59, 43, 114, 108])
WINDOWS = bytes([1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252])
MACOS = bytes([1, 121, 3, 6, 15, 108, 114, 119, 252, 95, 44, 46])
LINUX = bytes([1, 2, 6, 12, 15, 26, 28, 121, 3, 33, 40, 41, 42, 119, 249, 252, 17])
UDHCP = bytes([1, 3, 6, 12, 15, 28, 42])


@pytest.mark.parametrize(
    ("mac", "wanted", "vendor", "names", "expected"),
    [
        (MADE_UP, IOS, b"", [], PHONE),
        (BOUGHT, IOS, b"", [], ""),  # a loudspeaker of the same maker asks so, too
        (BOUGHT, IOS, b"", ["Annas-iPhone"], PHONE),
        (MADE_UP, ANDROID, b"android-dhcp-14", [], PHONE),
        (BOUGHT, ANDROID, b"android-dhcp-9", ["living-room-tv"], ""),
        (MADE_UP, b"", b"", ["annas-phone"], PHONE),
        (BOUGHT, b"", b"", ["annas-phone"], ""),
        (BOUGHT, WINDOWS, b"MSFT 5.0", [], COMPUTER),
        (MADE_UP, WINDOWS, b"MSFT 5.0", ["DESKTOP-4F7K2QX"], COMPUTER),
        (BOUGHT, WINDOWS, b"MSFT 5.0 XBOX", [], ""),
        (BOUGHT, MACOS, b"", ["Annas-MacBook-Pro"], COMPUTER),
        (BOUGHT, MACOS, b"", ["Anna"], ""),
        (BOUGHT, LINUX, b"", ["raspberrypi"], ""),
        (BOUGHT, LINUX, b"", ["anna-thinkpad"], COMPUTER),
        (BOUGHT, UDHCP, b"udhcp 1.22.1", ["DCS-935L"], ""),
        (MADE_UP, b"", b"", [], ""),
        (MADE_UP, b"", b"", ["headphones", "graphonemix", "pixelated"], ""),
        # What says two things is neither.
        (MADE_UP, WINDOWS, b"MSFT 5.0", ["Annas-iPhone"], THING),
    ],
)
def test_it_takes_two_signs(
    mac: int, wanted: bytes, vendor: bytes, names: list[str], expected: str
) -> None:
    fingerprint = fingerprint_of(wanted, vendor) if wanted else ""
    assert deviceclass.shown(bool(mac >> 41 & 1), fingerprint, names) == expected
    assert deviceclass.class_of("", [mac], fingerprint, names) == expected
    assert deviceclass.stored([mac], fingerprint, names) == (expected or THING)


def test_the_table_learns_it_from_packets_and_keeps_it() -> None:
    table = home()
    table.step(decoded([asks(MADE_UP, 1, b"Annas-iPhone", IOS)]))
    index = table.index(mac_text(MADE_UP))
    assert table.kind(index) == PHONE == table.device(index).kind
    # Another way to ask and another name show less, but nothing else.
    table.step(decoded([asks(MADE_UP, 2, b"Anna", UDHCP)]))
    table.step(decoded([asks(MADE_UP, k + 3, f"n{k}".encode(), UDHCP) for k in range(20)]))
    assert table.kind(index) == PHONE
    assert "Annas-iPhone" not in table.device(index).heard
    assert table.kind(-1) == table.kind(4_000) == THING


def test_a_device_that_contradicts_itself_is_a_thing_for_good() -> None:
    table = home()
    seen: list[str] = []
    for k in range(30):
        wanted, kind = ((IOS, b""), (WINDOWS, b"MSFT 5.0"))[k % 2]
        name = (b"Annas-iPhone", b"DESKTOP-4F7K2QX")[k % 2]
        table.step(decoded([asks(MADE_UP, k, name, wanted, kind)]))
        seen.append(table.kind(table.index(mac_text(MADE_UP))))
    assert seen == [PHONE] + [THING] * 29


def test_what_a_device_does_is_no_sign() -> None:
    """Born infected: it scans many machines that answer, and asks for many names."""
    table = home()
    packets = [P(BOUGHT, "192.168.1.40", 0x3C0000000099, f"34.1.{k // 200}.{k % 200}", k / 100,
                 dport=443) for k in range(3_000)]  # fmt: skip
    table.step(decoded([speaks(BOUGHT, "192.168.1.40", 0), *packets]))
    assert table.kind(table.index(mac_text(BOUGHT))) == THING


def test_another_cannot_make_a_device_a_phone() -> None:
    table = home(speaks(MADE_UP, "192.168.1.31", 0), speaks(BOUGHT, "192.168.1.40", 0))
    for k in range(10):  # BOUGHT speaks for the address of MADE_UP
        said = announces(BOUGHT, "192.168.1.40", k, "Annas-iPhone", of="192.168.1.31")
        table.step(decoded([said]))
    assert table.kind(table.index(mac_text(MADE_UP))) == THING
    table.step(decoded([announces(MADE_UP, "192.168.1.31", 20, "Annas-iPhone")]))
    assert table.kind(table.index(mac_text(MADE_UP))) == PHONE


@pytest.mark.parametrize(("level", "wanted", "after"), [
    (0, UDHCP, PHONE), (0, IOS, PHONE), (1, IOS, PHONE), (1, UDHCP, THING),
])  # fmt: skip
def test_it_survives_a_restart_as_its_signs_do(
    level: int, wanted: bytes, after: str, tmp_path: Path
) -> None:
    """Above privacy level 0 no name is stored: a device shows it again within minutes."""
    with Store(tmp_path / "g.db", privacy=Privacy(level)) as store:
        table = home()
        table.step(decoded([asks(MADE_UP, 1, b"Annas-iPhone", wanted)]))
        assert table.kind(table.index(mac_text(MADE_UP))) == PHONE
        pipeline, _ = watch(store, table)
        record(store, pipeline)
        again = DeviceTable(Lan())
        again.load(store.devices())
        assert again.kind(again.index(mac_text(MADE_UP))) == after
        again.step(decoded([asks(MADE_UP, 9, b"Annas-iPhone", wanted)]))
        assert again.kind(again.index(mac_text(MADE_UP))) == PHONE


def test_it_is_shown_and_follows_a_link(tmp_path: Path) -> None:
    with Store(tmp_path / "g.db") as store:
        table = home(speaks(BOUGHT, "192.168.1.40", 0))
        table.step(decoded([asks(BOUGHT, 1, b"", WINDOWS, b"MSFT 5.0")]))
        table.step(decoded([asks(MADE_UP, 2, b"Annas-iPhone", IOS)]))
        pipeline, _ = watch(store, table)
        record(store, pipeline)
        found = {d["key"]: d["class"] for d in json.loads(guardian(store, "devices", "--json"))}
        assert found[mac_text(BOUGHT)] == COMPUTER
        assert found[mac_text(MADE_UP)] == PHONE
        assert set(found.values()) == {THING, PHONE, COMPUTER}
        said = guardian(store, "devices")
        assert "CLASS" in said
        assert "computer" in said
        assert table.link(mac_text(MADE_UP), mac_text(BOUGHT))
        assert table.kind(table.index(mac_text(BOUGHT))) == THING, "what was both is neither"


# --- lines ------------------------------------------------------------------------------


def table_of(
    kind: str, lines: dict[str, float], settings: AlertSettings | None = None
) -> IncidentTable:
    """Return incidents of a camera that shows itself as one of a class."""
    devices = device_table(30 * 86_400.0)
    signs = {
        THING: ("", ()),
        PHONE: (fingerprint_of(IOS, b""), ("Annas-iPhone",)),
        COMPUTER: (fingerprint_of(WINDOWS, b"MSFT 5.0"), ()),
    }[kind]
    known = [
        replace(d, fingerprint=signs[0], heard=signs[1]) if d.key == MACS[CAMERA] else d
        for d in devices.devices()
    ]
    devices = DeviceTable(Lan())
    devices.load(known)
    assert devices.kind(devices.index(MACS[CAMERA])) == kind
    settings = settings or AlertSettings(counters=False)
    return IncidentTable(replace(ruler(), class_lines=lines), devices, Lan(), settings)


def opened(table: IncidentTable, *parts: Sequence[S]) -> list[str]:
    return [e.incident.cause for part in parts for e in run(table, part) if e.change == "opened"]


BETWEEN, SURE = 0.86, 0.985
"""Over the bundle's line of LINE and under a computer's of .9; over what any claim can reach."""


@pytest.mark.parametrize(("kind", "found"), [(THING, True), (PHONE, True), (COMPUTER, False)])
def test_each_class_has_its_line(kind: str, found: bool) -> None:
    assert LINE < BETWEEN < 0.9
    lines = {COMPUTER: 0.9}
    assert bool(opened(table_of(kind, lines), calm(), beacon(600, threat=BETWEEN))) == found
    assert opened(table_of(kind, lines), calm(), scan(600, threat=SURE)) == ["scan"]
    assert opened(table_of(kind, {}), calm(), beacon(600, threat=BETWEEN)), "no lines, as before"


def test_what_others_do_to_a_computer_is_judged_by_the_bundles_line() -> None:
    flood = [replace(s, outbound=False, cause="flood") for s in beacon(600, threat=BETWEEN)]
    assert opened(table_of(COMPUTER, {COMPUTER: 0.9}), calm(), flood) == ["flood"]


def test_a_class_may_be_stricter() -> None:
    weak = [calm(), beacon(600, threat=0.7)]
    assert not opened(table_of(PHONE, {}), *weak)
    assert opened(table_of(PHONE, {PHONE: 0.6}), *weak) == ["c2"]
    assert not opened(table_of(THING, {PHONE: 0.6}), *weak)


def test_a_claim_gains_little_whatever_the_bundle_says() -> None:
    """A bundle that spares computers all: who says that it is one is found all the same, by rows
    that are surer than the bundle's line by so much."""
    most = log_odds(LINE) + EvidenceSettings().class_moves_most
    assert log_odds(BETWEEN) < most < log_odds(SURE)
    lines = {COMPUTER: 0.9999999}
    assert not opened(table_of(COMPUTER, lines), calm(), beacon(600, threat=BETWEEN))
    assert opened(table_of(COMPUTER, lines), calm(), beacon(600, threat=SURE)) == ["c2"]
    assert opened(table_of(COMPUTER, lines), scan(threat=SURE)) == ["scan"]


def test_class_and_past_together_raise_no_more_than_a_past_alone() -> None:
    most, line = EvidenceSettings().raise_most, log_odds(LINE)
    for own in np.linspace(-8, 8, 33).tolist():
        base = class_line(line, own, EvidenceSettings().class_moves_most)
        for high in (None, *np.linspace(-8, 8, 33).tolist()):
            with_class = device_line(line, base, high, most)
            alone = own_line(line, 8.0, most)
            assert with_class <= max(alone, base) + 1e-9
            assert with_class >= base
            assert device_line(line, line, high, most) == own_line(line, high, most)
            assert device_line(line, base, high, 0.0) == base, "no past where none is to count"


def test_a_device_that_turns_into_a_computer_meanwhile_is_judged_as_one_from_then_on() -> None:
    table = table_of(THING, {COMPUTER: 0.9})
    assert opened(table, calm(), beacon(600, 3, threat=BETWEEN)) == []
    index = table._devices.index(MACS[CAMERA])
    table._devices._rows[index].fingerprint = fingerprint_of(WINDOWS, b"MSFT 5.0")
    table._devices._rows[index].classify()
    assert opened(table, beacon(1_000, 60, threat=BETWEEN)) == []
    assert opened(table, beacon(9_000, 60, threat=SURE)) == ["c2"]


def test_what_the_user_called_bad_has_no_mild_line() -> None:
    table = table_of(COMPUTER, {COMPUTER: 0.9})
    until = int((START + 86_400) * NS)
    table.apply(Watch(MACS[CAMERA], "c2", until), int(START * NS))
    assert opened(table, calm(), beacon(600, threat=0.7)) == ["c2"]


# --- in a bundle ------------------------------------------------------------------------


def with_classes(folder: Path, classes: object) -> Path:
    path = folder / bundles.MANIFEST
    found = json.loads(path.read_text(encoding="utf-8"))
    found["thresholds"]["classes"] = classes
    path.write_text(json.dumps(found), encoding="utf-8")
    return folder


NAMES = ("gap", "size", "share")


def test_a_manifest_may_have_lines_by_class(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "b", names=NAMES, window=4)
    assert bundles.load(folder, NAMES).class_thresholds == {}
    loaded = bundles.load(with_classes(folder, {"computer": 0.95, "thing": 0.8}), NAMES)
    assert loaded.class_thresholds == {"computer": 0.95, "thing": 0.8}


@pytest.mark.parametrize("classes", [
    {"toaster": 0.7}, {"computer": 0}, {"computer": 1}, {"computer": "much"}, {"computer": None},
    {"phone": float("nan")}, {"phone": float("inf")}, {"phone": -1}, [0.7], 0.7, "computer", None,
])  # fmt: skip
def test_lines_that_are_none_are_refused(classes: object, tmp_path: Path) -> None:
    folder = with_classes(made.write(tmp_path / "b", names=NAMES, window=4), classes)
    with pytest.raises(bundles.BundleError, match="does not describe a bundle"):
        bundles.load(folder, NAMES)


# --- drawn ------------------------------------------------------------------------------


def held(devices: dict[str, list[tuple[str, float]]], size: int = 100) -> tuple[Rows, F32]:
    """Return rows of devices (group, highest threat) by class, and their threats."""
    every = [(kind, *one) for kind, some in devices.items() for one in some]
    instance = np.repeat(np.arange(len(every)), size)
    n = len(instance)
    threat = np.concatenate([np.linspace(0.0, top, size) for _, _, top in every])
    x = np.zeros((n, 1, len(FEATURES)), np.float32)
    found = Rows(
        x, np.ones(n, np.int32), np.zeros(n, np.int8), instance,
        np.ones(n, np.bool_), tuple((group, group) for _, group, _ in every),
        tuple(kind for kind, _, _ in every),
    )  # fmt: skip
    return found, threat.astype(np.float32)


def test_a_line_of_its_own_needs_devices_and_shrinks_towards_the_bundles() -> None:
    few = {COMPUTER: [("simulated", 0.95)] * 4, THING: [("simulated", 0.5)] * 20}
    assert classlines.drawn(*held(few), 0.6, 0.002) == {}
    lines = []
    for count in (5, 10, 100):
        some = {COMPUTER: [("simulated", 0.95)] * count, THING: [("simulated", 0.9)] * 20}
        found = classlines.drawn(*held(some), 0.6, 0.002)
        assert list(found) == [COMPUTER], "a thing takes the bundle's line"
        assert 0.94 < found[COMPUTER].own <= 0.951
        assert (found[COMPUTER].devices, found[COMPUTER].sequences) == (count, 100 * count)
        lines.append(found[COMPUTER].line)
    assert 0.6 < lines[0] < lines[1] < lines[2] < 0.951
    assert log_odds(lines[1]) == pytest.approx((log_odds(0.6) + log_odds(0.95)) / 2, abs=0.05)


def test_only_captures_make_a_class_stricter_and_attackers_say_nothing() -> None:
    simulated = {PHONE: [("simulated", 0.3)] * 20}
    assert classlines.drawn(*held(simulated), 0.6, 0.002) == {}
    real = {PHONE: [*simulated[PHONE], ("home", 0.2)]}
    found = classlines.drawn(*held(real), 0.6, 0.002)[PHONE]
    lively = {**simulated, COMPUTER: [("simulated", 0.9)] * 20}
    assert set(classlines.drawn(*held(lively), 0.6, 0.002)) == {COMPUTER}, "nobody real lends"
    lively[COMPUTER].append(("pcs", 0.95))
    both = classlines.drawn(*held(lively), 0.6, 0.002)
    assert 0.6 < both[PHONE].line < 0.95, "what phones and computers give together"
    assert (both[PHONE].devices, both[COMPUTER].devices) == (41, 21)
    calm = {**simulated, COMPUTER: [("pcs", 0.4)] * 20}
    assert set(classlines.drawn(*held(calm), 0.6, 0.002)) == {COMPUTER}, "a phone's is no stricter"
    assert found.own == calibrate.LEAST_THREAT < found.line < 0.6
    assert found.real == 100
    rows_, threat = held({COMPUTER: [("simulated", 0.99)] * 20})
    for changed in (
        replace(rows_, label=np.full(len(rows_), 2, np.int8)),
        replace(rows_, clean=np.zeros(len(rows_), np.bool_)),
        replace(rows_, kinds=()),
        replace(rows_, x=np.ones_like(rows_.x)),  # others opened these connections
    ):
        assert classlines.drawn(changed, threat, 0.6, 0.002) == {}


def test_lines_are_written_into_a_bundle_and_onto_its_card(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(bundles.default_path(), folder)
    before = bundles.load(folder)
    digest = classlines.write(folder, {COMPUTER: 0.75, PHONE: 0.59})
    loaded = bundles.load(folder)
    assert digest == loaded.digest != before.digest
    assert loaded.class_thresholds == {COMPUTER: 0.75, PHONE: 0.59}
    assert loaded.threat_threshold == before.threat_threshold
    page = (folder / bundles.CARD).read_text(encoding="utf-8")
    assert page.count(card.classes({COMPUTER: 0.75, PHONE: 0.59})) == 1
    Scorer(loaded)
    assert classlines.write(folder, {COMPUTER: 0.75, PHONE: 0.59}) == digest, "once is enough"
    classlines.write(folder, {})
    assert "By class of device" not in (folder / bundles.CARD).read_text(encoding="utf-8")
    (folder / bundles.SIGNATURE).write_text("untrusted comment: x\n", encoding="utf-8")
    with pytest.raises(bundles.BundleError, match="is signed"):
        classlines.write(folder, {COMPUTER: 0.8})


def test_a_stream_says_of_which_class_its_devices_are(tmp_path: Path) -> None:
    from guardian.simulate import simulate  # noqa: PLC0415 - scapy takes its time
    from guardian.simulate.scenario import home as scenario_of  # noqa: PLC0415

    scenario = scenario_of("desk-work", device="hub", hours=0.3, profile="test")
    path = tmp_path / "home.pcap"
    simulate(scenario, path)
    classes = recipe.classes_of(scenario)
    told = streams.read(path, classes=classes)
    found = rows.gather([("g", "s", told, None)], 50, 1, 4)
    assert set(found.kind.tolist()) == {THING, PHONE, COMPUTER}
    assert sorted(classes.values()).count(COMPUTER) == 1
    assert found.take(np.flatnonzero(found.kind == PHONE)).kind.tolist().count(PHONE) > 0
    twice = recipe.join([found, replace(found, kinds=())])
    assert twice.kind.tolist() == [*found.kind.tolist(), *[""] * len(found)]
    # The gateway sees the phone that asked for an address meanwhile; the hub at the desk shows
    # nothing of that.
    seen = streams.read(path).kinds
    phones = {k for k, kind in told.kinds.items() if kind == PHONE}
    assert len(phones) == 2
    (asked,) = [k for k, kind in seen.items() if kind != THING]
    assert asked in phones


@pytest.mark.train
def test_a_run_keeps_the_classes() -> None:
    pytest.importorskip("keras")
    from trainer import run as fits  # noqa: PLC0415 - it needs keras

    some = held({COMPUTER: [("simulated", 0.9)], PHONE: [("simulated", 0.5)]})[0]
    about = {"names": {"held_out": some.names, "golden": some.names}, "kinds": some.kinds}
    about = json.loads(json.dumps(about))
    packed = {**fits._packed("held_out", some), **fits._packed("golden", some)}
    assert fits._unpacked("held_out", packed, about).kinds == some.kinds == (COMPUTER, PHONE)
    assert fits._unpacked("golden", packed, about).kinds == ()
    del about["kinds"]
    assert fits._unpacked("held_out", packed, about).kinds == (), "an earlier run"


def test_the_daemons_database_keeps_the_classes(tmp_path: Path) -> None:
    with Store(tmp_path / "g.db") as store:
        table = home()
        table.step(decoded([asks(MADE_UP, 1, b"Annas-iPhone", IOS)]))
        record(store, watch(store, table)[0])
        store._db.row_factory = sqlite3.Row
        index = {mac_text(MADE_UP): 3, "ip:192.168.1.9": 4}
        assert guardiandb._kinds(store._db, index) == {3: PHONE, 4: THING}


def test_a_device_by_address_alone_is_a_thing() -> None:
    table = DeviceTable(Lan())
    table.load([Device(0, "ip:192.168.1.7", "", ("192.168.1.7",), "Annas-iPhone", False, 1, 2)])
    assert table.kind(0) == THING


def test_the_shipped_bundle_spares_computers_within_bounds() -> None:
    shipped = bundles.load(bundles.default_path())
    assert set(shipped.class_thresholds) <= {PHONE, COMPUTER}, "what shows nothing has one line"
    most = EvidenceSettings().class_moves_most
    for line in shipped.class_thresholds.values():
        assert abs(log_odds(line) - log_odds(shipped.threat_threshold)) <= most
    page = (shipped.folder / bundles.CARD).read_text(encoding="utf-8")
    assert card.classes(shipped.class_thresholds) in page
