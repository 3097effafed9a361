"""What a device was like survives a restart, fits the models, and goes with the device."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from guardian import bundle as bundles
from guardian import reading
from guardian.addresses import Lan, mac_pack, pack, text
from guardian.alerts import IncidentTable
from guardian.const import MAX_JUDGED, NS
from guardian.devices import Device, DeviceTable
from guardian.evidence import EvidenceSettings, Past
from guardian.featurelist import NAMES
from guardian.homes import Home, Homes
from guardian.incidents import IncidentEvent
from guardian.past import Models, unpack
from guardian.past import pack as packed
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.privacy import COUNTERS, NO_REMOTE, Privacy
from guardian.scoring import Scorer
from guardian.store import Store
from guardian.usercli import devices
from tests.incident_rows import (
    CAMERA,
    HUB,
    MACS,
    START,
    S,
    calm,
    device_table,
    incident_table,
    mixed,
    run,
    scan,
)

DAY = 86_400.0
NOW = int((START + 20 * DAY) * NS)
MODELS = Models("one", NAMES)
HOMES = Homes(EvidenceSettings())


def lived(rows: list[S]) -> IncidentTable:
    table = incident_table()
    run(table, rows)
    return table


def again(table: IncidentTable, models: Models = MODELS, now: int = NOW) -> IncidentTable:
    """Return a fresh table that was told what the other one had learnt."""
    fresh = incident_table()
    for key, home in table.homes.settled().items():
        fresh.homes.put(key, unpack(packed(home, MODELS), models, fresh.homes, now)[0])
    return fresh


def near(at: float, hours: float, threat: float = 0.9) -> list[S]:
    """Return a device whose usual traffic looks a little like an attack: one row in thirty."""
    rows = calm(at, int(hours * 360), every=10.0)
    return [replace(s, threat=threat) if k % 30 == 0 else s for k, s in enumerate(rows)]


def test_a_restart_changes_nothing() -> None:
    before, after = near(0.0, 5.5), near(5.5 * 3600, 3.0)
    more = mixed(after, scan(6 * 3600.0, 80))
    first, other = lived(before), lived(before)
    second = again(other)
    told, said = run(first, more), run(second, more)

    def essence(events: list[IncidentEvent]) -> list[tuple[object, ...]]:
        return [(e.change, e.incident.id, e.incident.count, e.incident.explanation) for e in events]

    assert essence(told) == essence(said)
    assert [e.change for e in told].count("opened") == 1
    ours, theirs = (t.homes.peek(MACS[CAMERA]) for t in (first, second))
    assert ours is not None
    assert theirs is not None
    assert ours.suspicion.threat_past.as_json() == theirs.suspicion.threat_past.as_json()
    assert ours.habits.as_json() == theirs.habits.as_json()


def test_without_its_past_a_device_is_told_of_again() -> None:
    """What is kept matters: rows that a device always had open an incident where it is lost."""
    edge = [replace(s, threat=0.9, cause="c2", peer="34.1.2.9") for s in calm(0.0, 40, every=60.0)]
    past = mixed(*(near(k * DAY / 24, 1.0, 0.95) for k in range(20)))
    later = [replace(s, at=s.at + 21 * 3600.0) for s in edge]
    assert not run(again(lived(past)), later)
    assert [e.change for e in run(incident_table(), later)][:1] == ["opened"]


def test_levels_are_of_one_bundle_and_habits_of_one_list_of_features() -> None:
    home = lived(near(0.0, 30.0)).homes.peek(MACS[CAMERA])
    assert home is not None
    blob = packed(home, MODELS)
    same, _ = unpack(blob, MODELS, HOMES, NOW)
    assert same.suspicion.threat_past.high(200) == home.suspicion.threat_past.high(200)
    assert same.habits.usual() is not None
    other, _ = unpack(blob, Models("two", NAMES), HOMES, NOW)
    assert other.suspicion.threat_past.as_json() == Past().as_json()
    assert other.habits.usual() is not None
    foreign, _ = unpack(blob, Models("two", NAMES[::-1]), HOMES, NOW)
    assert foreign.habits.usual() is None
    assert not foreign.habits.knows(pack("34.1.2.1"))


def test_a_clock_set_back_leaves_nothing_ahead_of_now() -> None:
    home = lived(near(0.0, 3.0)).homes.peek(MACS[CAMERA])
    assert home is not None
    now = int((START - DAY) * NS)
    back, _ = unpack(packed(home, MODELS), MODELS, HOMES, now)
    found = back.habits.as_json()
    assert back.first <= now
    assert found["sampled"] <= now
    assert found["hour"] * 3600 * NS <= now


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_what_is_no_past_is_refused(noise: bytes, place: int, byte: int) -> None:
    home = Home(lived(calm(0.0, 30)).homes.get("x", 0).suspicion, 0)
    good = packed(home, MODELS)
    text_ = bytearray(zlib.decompress(good))
    text_[place % len(text_)] = byte
    for blob in (noise, good[:-3], zlib.compress(bytes(text_)), zlib.compress(b"0" * (1 << 20))):
        try:
            unpack(blob, MODELS, HOMES, NOW)
        except ValueError:
            continue


def test_too_long_a_past_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        unpack(zlib.compress(b" " * (1 << 22) + b"{}"), MODELS, HOMES, NOW)


# --- with the database -----------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "guardian.db") as opened:
        yield opened


def pipeline_of(level: int = 0) -> Pipeline:
    lan = Lan()
    devices = DeviceTable(lan)
    first = int((START - 30 * DAY) * NS)
    devices.load(
        Device(0, mac, mac, (ip,), "", False, first, int(START * NS)) for ip, mac in MACS.items()
    )
    bundle = bundles.load(bundles.default_path())
    return Pipeline(bundle, lan, devices, counters=False, privacy=Privacy(level, lan))


def taught(pipeline: Pipeline) -> None:
    """Let both devices live for some hours."""
    source = device_table()
    table = incident_table()
    run(table, mixed(near(0.0, 6.0), [replace(s, device=HUB) for s in near(1.0, 6.0)]))
    for key, home in table.homes.settled().items():
        assert source.index(key) >= 0
        pipeline.incidents.homes.put(key, home)


def known(store: Store, pipeline: Pipeline) -> None:
    store._db.executemany(
        "INSERT INTO devices (key, mac, learned, addresses, gateway, first_seen, last_seen) "
        "VALUES (?, ?, '', '[]', 0, 0, ?)",
        [(d.key, d.mac, NOW) for d in pipeline.devices.devices()],
    )


def test_the_daemon_writes_by_the_hour_and_takes_it_up(store: Store) -> None:
    pipeline = pipeline_of()
    known(store, pipeline)
    polling = Polling(store, pipeline)
    polling.restore(NOW)
    taught(pipeline)
    polling.poll(NOW)
    assert not store.pasts()  # no hour ended yet
    for home in pipeline.incidents.homes.settled().values():
        home.rate(0.1, NOW)
    polling.poll(NOW)
    assert set(store.pasts()) == set(MACS.values())
    written = store.pasts()
    polling.poll(NOW + NS)
    assert store.pasts() == written  # once an hour
    assert max(map(len, written.values())) < 12_000
    fresh = pipeline_of()
    Polling(store, fresh).restore(NOW)
    again = fresh.incidents.homes.peek(MACS[CAMERA])
    assert again is not None
    assert again.habits.knows(pack("34.1.2.1"))
    high = again.suspicion.threat_past.high(200)
    assert high is not None
    assert high > 1.0


def test_another_bundle_keeps_the_habits_alone(store: Store) -> None:
    pipeline = pipeline_of()
    polling = Polling(store, pipeline)
    polling.restore(NOW)
    taught(pipeline)
    pipeline.swap(Scorer(replace(pipeline.bundle, digest="another")))
    polling.resume(NOW)
    home = pipeline.incidents.homes.peek(MACS[CAMERA])
    assert home is not None
    assert home.habits.knows(pack("34.1.2.1"))
    assert home.suspicion.threat_past.high(1) is None


def test_unlearn_and_forget(store: Store) -> None:
    pipeline = pipeline_of()
    known(store, pipeline)
    polling = Polling(store, pipeline)
    polling.restore(NOW)
    taught(pipeline)
    polling.keeper.keep(NOW)
    polling.actions["unlearn"]({"device": MACS[HUB]}, NOW)
    assert set(store.pasts()) == {MACS[CAMERA]}
    homes = pipeline.incidents.homes
    hub, camera = homes.peek(MACS[HUB]), homes.peek(MACS[CAMERA])
    assert hub is not None
    assert hub.suspicion.threat_past.high(1) is None
    assert camera is not None
    assert camera.suspicion.threat_past.high(1) is not None
    with pytest.raises(KeyError, match="no device"):
        polling.actions["unlearn"]({"device": "nobody"}, NOW)
    polling.actions["unlearn"]({"device": ""}, NOW)
    assert camera.suspicion.threat_past.high(1) is None
    assert not store.pasts()
    polling.keeper.keep(NOW)
    store.forget_device(MACS[CAMERA])
    assert set(store.pasts()) == {MACS[HUB]}


@pytest.mark.parametrize("level", [NO_REMOTE, COUNTERS])
def test_what_privacy_takes_away(store: Store, level: int) -> None:
    pipeline = pipeline_of(level)
    known(store, pipeline)
    polling = Polling(store, pipeline)
    polling.restore(NOW)
    taught(pipeline)
    home = pipeline.incidents.homes.peek(MACS[CAMERA])
    assert home is not None
    near_by = pack("192.168.1.77")
    home.habits.add(NOW, near_by, pipeline.bundle.usual[1])
    polling.keeper.keep(NOW)
    if level == COUNTERS:
        assert not store.pasts()
        return
    assert b"34.1.2.1" not in b"".join(store.pasts().values())
    found, _ = unpack(store.pasts()[MACS[CAMERA]], MODELS, HOMES, NOW)
    assert found.habits.as_json()["known"] == [near_by]
    assert text(*near_by) == "192.168.1.77"


def test_a_raised_level_takes_out_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "guardian.db"
    with Store(path) as store:
        store.save_pasts({MACS[CAMERA]: b"x"}, NOW)
    with Store(path, privacy=Privacy(NO_REMOTE, Lan())) as store:
        assert not store.pasts()


def test_only_so_many_are_kept_and_devices_take_theirs_along(store: Store) -> None:
    keys = [f"02:00:00:00:{k >> 8:02x}:{k & 255:02x}" for k in range(MAX_JUDGED + 40)]
    assert len({mac_pack(key) for key in keys}) == len(keys)
    for k, key in enumerate(keys):
        if k % 50 == 0:
            store.save_pasts(dict.fromkeys(keys[k : k + 50], b"x"), NOW + k)
        assert key
    assert len(store.pasts()) == MAX_JUDGED
    assert keys[-1] in store.pasts()
    store.prune(NOW)
    assert not store.pasts()  # none of them stands among the devices


def test_a_change_of_habits_is_told_kept_and_shown(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = pipeline_of()
    known(store, pipeline)
    polling = Polling(store, pipeline)
    polling.restore(NOW)
    taught(pipeline)
    home = pipeline.incidents.homes.peek(MACS[CAMERA])
    assert home is not None
    assert home.weeks is not None
    features = [{"name": "udp", "text": "a UDP exchange", "more": True, "psi": 0.5}]
    home.weeks.changed = (NOW, features)
    caplog.set_level("INFO", logger="guardian")
    polling.poll(NOW)
    polling.poll(NOW + NS)
    said = [r.getMessage() for r in caplog.records if "habits" in r.getMessage()]
    assert said == ["192.168.1.5 changed its habits: a UDP exchange (more often)"]
    assert polling.keeper.changed()[0]["key"] == MACS[CAMERA]
    with reading.reading(store.path) as tables:
        shown = {d["key"]: d["changed"] for d in reading.devices(tables, NOW + NS)}
    assert shown == {MACS[CAMERA]: {"at": NOW / NS, "features": features}, MACS[HUB]: None}
    done = CliRunner().invoke(devices, ["--db", str(store.path)])
    assert done.exit_code == 0


def test_unlearn_is_said_on_the_command_line(store: Store) -> None:
    pipeline = pipeline_of()
    known(store, pipeline)
    polling = Polling(store, pipeline)
    polling.restore(NOW)
    taught(pipeline)
    db = ["--db", str(store.path)]
    for wrong in (["--all"], ["--unlearn", MACS[HUB], "--all"], ["--unlearn"]):
        assert CliRunner().invoke(devices, [*wrong, *db]).exit_code == 2, wrong
    homes = pipeline.incidents.homes
    assert CliRunner().invoke(devices, ["--unlearn", MACS[HUB], *db]).exit_code == 0
    polling.poll(NOW)
    hub, camera = homes.peek(MACS[HUB]), homes.peek(MACS[CAMERA])
    assert hub is not None
    assert camera is not None
    assert hub.suspicion.threat_past.high(1) is None
    assert camera.suspicion.threat_past.high(1) is not None
    assert CliRunner().invoke(devices, ["--unlearn", "--all", *db]).exit_code == 0
    polling.poll(NOW)
    assert camera.suspicion.threat_past.high(1) is None
