"""The wall clock of a gateway steps by hours, forth and back; what happens meanwhile is found."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian import capture, daemon, live, logs
from guardian.config import AlertsSettings, CaptureSettings, Settings, StoreSettings
from guardian.const import NS
from guardian.live import LiveCapture
from guardian.merge import nothing
from guardian.setback import SET_BACK_NS
from guardian.simulate import Infection, home, simulate
from guardian.tables import Frames
from tests.torture.traffic import shifted

HOUR = 3_600 * NS

Opened = Callable[[Path, Path, list[tuple[float, float]]], list[tuple[float, str]]]


class Played:
    """A capture as live frames; ends the daemon when it is over."""

    drops = 0

    def __init__(self, frames: Iterator[Frames]) -> None:
        self._frames = frames
        self.daemon: Any = None

    def drops_by_interface(self) -> dict[str, int]:
        return {"lo": 0}

    def up_by_interface(self) -> dict[str, bool]:
        return {"lo": True}

    def read(self, _: float) -> Frames | None:
        frames = next(self._frames, None)
        if frames is None:
            self.daemon._stopping = True
        return frames

    def rest(self) -> list[Frames]:
        return []

    def refresh(self) -> None: ...

    def tell_drops(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clock") / "home.pcap"
    scan = Infection("telnet-scan", "hall-camera", 2_400.0)
    simulate(replace(home(hours=0.75), infections=(scan,)), path)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """A daemon over a capture: (seconds into it, cause) of the incidents it tells."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in signals]

    def run(path: Path, db: Path, steps: list[tuple[float, float]]) -> list[tuple[float, str]]:
        return _opened(monkeypatch, path, db, steps)

    yield run
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)


def _opened(
    monkeypatch: pytest.MonkeyPatch, path: Path, db: Path, steps: list[tuple[float, float]]
) -> list[tuple[float, str]]:
    """`steps` are (seconds into the capture, hours by which the clock is then wrong)."""
    first = next(capture.read_frames(path, 200)).now

    def played() -> Iterator[Frames]:
        wrong = [(first + int(at * NS), int(hours * HOUR)) for at, hours in steps]
        for frames in capture.read_frames(path, 200):
            by = [0, *(hours for at, hours in wrong if frames.now >= at)][-1]
            yield shifted(frames, by)

    source = Played(played())
    monkeypatch.setattr(daemon, "LiveCapture", lambda _: source)
    monkeypatch.setattr(logs, "begin", lambda: None)  # the test's own handlers stay
    settings = Settings(
        capture=CaptureSettings(interface=("lo",)),
        alerts=AlertsSettings(a_week=0),
        store=StoreSettings(path=str(db)),
    )
    source.daemon = daemon.Daemon(settings)
    assert source.daemon.run() == 0
    with closing(sqlite3.connect(db)) as connection:
        rows = connection.execute(
            "SELECT at, cause FROM incident_events e JOIN incidents i ON i.id = e.incident "
            "WHERE change = 'opened' ORDER BY e.id"
        ).fetchall()
    return [((at - first) / NS, cause) for at, cause in rows]


@pytest.mark.slow
def test_an_attack_after_a_clock_that_stepped_is_found_as_soon(
    opened: Opened, attacked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steady = opened(attacked, tmp_path / "steady.db", [])
    assert [cause for _, cause in steady] == ["scan"]
    # Wrong by five hours, then by minus nine, then right again, all before the attack.
    caplog.clear()
    stepped = opened(
        attacked, tmp_path / "stepped.db", [(600.0, 5.0), (1_200.0, -9.0), (1_800.0, 0.0)]
    )
    # The few who answer a telnet scan may be an incident beside it, of the same device.
    assert stepped[0][1] == "scan"
    assert {cause for _, cause in stepped} <= {"scan", "brute-force"}
    assert stepped[0][0] == pytest.approx(steady[0][0], abs=2.0)
    said = [r.getMessage() for r in caplog.records if "set back" in r.getMessage()]
    assert len(said) == 1
    with closing(sqlite3.connect(tmp_path / "stepped.db")) as db:
        # Every connection is kept; those of the wrong hours are dated wrong.
        kept = db.execute("SELECT sum(count) FROM connections").fetchone()
        assert len(db.execute("SELECT DISTINCT device FROM incidents").fetchall()) == 1
    with closing(sqlite3.connect(tmp_path / "steady.db")) as db:
        assert kept[0] >= db.execute("SELECT sum(count) FROM connections").fetchone()[0]


def test_a_small_step_back_is_waited_for(opened: Opened, attacked: Path, tmp_path: Path) -> None:
    """Below the threshold the watch goes on; the attack is found at most so much later."""
    step_h = SET_BACK_NS / HOUR * 0.9
    found = opened(attacked, tmp_path / "small.db", [(1_200.0, step_h), (2_390.0, 0.0)])
    steady = opened(attacked, tmp_path / "steady.db", [])
    assert found[0][1] == "scan"
    assert found[0][0] - steady[0][0] < SET_BACK_NS / NS + 2


class Stopped:
    """A source whose clock is the wall's, as a ring's is."""

    link, ahead = 1, 0

    def __init__(self) -> None:
        self.now = 0

    def read(self, _: float) -> Frames:
        self.now = max(self.now, time.time_ns())
        return nothing(self.now)

    def fileno(self) -> int:
        raise NotImplementedError

    def filling(self) -> bool:
        return True

    def drops(self) -> tuple[int, int]:
        return 0, 0

    def restart_clock(self) -> None:
        self.now = 0

    def close(self) -> None: ...


def test_a_capture_goes_back_with_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 1_800_000_000 * NS
    monkeypatch.setattr(live, "open_source", lambda *_: Stopped())
    monkeypatch.setattr(time, "time_ns", lambda: wall)
    capture_ = LiveCapture(CaptureSettings(interface=("lo",)))
    heard = []
    for step in (0, 1, 5 * 3_600, -9 * 3_600, 1):
        wall += step * NS
        frames = capture_.read(0.0)
        assert frames is not None
        heard.append(frames.now)
    capture_.close()
    assert np.diff(heard).tolist() == [NS, 5 * HOUR, -9 * HOUR, NS]
