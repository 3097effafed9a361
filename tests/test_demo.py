"""The demo as a person runs it, and what a real broker gets from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import broker_in, listening, until
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GUARDIAN_")}
    return subprocess.run(
        [sys.executable, "-m", "guardian.cli", "demo", *words],
        capture_output=True, text=True, check=False, cwd=ROOT, env=clean, timeout=100,
    )  # fmt: skip


def test_the_demo_reports_exactly_the_infected_device(tmp_path: Path) -> None:
    done = demo("--keep", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Right: hall-camera alone is infected" in done.stdout
    assert "Incidents" in done.stdout
    assert "guardian/device/" in done.stdout
    assert (tmp_path / "guardian.db").exists()


def test_a_broker_gets_discovery_states_and_incidents(tmp_path: Path) -> None:
    with broker_in(tmp_path) as broker, listening(broker) as listener:
        done = demo("--broker", f"127.0.0.1:{broker.port}")
        assert done.returncode == 0, done.stderr
        assert "Sent to the broker." in done.stdout
        until(lambda: listener.on("guardian/status"), "the status arrives")
        topics = {heard.topic for heard in listener.heard}
        configs = [t for t in topics if t.startswith("homeassistant/device/guardian_")]
        assert len(configs) == 9, "the gateway and eight devices"
        told = [h.json() for h in listener.heard if h.topic.endswith("/incident")]
        assert told[0]["event_type"] == "opened"
        assert {t["device"]["name"] for t in told} == {"hall-camera"}


def test_a_demo_that_finds_nothing_fails(tmp_path: Path) -> None:
    from tests import bundles  # noqa: PLC0415 - only here

    dull = bundles.write(tmp_path / "dull", bias=(9.0, *[0.0] * (len(bundles.CLASSES) - 1)))
    done = demo("--bundle", str(dull))
    assert done.returncode == 1
    assert "the demo failed" in done.stderr
