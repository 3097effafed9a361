"""`make demo BROKER=...` beside a real Home Assistant: what it shows, and that it goes again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.broker import Broker, until
from tests.hub.hass import Hass

ROOT = Path(__file__).parent.parent.parent
CAMERA = "guardian_demo_e82070b9af02"
MINE = re.compile(r"\w+\.(guardian_demo_[0-9a-f]{12}|guardian_[0-9a-f]{8})_(\w+)")


def demo(hub: Hass, broker: Broker) -> str:
    """Run it until all is shown; return the entities and their states as a table."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GUARDIAN_")}
    with subprocess.Popen(
        [sys.executable, "-m", "guardian.cli", "demo", "--broker", f"127.0.0.1:{broker.port}"],
        cwd=ROOT, env=clean, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        threat = f"binary_sensor.{CAMERA}_threat"
        hub.wait(threat, lambda s: s == "on", "the infected device is shown", 180)
        event = f"event.{CAMERA}_incident"
        hub.wait(event, lambda s: s.startswith("20"), "its incidents are heard")
        until(lambda: hub.states()[event]["attributes"]["event_type"] == "closed", "the last one")
        listed = table(hub.states())
        hub.do("button.press", entity_id=f"button.{CAMERA}_fine")
        hub.wait(threat, lambda s: s == "off", "This was fine ends it")
        out, _ = process.communicate("\n", timeout=60)
        assert process.returncode == 0, out
    until(lambda: not any(map(MINE.fullmatch, hub.states())), "nothing of it is left")
    assert hub.phone() == [], "its topics are its own: no phone rings"
    return listed


def table(states: dict[str, Any]) -> str:
    """Return Guardian's entities, those of the infected device, and a line for all others."""
    by: dict[str, dict[str, Any]] = {}
    for name, state in sorted(states.items()):
        if found := MINE.fullmatch(name):
            by.setdefault(found[1], {})[name] = state
    gateway = next(whose for whose in by if not whose.startswith("guardian_demo_"))
    lines = ["| device | entity | state |", "|---|---|---|"]
    for whose, called, short in (
        (gateway, "Guardian", "guardian_INSTALLATION"), (CAMERA, "hall-camera", "guardian_demo_ID")
    ):  # fmt: skip
        for name, state in by[whose].items():
            lines.append(f"| {called} | `{name.replace(whose, short)}` | {said(name, state)} |")
    others = [mine for whose, mine in by.items() if whose not in (gateway, CAMERA)]
    assert [len(mine) for mine in others] == [len(by[CAMERA])] * 7
    quiet = [s for mine in others for name, s in mine.items() if name.endswith("_threat")]
    assert [s["state"] for s in quiet] == ["off"] * 7
    names = ", ".join(sorted(s["attributes"]["friendly_name"] for s in quiet))
    lines.append(f"| {names} | the same {len(by[CAMERA])} each | threat `off` |")
    return "\n".join(lines) + "\n"


def said(name: str, state: dict[str, Any]) -> str:
    """Return a state as the document shows it; an event by what it was."""
    text = state["state"]
    if name.startswith("event.") and text.startswith("20"):
        attributes = state["attributes"]
        text = f"{attributes['event_type']}: {attributes['explanation'][:60]}…"
    return f"`{text}`"
