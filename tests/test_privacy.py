"""What is kept and told at each privacy level, searched for in the bytes of file and broker."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from guardian import bundle as bundles
from guardian import capture, commands
from guardian.addresses import Lan
from guardian.daemon import hub_states
from guardian.devices import DeviceTable
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.privacy import COUNTERS, NO_HOSTS, NO_REMOTE, Privacy
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.simulate import SCENARIOS, simulate
from guardian.store import Store
from tests.broker import broker_in, listening, until
from tests.test_store import NOW, incident, rows

LEVELS = (0, NO_HOSTS, NO_REMOTE, COUNTERS)
ADDRESS = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("privacy") / "home.pcap"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.25), path)
    return path


def pipeline_of(level: int) -> Pipeline:
    lan = Lan()
    devices = DeviceTable(lan, learn_names=level < NO_HOSTS)
    bundle = bundles.load(bundles.default_path())
    return Pipeline(bundle, lan, devices, privacy=Privacy(level, lan))


def written(home: Path, path: Path, level: int) -> None:
    pipeline = pipeline_of(level)
    with Store(path, privacy=pipeline.privacy) as store:
        recorder = Recorder(store, pipeline)
        for frames in capture.read_frames(home):
            recorder.add(pipeline.step(frames))
        recorder.add(pipeline.finish())


@pytest.fixture(scope="module")
def all_kept(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("all") / "g.db"
    written(home, path, 0)
    return path


def secrets_of(path: Path) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """Return host names, addresses outside and names of devices that a level 0 database holds."""
    with closing(sqlite3.connect(path)) as db:
        hosts = {h for (h,) in db.execute("SELECT DISTINCT host FROM connections") if h}
        hosts = {h for h in hosts if not ADDRESS.fullmatch(h.encode())}
        outside = {a for (a,) in db.execute("SELECT resp_h FROM connections WHERE NOT local_resp")}
        outside |= {a for (a,) in db.execute("SELECT orig_h FROM connections WHERE NOT local_orig")}
        outside = {a for a in outside if len(a) > 9}  # long enough to be no part of another
        names = {n for (n,) in db.execute("SELECT learned FROM devices") if n}
    return ({h.encode() for h in hosts}, {a.encode() for a in outside}, {n.encode() for n in names})


def on_disk(path: Path) -> bytes:
    return b"".join(f.read_bytes() for f in path.parent.iterdir() if f.name.startswith(path.name))


def found(wanted: set[bytes], data: bytes) -> set[bytes]:
    """Return what stands anywhere in the data (SQLite puts texts side by side)."""
    return {one for one in wanted if one in data}


def hold_back(level: int, data: bytes, secrets: tuple[set[bytes], set[bytes], set[bytes]]) -> None:
    hosts, outside, names = secrets
    assert len(hosts) > 10
    assert len(outside) > 10
    assert names
    assert bool(found(hosts | names, data)) is (level < NO_HOSTS)
    assert bool(found(outside, data)) is (level < NO_REMOTE)


@pytest.mark.parametrize("level", LEVELS)
def test_the_bytes_of_the_database(
    home: Path, tmp_path: Path, all_kept: Path, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "g.db"
    with caplog.at_level(logging.DEBUG):
        written(home, path, level)
    hold_back(level, on_disk(path), secrets_of(all_kept))
    if level:
        hosts, outside, names = secrets_of(all_kept)
        assert not found(hosts | names, caplog.text.encode())
        assert level < NO_REMOTE or not found(outside, caplog.text.encode())
    incidents = rows(path, "SELECT cause, severity, explanation FROM incidents")
    assert [(i["cause"], i["severity"]) for i in incidents] == [("scan", "high")]
    said = incidents[0]["explanation"]
    assert re.search(r"called [\d,]+ addresses .* on", said), said
    count = rows(path, "SELECT count(*) FROM connections")[0][0]
    assert bool(count) is (level < COUNTERS)


def test_counters_only_count_all(home: Path, tmp_path: Path, all_kept: Path) -> None:
    path = tmp_path / "g.db"
    written(home, path, COUNTERS)
    by_device = (
        "SELECT device, verdict, sum({}), total(orig_bytes), total(resp_bytes), sum(orig_pkts) "
        "FROM {} GROUP BY 1, 2"
    )
    counted = rows(path, by_device.format("connections", "totals"))
    kept = rows(all_kept, by_device.format("count", "connections"))
    assert [tuple(r) for r in counted] == [tuple(r) for r in kept]
    assert rows(path, "SELECT count(*) FROM scores")[0][0] == 0


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_raised_level_takes_out_what_was_kept(
    tmp_path: Path, all_kept: Path, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "g.db"
    path.write_bytes(all_kept.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("SELECT sum(count) FROM connections").fetchone()[0]
    Store(path, privacy=Privacy(level)).close(NOW)
    hold_back(level, on_disk(path), secrets_of(all_kept))
    assert "the privacy level rose from 0" in caplog.text
    table = "connections" if level < COUNTERS else "totals"
    column = "count" if level < COUNTERS else "connections"
    assert rows(path, f"SELECT sum({column}) FROM {table}")[0][0] == before
    caplog.clear()
    Store(path, privacy=Privacy(level)).close(NOW)
    assert not caplog.text


@pytest.mark.parametrize("level", LEVELS)
def test_the_bytes_of_the_broker(home: Path, tmp_path: Path, all_kept: Path, level: int) -> None:
    with broker_in(tmp_path) as broker, listening(broker) as hub:
        pipeline = pipeline_of(level)
        with Store(tmp_path / "g.db", privacy=pipeline.privacy, drop_box=True) as store:
            publisher = Publisher(broker.settings(), store)
            recorder = Recorder(store, pipeline, publisher)
            for frames in capture.read_frames(home):
                recorder.add(pipeline.step(frames))
            commands.give(
                store.path,
                commands.new("allow", {"device": None, "peer": None, "cause": "scan",
                                       "until": None}, time.time_ns()),
            )  # fmt: skip
            recorder.tell(Polling(store, pipeline).poll(time.time_ns()), time.time_ns())
            publisher.update(*hub_states(pipeline, 0))

            def told() -> bool:
                publisher.step(time.time_ns())
                return any('"event_type":"closed"' in h.payload for h in list(hub.heard))

            until(told, "the incident is told")
            publisher.close(time.time_ns())
        data = b"\n".join(f"{h.topic} {h.payload}".encode() for h in hub.heard)
    hosts, outside, names = secrets_of(all_kept)
    assert bool(found(hosts | names, data)) is (level < NO_HOSTS)
    assert bool(found(outside, data)) is (level < NO_REMOTE)
    opened = next(h for h in hub.heard if '"event_type":"opened"' in h.payload).json()
    assert re.search(r"called \d+ addresses .* on ports 23 and 2323", opened["explanation"])
    peers = {p["ip"] for p in opened["peers"]}
    assert bool(peers) is (level < COUNTERS)
    assert level != NO_REMOTE or peers == {"outside"}


# --- words -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "text", "expected"),
    [
        (1, "calls evil.example.com (203.0.113.5) on port 443", "calls 203.0.113.5 on port 443"),
        (1, "calls evil.example.com, 3 times", "calls a host, 3 times"),
        (1, "notevil.example.com stays", "notevil.example.com stays"),
        (2, "calls 203.0.113.5 on port 443.", "calls an outside address on port 443."),
        (2, "asked 192.168.1.9, then 2001:db8::5.", "asked 192.168.1.9, then an outside address."),
        (2, "at 12:30 it took 1.5 s and 10.000.000 B", "at 12:30 it took 1.5 s and 10.000.000 B"),
        (2, "called fe80::1 and 9.9.9.9:53", "called fe80::1 and an outside address:53"),
        (3, "tried 20 ports of 192.168.1.9", "tried 20 ports of a home address"),
        (3, "192.168.1.20 called 9.9.9.9", "192.168.1.20 called an outside address"),
    ],
)
def test_sentences(level: int, text: str, expected: str) -> None:
    said = Privacy(level).text(text, {"evil.example.com"}, "192.168.1.20")
    assert said == expected
    assert Privacy(level).text(said, {"evil.example.com"}, "192.168.1.20") == expected


def test_an_incident_is_reduced_once_and_for_all() -> None:
    whole = incident(explanation="camera called 198.51.100.9 on port 23")
    for level in LEVELS:
        once = Privacy(level).incident(whole)
        assert Privacy(level).incident(once) == once
    assert Privacy(COUNTERS).incident(whole).peers == ()
    assert Privacy(0).incident(whole) is whole
    assert "198.51" not in json.dumps(Privacy(2).incident(whole).as_json())
