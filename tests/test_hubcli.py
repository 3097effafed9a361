"""The command line's side of what the hub does: forget, the budget, a fire drill."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardian.cli import cli
from guardian.discovery import DRILL_SAID
from guardian.store import Store
from tests.test_store import DAY, MAC, device, step


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(words))
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def made(path: Path) -> None:
    with Store(path, drop_box=True) as store:
        step(store, devices=[device()], now=time.time_ns())


def waiting(path: Path) -> list[tuple[str, dict[str, object]]]:
    with Store(path, drop_box=True) as store:
        return [(c.kind, c.args) for c in store.poll_commands(time.time_ns() + DAY)]


def test_forgetting_and_the_budget_reach_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    made(path)
    code, said = run("devices", "--forget", "camera", "--db", str(path))
    assert code == 0, said
    assert "camera is forgotten" in said
    code, said = run("alerts", "--a-week", "4", "--db", str(path))
    assert code == 0, said
    assert "at most 4 alerts a week" in said
    assert waiting(path) == [("forget", {"device": MAC}), ("budget", {"a_week": 4})]
    assert run("devices", "--forget", "nobody", "--db", str(path))[0] == 1
    assert run("devices", "--forget", "camera", "--name", "x", "y", "--db", str(path))[0] == 2
    assert run("alerts", "--a-week", "-1", "--db", str(path))[0] == 2


def test_a_drill_needs_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    made(path)
    with Store(path) as store:
        store.commit(time.time_ns() - DAY)
    code, said = run("drill", "--db", str(path))
    assert code == 1
    assert "the daemon is not running" in said


@pytest.mark.parametrize(("end", "code"), [("worked: told 6 s after", 0), ("failed: nobody", 1)])
def test_a_drill_that_is_waited_for(tmp_path: Path, end: str, code: int) -> None:
    path = tmp_path / "g.db"
    made(path)
    with Store(path, drop_box=True) as store:
        step(store, now=time.time_ns())
        store.commit(time.time_ns())
        found: list[tuple[int, str]] = []
        thread = threading.Thread(
            target=lambda: found.append(run("drill", "--wait", "--db", str(path)))
        )
        thread.start()
        deadline = time.monotonic() + 20
        while not store.poll_commands(time.time_ns()) and time.monotonic() < deadline:
            time.sleep(0.05)
        store.set_fact(DRILL_SAID, f"2026-11-22 06:00: {end}")
        thread.join(20)
    assert found
    assert found[0][0] == code, found
    assert f"The fire drill of 2026-11-22 06:00: {end}" in found[0][1]
