"""What the daemon tells of itself: the status and its file, the figures, reloads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from guardian import metrics, reload, statuscli, statusfile
from guardian.cli import cli
from guardian.config import KEYS, Settings, override
from guardian.const import NS
from guardian.devices import Device
from guardian.discovery import DeviceState, GatewayState
from guardian.errors import ConfigError
from guardian.metrics import Metrics
from guardian.parts import Parts
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.reload import APPLY, Reloader, can_change
from guardian.runtime import load_bundle, open_pipeline
from guardian.statusfile import StatusError, StatusFile
from guardian.store import Store
from guardian.tables import Frames
from guardian.vitals import MAX_INCIDENTS, MAX_LISTED, Vitals
from tests.broker import free_port
from tests.conftest import ROOT

HALL = "02:00:00:00:00:09"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A daemon's parts without the line."""
    settings = Settings()
    with Store(tmp_path / "guardian.db", drop_box=True) as store:
        pipeline = open_pipeline(settings, load_bundle(settings), live=True)
        publisher = Publisher(settings.mqtt, store)
        recorder, polling = Recorder(store, pipeline, publisher), Polling(store, pipeline)
        made = Parts(cast(Any, None), pipeline, store, publisher, recorder, polling)
        polling.restore(time.time_ns())
        yield made
        made.publisher.close(time.time_ns())


def devices(count: int, state: Any = "quiet") -> list[DeviceState]:
    return [
        DeviceState(f"02:00:00:00:{k >> 8:02x}:{k & 255:02x}", "", "x" * 64, False, 0.1, state)
        for k in range(count)
    ]


def gateway(**more: Any) -> GatewayState:
    values: dict[str, Any] = {
        "packets": 0, "connections": 0, "drops": 0, "devices": 0, "open_incidents": 0, "bundle": "",
    } | more  # fmt: skip
    return GatewayState(**values)


def status(parts: Parts, path: Path, listed: list[DeviceState]) -> dict[str, Any]:
    return Vitals(path).snapshot(
        parts.pipeline, gateway(devices=len(listed), drops=7), listed,
        interfaces=[{"name": "br0", "up": True, "drops": 7, "networks": ["192.168.1.0/24"]}],
        hub={}, config=Reloader(Settings(), None, "").state(), blind_spots=["much"],
        budget={"a_week": 2, "told": 1, "held": 0},
    )  # fmt: skip


# --- the status and its file -------------------------------------------------------


def test_a_status_is_written_whole_read_by_its_database_and_gone_at_the_end(
    parts: Parts, tmp_path: Path
) -> None:
    path = tmp_path / "guardian.db"
    file = StatusFile(path)
    assert not file.due(time.monotonic())  # the first moments are of no interest
    file.soon()
    assert file.due(time.monotonic())
    file.write(status(parts, path, devices(3, "alert")), time.monotonic())
    assert file.path.stat().st_mode & 0o777 == statusfile.FILE_MODE & ~_umask()
    assert not file.due(time.monotonic())
    found = statusfile.read(path)
    assert found["devices"]["alert"] == 3
    assert not found["stale"]
    text = CliRunner().invoke(cli, ["status", "--db", str(path)])
    assert text.exit_code == 0
    assert "7 packets dropped by the kernel" in text.output
    assert "much" in text.output
    as_json = CliRunner().invoke(cli, ["status", "--db", str(path), "--json"])
    assert json.loads(as_json.output)["running"] is True
    with pytest.raises(StatusError, match="no daemon runs for"):
        statusfile.read(tmp_path / "other.db")
    file.close()
    assert list(tmp_path.glob("*status*")) == []
    gone = CliRunner().invoke(cli, ["status", "--db", str(path), "--json"])
    assert (gone.exit_code, json.loads(gone.output)["running"]) == (1, False)


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_a_daemon_that_hangs_is_told(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "guardian.db"
    file = StatusFile(path)
    old = status(parts, path, []) | {"updated": time.time() - 600}
    file.write(old, time.monotonic())
    done = CliRunner().invoke(cli, ["status", "--db", str(path)])
    assert done.exit_code == 1
    assert "IT DOES NOT GO ON" in done.output
    child = subprocess.Popen(["true"])
    child.wait()
    file.write(old | {"pid": child.pid}, time.monotonic())
    done = CliRunner().invoke(cli, ["status", "--db", str(path)])
    assert done.exit_code == 1
    assert "IT ENDED WITHOUT A WORD" in done.output


def test_watching_shows_it_anew_until_it_is_ended(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "guardian.db"
    file = StatusFile(path)
    file.write(status(parts, path, []), time.monotonic())
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            file.close()
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("guardian.statuscli.time.sleep", sleep)
    done = CliRunner().invoke(cli, ["status", "--watch", "--db", str(path)])
    assert done.exit_code == 0
    assert done.output.count("running for") == 2
    assert done.output.count("no daemon runs for") == 1  # it goes on looking
    assert pauses == [statuscli.WATCH_S] * 3


def test_memory_is_used_for_it_where_the_unit_gives_some(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(run))
    monkeypatch.setattr(statusfile, "RUNTIME", run)
    path = tmp_path / "guardian.db"
    file = StatusFile(path)
    assert file.every_s < statusfile.DISK_S
    file.write(status(parts, path, []), time.monotonic())
    assert [p.name for p in run.iterdir()] == ["guardian-status.json"]
    assert statusfile.read(path)["pid"] == os.getpid()


def test_what_the_network_can_grow_is_capped(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "guardian.db"
    many = [replace(d, name="\u3042" * 64) for d in devices(4_096)]
    made = status(parts, path, many)
    assert made["devices"]["quiet"] == 4_096
    assert len(made["devices"]["list"]) == MAX_LISTED
    made["incidents"]["list"] = [
        {"id": "f" * 12, "device": "\u3042" * 64, "cause": "brute-force", "severity": "medium",
         "opened": 1.0}
    ] * MAX_INCIDENTS  # fmt: skip
    file = StatusFile(path)
    file.write(made, time.monotonic())
    assert file.path.stat().st_size < 0.7 * statusfile.MAX_BYTES
    with pytest.raises(OSError, match="more than"):
        file.write(made | {"more": "x" * statusfile.MAX_BYTES}, time.monotonic())
    assert statusfile.read(path)["devices"]["known"] == 4_096  # the last good one stays


def test_a_hostile_status_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "guardian.db"
    file = tmp_path / statusfile.name_of(path)
    for content in (b"{", b"\xff", b"[]", b"3"):
        file.write_bytes(content)
        with pytest.raises(StatusError):
            statusfile.read(path)


def test_rates_and_delays_are_of_late(parts: Parts, tmp_path: Path) -> None:
    vitals = Vitals(tmp_path / "guardian.db")
    now = time.time_ns()
    zero = np.zeros(1, dtype=np.int64)
    frame = Frames(np.zeros(14, np.uint8), zero, zero + 14, zero + 14, zero + now - NS // 2, 1,
                   zero == 0, now)  # fmt: skip
    vitals.handled(frame)
    parts.pipeline.counts.packets = 600
    vitals._last = (vitals._last[0] - 10, *vitals._last[1:])
    first = vitals.snapshot(parts.pipeline, gateway(), [])
    assert first["rates"]["packets"] == pytest.approx(60, rel=0.05)
    assert 0.5 <= first["delay"]["max_s"] < 5
    assert first["memory"]["rss"] > 1 << 20
    vitals._last = (vitals._last[0] - 10, *vitals._last[1:])
    second = vitals.snapshot(parts.pipeline, gateway(), [])
    assert second["rates"]["packets"] == 0
    assert second["delay"]["max_s"] == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min"), (446_400, "5 days 4 h")],
)
def test_spans_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert statuscli.span(seconds) == text


# --- figures -----------------------------------------------------------------------


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_figures_are_read_on_loopback_and_name_nobody(parts: Parts, tmp_path: Path) -> None:
    made = status(parts, tmp_path / "guardian.db", devices(2))
    port = free_port()
    door = Metrics(f"127.0.0.1:{port}", exposed=False)
    try:
        assert get(f"http://127.0.0.1:{port}/metrics") == (200, "")
        door.tell(made)
        code, text = get(f"http://127.0.0.1:{port}/metrics")
        assert code == 200
        assert get(f"http://127.0.0.1:{port}/")[0] == 404
        with socket.create_connection(("127.0.0.1", port), 5) as rude:
            rude.sendall(b"\x00\xff" * 100)
        with socket.create_connection(("127.0.0.1", port), 5) as post:
            post.sendall(b"POST /metrics HTTP/1.1\r\n\r\n")
            assert b"501" in post.recv(400)
        assert get(f"http://127.0.0.1:{port}/metrics")[0] == 200
    finally:
        door.close()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert samples["guardian_drops_total"] == "7"
    assert samples["guardian_devices"] == "2"
    assert samples["guardian_blind_spots"] == "1"
    assert set(samples) <= {f"guardian_{n}" for n in (*metrics.COUNTERS, *metrics.GAUGES)}
    for name in samples:
        assert f"# TYPE {name} " in text
        assert f"# HELP {name} " in text
    for private in ("02:00", "xxxx", "192.168", "br0"):
        assert private not in text
    with socket.socket() as probe:  # nobody listens any more
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_figures_are_documented_as_they_are() -> None:
    """Write the rows anew with `python -m guardian.metrics docs/running.md`."""
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    assert metrics.rows() in text


@pytest.mark.parametrize("listen", ["0.0.0.0:9477", "192.168.1.1:9477", "[::]:9477"])
def test_other_than_loopback_needs_a_word(listen: str) -> None:
    with pytest.raises(ConfigError, match="exposed = true"):
        Metrics(listen, exposed=False)
    assert metrics.address(listen, exposed=True)[1] == 9_477
    assert metrics.address("[::1]:9477", exposed=False) == ("::1", 9_477)


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="name another port"):
            Metrics(f"127.0.0.1:{other.getsockname()[1]}", exposed=False)


# --- reloads -----------------------------------------------------------------------


def test_every_section_with_live_keys_can_be_applied_and_no_other() -> None:
    live = {section for section, keys in KEYS.items() if any(k.rule.live for k in keys.values())}
    assert set(APPLY) == live


def test_what_can_change_does_and_the_rest_waits(parts: Parts, tmp_path: Path) -> None:
    now = Settings()
    files = [now]
    reloader = Reloader(now, lambda: files[-1], "g.toml")
    parts.pipeline.devices.load([Device(0, HALL, HALL, ("10.0.0.9",), "esp", False, NS, NS)])
    new = override(now, "alerts", a_week=5)
    new = override(new, "model", counters=False)
    new = override(new, "store", connections_days=3, path="/elsewhere.db")
    new = override(new, "home", names={HALL: "Hall camera"})
    new = override(new, "capture", ring_mib=16)
    new = override(new, "mqtt", host="127.0.0.1", port=1)
    files.append(new)
    reloader.reload(parts)
    assert parts.pipeline.incidents.settings.a_week == 5
    assert parts.pipeline.incidents.settings.counters is False
    assert parts.store.keep.connections == 3
    assert parts.pipeline.devices.ref(0).name == "Hall camera"
    assert parts.publisher.enabled
    assert parts.recorder.publisher is parts.publisher
    assert reloader.state()["restart"] == ["capture.ring_mib", "store.path"]
    assert reloader.settings.store.path == now.store.path  # in force is what was
    # taken back
    files.append(now)
    reloader.reload(parts)
    assert reloader.state()["restart"] == []
    assert reloader.settings == now
    assert parts.pipeline.devices.ref(0).name == "esp"
    assert not parts.publisher.enabled


def test_a_mistake_leaves_all_as_it_was_and_is_told(
    parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Settings:
        raise ConfigError("g.toml line 3: unknown key 'x'")

    reloader = Reloader(Settings(), broken, "g.toml")
    reloader.reload(parts)
    assert reloader.state()["fault"] == "g.toml line 3: unknown key 'x'"
    assert reloader.settings == Settings()
    assert "the settings stay as they were: g.toml line 3" in caplog.text
    bad_topic = override(Settings(), "mqtt", host="h", prefix="a/#")
    bad_topic = override(bad_topic, "alerts", a_week=9)
    publisher = parts.publisher
    mended = Reloader(Settings(), lambda: bad_topic, "g.toml")
    mended.reload(parts)
    assert "is no topic" in mended.state()["fault"]
    assert parts.publisher is publisher  # that section stays, the others change
    assert parts.pipeline.incidents.settings.a_week == 9
    assert mended.settings.mqtt == Settings().mqtt


def test_can_change_is_what_the_file_says() -> None:
    assert can_change("alerts.a_week")
    assert not can_change("capture.interface")
    assert reload.differences(Settings(), override(Settings(), "mqtt", port=1)) == ["mqtt.port"]


def test_the_settings_hold_where_they_were_changed_after_the_hub_s_word(tmp_path: Path) -> None:
    """The hub sets the alert budget; it outlives a restart, but not a later change of the file."""
    now = time.time_ns()

    def begun(store: Store, a_week: int) -> Polling:
        settings = override(Settings(), "alerts", a_week=a_week)
        pipeline = open_pipeline(settings, load_bundle(settings), live=True)
        polling = Polling(store, pipeline)
        polling.restore(now)
        return polling

    def budget(polling: Polling) -> int:
        return polling._pipeline.incidents.settings.a_week

    with Store(tmp_path / "guardian.db") as store:
        first = begun(store, 2)
        assert budget(first) == 2
        first.set_budget(7, now)
        assert budget(begun(store, 2)) == 7
        assert budget(begun(store, 4)) == 4
        first.configure_budget(3, now)
        assert budget(first) == budget(begun(store, 3)) == 3
