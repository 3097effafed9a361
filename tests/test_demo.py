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


CAMERA = "e82070b9af02"


def clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("GUARDIAN_")}


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "guardian.cli", "demo", *words],
        capture_output=True, text=True, check=False, cwd=ROOT, env=clean(), timeout=100,
    )  # fmt: skip


def test_the_demo_reports_exactly_the_infected_device(tmp_path: Path) -> None:
    done = demo("--keep", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Right: hall-camera alone is infected" in done.stdout
    assert "Incidents" in done.stdout
    assert "guardian/device/" in done.stdout
    assert (tmp_path / "guardian.db").exists()


def test_a_broker_gets_all_until_enter_and_the_hub_is_heard(tmp_path: Path) -> None:
    """What it gets is on topics of its own; nothing of it is left."""
    with broker_in(tmp_path) as broker, listening(broker) as hub:
        words = ["demo", "--broker", f"127.0.0.1:{broker.port}"]
        with subprocess.Popen(
            [sys.executable, "-m", "guardian.cli", *words], cwd=ROOT, env=clean(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            closed = f"guardian-demo/device/{CAMERA}/incident"
            until(lambda: len(hub.on(closed)) >= 6, "the incidents arrive", 100)
            configs = {h.topic for h in hub.heard if h.topic.endswith("/config")}
            assert len(configs) == 9, "the gateway and eight devices"
            told = [h.json() for h in hub.heard if h.topic.endswith("/incident")]
            assert told[0]["event_type"] == "opened"
            assert {t["device"]["name"] for t in told} == {"hall-camera"}
            state = f"guardian-demo/device/{CAMERA}/state"
            assert hub.on(state)[-1].json()["threat"] == "ON"
            assert hub.on(state)[-1].json()["connections"] > 1_000
            hub.client.publish(f"guardian-demo/device/{CAMERA}/fine/set", "PRESS", qos=1)
            until(lambda: hub.on(state)[-1].json()["threat"] == "OFF", "This was fine ends it")
            out, err = process.communicate("\n", timeout=60)
            assert process.returncode == 0, err
            assert "Right: hall-camera alone is infected" in out
        assert not [h for h in hub.heard if h.topic.startswith("guardian/")]
        with listening(broker) as later:
            later.client.publish("end", "1", qos=1)
            until(lambda: later.on("end"), "what is kept")
            assert [h.topic for h in later.heard] == ["end"]


def test_a_demo_that_finds_nothing_fails(tmp_path: Path) -> None:
    from tests import bundles  # noqa: PLC0415 - only here

    dull = bundles.write(tmp_path / "dull", bias=(9.0, *[0.0] * (len(bundles.CLASSES) - 1)))
    done = demo("--bundle", str(dull))
    assert done.returncode == 1
    assert "the demo failed" in done.stderr
