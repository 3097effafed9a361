"""`make test-hub`: a real Home Assistant, a real broker and a running daemon.

Root alone: a namespace is the device at home. Nothing leaves this machine. It takes about five
minutes after the first time; `--write docs/hub.md` writes the lists of entities there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from guardian.const import NS
from guardian.outbox import LATE_NS
from tests.broker import Broker, listening, until
from tests.hub import blueprint, demo
from tests.hub.hass import CACHE, Hass
from tests.namespaces import Host, hosts, ip

ROOT = Path(__file__).parent.parent.parent
MARKS = {
    "entities": ("<!-- make test-hub writes what follows -->\n", "<!-- until here -->\n"),
    "demo": ("<!-- make test-hub writes the demo's -->\n", "<!-- until here, the demo's -->\n"),
}
MAC = "02:00:00:00:61:14"
SLUG = MAC.replace(":", "")
WANTED_DEVICE = {
    "binary_sensor": {"threat"},
    "sensor": {"score", "anomaly", "state", "connections", "bytes"},
    "event": {"incident", "new"},
    "switch": {"snooze"},
    "button": {"fine", "bad", "forget"},
    "text": {"name"},
}
WANTED_GATEWAY = {
    "binary_sensor": {"running"},
    "sensor": {
        "open_incidents", "devices", "blind_spots", "drops", "encrypted_dns", "one_sided",
        "packets_rate", "connections_rate", "packets", "connections", "told", "rules",
        "last_drill", "bundle", "questions",
    },
    "event": {"new_device"},
    "button": {"drill", "undo"},
    "number": {"budget"},
    "update": {"models"},
}  # fmt: skip


def say(text: str) -> None:
    print(f"ok    {text}", flush=True)


@contextmanager
def home() -> Iterator[Host]:
    """A device behind an interface of this machine."""
    with hosts("device") as (device,):
        ip("link", "add", "ghub0", "type", "veth", "peer", "name", "eth0", "netns", device.name)
        try:
            ip("addr", "add", "192.168.61.1/24", "dev", "ghub0")
            ip("link", "set", "ghub0", "up")
            device.ip("link", "set", "eth0", "address", MAC)
            device.ip("link", "set", "eth0", "up")
            device.ip("addr", "add", "192.168.61.20/24", "dev", "eth0")
            yield device
        finally:
            subprocess.run(["ip", "link", "del", "ghub0"], check=False, capture_output=True)


@contextmanager
def daemon(folder: Path, broker: Broker) -> Iterator[subprocess.Popen[bytes]]:
    """`guardian run` on that interface."""
    environment = os.environ | {
        "GUARDIAN_STORE_PATH": str(folder / "guardian.db"),
        "GUARDIAN_STORE_COMMIT_S": "0.5",
        "GUARDIAN_MQTT_HOST": "127.0.0.1",
        "GUARDIAN_MQTT_PORT": str(broker.port),
    }
    words = [sys.executable, "-m", "guardian.cli", "run", "-i", "ghub0"]
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def knock(device: Host, ports: int) -> None:
    """Call closed ports of the gateway: to a plain counter that is a scan."""
    script = (
        "import socket\n"
        f"for port in range(20000, {20_000 + ports}):\n"
        "    s = socket.socket(); s.settimeout(0.2)\n"
        "    s.connect_ex(('192.168.61.1', port)); s.close()\n"
    )
    device.run(sys.executable, "-c", script)


def main() -> None:
    write = Path(sys.argv[2]) if sys.argv[1:2] == ["--write"] else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        broker = Broker(folder)
        broker.start()
        stack.callback(broker.stop)
        hub = Hass(broker.port)
        stack.callback(hub.stop)
        hub.start()
        say("Home Assistant runs")
        blueprint.take(hub, ROOT / "docs" / "blueprints")
        say("the blueprint was imported by its address, and an automation made of it")
        listed = {"demo": demo.demo(hub, broker)}
        say("make demo's home was shown, heard the hub, and is gone again")
        device = stack.enter_context(home())
        process = stack.enter_context(daemon(folder, broker))
        answers = stack.enter_context(listening(broker, "guardian/answer"))
        try:
            installation = entities(hub, device)
            drill(hub, installation)
            incident(hub, device, answers.heard)
            words(hub, installation)
            models(hub, folder, installation)
            listed["entities"] = restarts(hub, broker, installation, device)
            forget(hub)
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            hub.wait(
                f"binary_sensor.{installation}_running", lambda s: s == "off", "Running is off"
            )
            hub.wait(f"sensor.{installation}_devices", lambda s: s == "unavailable", "unavailable")
            say("Running is off and the rest unavailable when Guardian stops")
        except BaseException:
            print((folder / "daemon.log").read_text()[-3000:], hub.log[-6000:], sep="\n---\n")
            raise
        hub.stop()
        complaints = [
            line
            for line in hub.log.splitlines()
            if re.search(r"(WARNING|ERROR).*(mqtt|guardian|blueprint|automation)", line)
            and not any(usual in line for usual in USUAL)
        ]
        assert not complaints, complaints
        say("Home Assistant's log has no complaint about Guardian")
    for name, rows in listed.items():
        print(rows)
        if write is not None:
            mark, end = MARKS[name]
            before, _, rest = write.read_text().partition(mark)
            write.write_text(f"{before}{mark}\n{rows}\n{end}{rest.partition(end)[2]}")


def entities(hub: Hass, device: Host) -> str:
    """All entities that are not disabled have a state; return the gateway's id."""
    other = {
        "name": "Signal", "unique_id": "router_signal", "state_topic": "router/signal",
        "device": {"identifiers": ["router_1"], "connections": [["mac", MAC]], "name": "A lease"},
    }  # fmt: skip
    topic = "homeassistant/sensor/router_signal/config"
    hub.do("mqtt.publish", topic=topic, payload=json.dumps(other), retain=True)
    knock(device, 3)
    hub.wait(f"binary_sensor.guardian_{SLUG}_threat", lambda s: s == "off", "the device is shown")
    states = hub.states()
    running = next(
        name for name in states if re.fullmatch(r"binary_sensor\.guardian_\w+_running", name)
    )
    installation = running.removeprefix("binary_sensor.").removesuffix("_running")
    hub.wait(running, lambda s: s == "on", "Running is on")
    hub.wait(f"sensor.{installation}_bundle", lambda s: s not in ("", "unknown"), "the bundle")
    for object_id, wanted in ((f"guardian_{SLUG}", WANTED_DEVICE), (installation, WANTED_GATEWAY)):
        for platform, keys in wanted.items():
            for key in keys - HIDDEN:
                state = hub.state(f"{platform}.{object_id}_{key}")
                assert state not in ("", "unavailable"), f"{platform}.{object_id}_{key}: {state}"
    say("every entity that is not disabled has a state")
    return installation


USUAL = ("No device components to cleanup", "The connection was lost", "Connection refused")
"""What Home Assistant says of any device that is taken off, and of a broker that goes."""

HIDDEN = {"connections", "bytes", "forget", "packets_rate", "connections_rate", "packets"}
"""Disabled until the user switches them on."""


def drill(hub: Hass, installation: str) -> None:
    """The fire drill's button rings the phone, and nothing of it stays."""
    hub.do("button.press", entity_id=f"button.{installation}_drill")
    until(hub.phone, "the phone rings", 90)
    told = hub.phone()[0]
    assert told["title"].startswith("Drill: Fire drill: scan"), told
    last = f"sensor.{installation}_last_drill"
    hub.wait(last, lambda s: s.startswith("20"), "last drill")
    until(
        lambda: "binary_sensor.guardian_0247444e0001_threat" not in hub.states(), "it is gone", 90
    )
    hub.wait(f"sensor.{installation}_told", lambda s: s == "0", "a drill spends no alert")
    say(f"fire drill: the phone rang ({told['title']!r}); its device is gone again")


def incident(hub: Hass, device: Host, answers: Sequence[object]) -> None:
    """An incident of a device, told by event, sensor and phone; answered by the phone's button."""
    before = len(hub.phone())
    threat = f"binary_sensor.guardian_{SLUG}_threat"
    scan(device)
    hub.wait(threat, lambda s: s == "on", "the threat is on")
    event = hub.states()[f"event.guardian_{SLUG}_incident"]["attributes"]
    assert event["event_type"] in {"opened", "escalated"}
    assert event["explanation"]
    assert event["advice"]
    until(lambda: len(hub.phone()) > before, "the phone rings", 30)
    told = hub.phone()[before]
    shown = card(hub)
    assert event["explanation"] in shown, shown
    assert event["advice"] in shown, shown
    fine = next(
        a["action"] for a in told["data"]["actions"] if a["action"].startswith("GUARDIAN_fine")
    )
    hub.ask("POST", "/api/events/mobile_app_notification_action", {"action": fine})
    hub.wait(threat, lambda s: s == "off", "This was fine ends it")
    until(lambda: answers, "Guardian answers")
    assert "All quiet." in card(hub)
    say("incident: threat on, event, card and phone tell it; the phone's button ended it")


def scan(device: Host) -> None:
    while time.time() % 60 > 40:
        time.sleep(1)  # the counter counts a minute of the clock
    knock(device, 150)


def missed(hub: Hass, broker: Broker, told: int, late: bool) -> None:
    """What opened while the hub could not hear is told now; answered and taken back after it."""
    until(lambda: len(hub.phone()) > told, "the phone rings", 120)
    event = hub.states()[f"event.guardian_{SLUG}_incident"]["attributes"]
    title = hub.phone()[told]["title"]
    assert event["late" if late else "repeat"] is True, event
    assert title.endswith(", from earlier") == ("late" in event), title
    with listening(broker, "guardian/answer") as answers:
        for count, what in enumerate((f"device/{SLUG}/fine", "gateway/undo"), 1):
            hub.do("mqtt.publish", topic=f"guardian/{what}/set", payload="PRESS", qos=1)
            until(lambda n=count: len(answers.heard) >= n, "Guardian answers")  # type: ignore[misc]


def card(hub: Hass) -> str:
    """Return what the documents' dashboard card shows now."""
    content = yaml.safe_load((ROOT / "docs" / "blueprints" / "dashboard.yaml").read_text())[
        "content"
    ]
    return hub.render(content)


def words(hub: Hass, installation: str) -> None:
    """Budget, name, snooze, undo: what is said in the hub is what it shows."""
    rules = f"sensor.{installation}_rules"
    hub.wait(rules, lambda s: s == "1", "the answer holds")
    hub.do("button.press", entity_id=f"button.{installation}_undo")
    hub.wait(rules, lambda s: s == "0", "undo takes it back")
    budget = f"number.{installation}_budget"
    hub.do("number.set_value", entity_id=budget, value=5)
    hub.wait(budget, lambda s: s == "5", "the budget")
    name = f"text.guardian_{SLUG}_name"
    hub.do("text.set_value", entity_id=name, value="Hall camera")
    hub.wait(name, lambda s: s == "Hall camera", "the name")
    until(
        lambda: (
            hub.states()[f"binary_sensor.guardian_{SLUG}_threat"]["attributes"]["friendly_name"]
            == "Hall camera"
        ),
        "the device is called so",
    )
    snooze = f"switch.guardian_{SLUG}_snooze"
    hub.do("switch.turn_on", entity_id=snooze)
    hub.wait(snooze, lambda s: s == "on", "snooze is on")
    hub.do("switch.turn_off", entity_id=snooze)
    hub.wait(snooze, lambda s: s == "off", "snooze is off")
    say("undo, budget, name and snooze do what they say")


def models(hub: Hass, folder: Path, installation: str) -> None:
    """A bundle laid ready shows as an update; pressed, it is tried and takes over."""
    ready = folder / "bundles" / "ready"
    shutil.copytree(ROOT / "models" / "default", ready)
    manifest = json.loads((ready / "manifest.json").read_text())
    old, new = manifest["version"], "2020.1.1"  # what a person lays ready is offered, also older
    (ready / "manifest.json").write_text(json.dumps(manifest | {"version": new}))
    update = f"update.{installation}_models"
    hub.wait(update, lambda s: s == "on", "an update is offered")
    attributes = hub.states()[update]["attributes"]
    assert attributes["installed_version"].startswith(f"{old} (")
    assert attributes["latest_version"].startswith(f"{new} (")
    assert attributes["release_summary"]
    hub.do("update.install", entity_id=update)
    hub.wait(update, lambda s: s == "off", "it is installed", 120)
    assert hub.states()[update]["attributes"]["installed_version"].startswith(new)
    hub.wait(f"sensor.{installation}_bundle", lambda s: s == new, "it judges")
    say("a bundle laid ready is offered as an update, tried, and takes over when pressed")


def restarts(hub: Hass, broker: Broker, installation: str, device: Host) -> str:
    """After a restart of Home Assistant, and of the broker, everything is there again, also what
    opened meanwhile.

    Return the list of entities as Home Assistant's registry has it on its disk.
    """
    hub.stop()
    listed = table(hub, installation)
    told = len(hub.phone())
    with listening(broker, f"guardian/device/{SLUG}/incident") as heard:
        scan(device)
        until(lambda: heard.heard, "an incident that Home Assistant does not hear", 90)
    assert len(hub.phone()) == told
    hub.start()
    threat = f"binary_sensor.guardian_{SLUG}_threat"
    hub.wait(threat, lambda s: s == "on", "there after a restart of Home Assistant")
    hub.wait(f"number.{installation}_budget", lambda s: s == "5", "the budget is there")
    missed(hub, broker, told, late=False)
    hub.wait(threat, lambda s: s == "off", "and answered")
    say("what opened while Home Assistant was away rang the phone when it was back")
    broker.stop()
    hub.wait(threat, lambda s: s == "unavailable", "unavailable without a broker")
    told = len(hub.phone())
    scan(device)
    time.sleep(LATE_NS / NS + 5)
    broker.start()
    hub.wait(threat, lambda s: s == "on", "there after a restart of the broker", 120)
    missed(hub, broker, told, late=True)
    hub.wait(threat, lambda s: s == "off", "and answered")
    say("what opened while the broker was away rang the phone, marked late")
    say("entities are there again after restarts of Home Assistant and of the broker")
    say("the device is one with what another tool shows of its MAC, below Guardian")
    return listed


def forget(hub: Hass) -> None:
    """A forgotten device leaves Home Assistant whole."""
    topic = f"guardian/device/{SLUG}/forget/set"
    hub.do("mqtt.publish", topic=topic, payload="PRESS", qos=1)
    until(
        lambda: not any(SLUG in name for name in hub.states()),
        "no entity of the device is left",
        60,
    )
    say("a forgotten device is gone")


def table(hub: Hass, installation: str) -> str:
    """Return the entities of Guardian and of the device that the registry lists, as a table."""
    rows = {}
    for entry in hub.registry("entity"):
        if entry["platform"] == "mqtt" and entry["unique_id"] != "router_signal":
            name = entry["entity_id"].replace(installation, "guardian_INSTALLATION")
            rows[name.replace(SLUG, "ID")] = entry
    wanted = {
        f"{platform}.{whose}_{key}"
        for whose, parts in (
            ("guardian_ID", WANTED_DEVICE),
            ("guardian_INSTALLATION", WANTED_GATEWAY),
        )
        for platform, keys in parts.items()
        for key in keys
    }
    assert set(rows) == wanted, set(rows) ^ wanted
    lines = ["| entity | called | |", "|---|---|---|"]
    for name, entry in sorted(rows.items(), key=lambda row: ("INSTALL" not in row[0], row[0])):
        notes = [
            entry["entity_category"] or "",
            "disabled at first" if entry["disabled_by"] else "",
        ]
        called = entry["original_name"] or "(the device's name)"
        lines.append(f"| `{name}` | {called} | {', '.join(filter(None, notes))} |")
    devices = {d["id"]: d for d in hub.registry("device")}
    mine = devices[rows["binary_sensor.guardian_ID_threat"]["device_id"]]
    own = rows["binary_sensor.guardian_INSTALLATION_running"]["device_id"]
    assert mine["via_device_id"] == own
    assert ["mqtt", "router_1"] in mine["identifiers"], "merged by MAC with what was there"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not (CACHE.exists() and os.geteuid() == 0):
        raise SystemExit("make test-hub sets this up; it needs root for a namespace")
    main()
