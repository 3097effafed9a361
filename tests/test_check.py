"""`guardian check`: what it says of ring, clock, disk, interfaces, figures and the hub."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from guardian import bundle, check, checkpoints, interfaces, lanside
from guardian.checkpoints import Note
from guardian.cli import cli
from guardian.config import Settings, override
from guardian.const import NS
from guardian.errors import ConfigError, GuardianError, InputError
from guardian.store import Store
from tests.broker import broker_in, listening, until


def said(test: Any, *args: Any) -> tuple[str, str]:
    """The word and the sentence of a test, as the report prints them."""
    try:
        return "ok", test(*args)
    except Note as note:
        return "note", str(note)
    except GuardianError as error:
        return "WRONG", str(error)


def settings(tmp_path: Path, **sections: dict[str, Any]) -> Settings:
    out = override(Settings(), "store", path=str(tmp_path / "guardian.db"))
    for section, values in sections.items():
        out = override(out, section, **values)
    return out


def run(*words: str) -> list[list[str]]:
    done = CliRunner().invoke(cli, ["check", "--quick", *words])
    return [[str(done.exit_code)], *(line.split(maxsplit=2) for line in done.output.splitlines())]


def test_a_broken_file_is_the_first_line_and_the_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text('[store]\npth = "x"\n', encoding="utf-8")
    code, first, *rest = run("-c", str(file))
    assert code == ["1"]
    assert first[:2] == ["WRONG", "settings"]
    assert first[2] == f"{file} line 2: unknown key 'pth'; did you mean 'path'?"
    assert len(rest) == 1  # what was not tried is said


def test_quick_is_quiet_about_what_takes_time(tmp_path: Path) -> None:
    code, *lines = run("--set", f"store.path={tmp_path / 'g.db'}", "-i", "lo")
    assert code == ["0"]
    assert [line[1] for line in lines] == [
        "settings", "interface", "ring", "model", "database", "disk", "alerts", "metrics", "notify",
    ]  # fmt: skip


def test_an_interface_that_comes_late_stops_no_start(tmp_path: Path) -> None:
    code, *lines = run("--set", f"store.path={tmp_path / 'g.db'}", "-i", "late0,late1")
    assert code == ["0"]
    assert ["note", "interface", "not there yet: late0, late1; the daemon waits for it"] in lines
    late = settings(tmp_path, capture={"interface": ("late0",)})
    assert said(check.interface, late)[0] == "WRONG"


def test_a_file_with_a_password_that_all_may_read_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text('[mqtt]\npassword = "x"\n', encoding="utf-8")
    given = settings(tmp_path, mqtt={"password": "x"})
    file.chmod(0o644)
    word, text = said(checkpoints.settings_said, file, given)
    assert (word, "chmod o-r" in text) == ("note", True)
    file.chmod(0o640)
    assert said(checkpoints.settings_said, file, given)[0] == "ok"


def test_rings_larger_than_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_memory_mib", lambda: 512)
    several = settings(tmp_path, capture={"interface": ("a", "b", "c"), "ring_mib": 100})
    word, text = said(checkpoints.ring, several)
    assert (word, "300 MiB" in text, "ring_mib" in text) == ("WRONG", True, True)
    assert said(checkpoints.ring, settings(tmp_path))[0] == "ok"
    folder = tmp_path / "sys" / "eth9"
    folder.mkdir(parents=True)
    (folder / "speed").write_text("1000\n", encoding="ascii")
    monkeypatch.setattr(lanside, "SYS", tmp_path / "sys")
    one = settings(tmp_path, capture={"interface": ("eth9",)})
    assert said(checkpoints.ring, one) == ("ok", "8 MiB: 67 ms of a full line on eth9")
    small = override(one, "capture", ring_mib=1)
    assert said(checkpoints.ring, small)[0] == "note"


def test_a_clock_behind_what_was_written_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = bundle.load(bundle.default_path())
    path = tmp_path / "guardian.db"
    monkeypatch.setattr(checkpoints, "_unsynchronised", lambda: False)
    assert said(checkpoints.clock, models, path)[0] == "ok"
    with Store(path) as store:
        store.commit(time.time_ns() + 3_600 * NS)
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = ? WHERE key = 'last_commit'",
               (str(time.time_ns() + 3_600 * NS),))  # fmt: skip
    db.commit()
    db.close()
    word, text = said(checkpoints.clock, models, path)
    assert (word, "before the last run" in text) == ("WRONG", True)
    path.unlink()
    old = replace(models, manifest={**models.manifest, "created": "2999-01-01T00:00:00Z"})
    word, text = said(checkpoints.clock, old, path)
    assert (word, "before these models were made" in text) == ("WRONG", True)
    monkeypatch.setattr(checkpoints, "_unsynchronised", lambda: True)
    assert said(checkpoints.clock, models, path)[0] == "note"


def test_a_full_disk_is_wrong_and_one_that_will_be_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(mib: int) -> None:
        found = SimpleNamespace(f_bavail=mib << 8, f_frsize=4_096)
        monkeypatch.setattr(os, "statvfs", lambda _path: found)

    given = settings(tmp_path, store={"max_mib": 1_024})
    free(2_000)
    assert said(checkpoints.disk, given)[0] == "ok"
    free(1_000)
    word, text = said(checkpoints.disk, given)
    assert (word, "max_mib" in text) == ("note", True)
    free(63)
    with pytest.raises(InputError, match="make room"):
        checkpoints.disk(given)


def test_open_figures_are_refused_unless_asked_for(tmp_path: Path) -> None:
    assert said(checkpoints.metrics, settings(tmp_path)) == ("ok", "off; nothing listens")
    loop = settings(tmp_path, metrics={"listen": "127.0.0.1:9477"})
    assert said(checkpoints.metrics, loop)[0] == "ok"
    wide = settings(tmp_path, metrics={"listen": "0.0.0.0:9477"})
    with pytest.raises(ConfigError, match="exposed = true"):
        checkpoints.metrics(wide)
    assert said(checkpoints.metrics, override(wide, "metrics", exposed=True))[0] == "note"


def test_containers_and_tunnels_are_no_home() -> None:
    for name in ("docker0", "br-0123456789ab", "veth1a2b3c4", "virbr0", "podman1", "vnet3"):
        assert lanside.of_containers(name), name
    for name in ("br0", "br-lan", "eth0", "enp3s0", "wlan0", "eth1.20", "vlan20", "vmbr0"):
        assert not lanside.of_containers(name), name
        assert not lanside.TUNNELS.fullmatch(name), name
    for name in ("wg0", "tun0", "tailscale0", "ppp0"):
        assert lanside.TUNNELS.fullmatch(name), name
    assert not any(lanside.of_containers(name) for name in lanside.guess())


def test_bridge_vlan_and_mirror_port_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kernel with VLANs lays them out; the bridge is told of in test_watch by a real one."""
    monkeypatch.setattr(lanside, "SYS", tmp_path / "net")
    monkeypatch.setattr(lanside, "VLANS", tmp_path / "vlan")
    for path in ("net/eth1", "net/eth1.20/lower_eth1", "net/eth1.30/lower_eth1", "net/mac0",
                 "net/mac0/lower_eth1", "vlan", "net/br0/bridge", "net/br0/brif/p2",
                 "net/br0/brif/p1"):  # fmt: skip
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    for name in ("eth1.20", "eth1.30"):
        (tmp_path / "vlan" / name).write_text(f"{name}  VID: 20\n", encoding="ascii")
    (tmp_path / "net" / "eth1" / "operstate").write_text("down\n", encoding="ascii")
    monkeypatch.setattr(
        interfaces, "addresses", lambda name: [] if name == "eth1" else ["10.0.0.1"]
    )

    def told(name: str, promiscuous: bool = False) -> str:
        return "; ".join(lanside.notes(name, promiscuous=promiscuous))

    assert "it carries the VLANs eth1.20, eth1.30, which are seen with it" in told("eth1")
    assert "if a mirror port leads here, set [capture] promiscuous = true" in told("eth1")
    assert "it is down" in told("eth1")
    assert "as a mirror port needs" in told("eth1", promiscuous=True)
    assert told("eth1.20") == "a VLAN: the others of its interface are not seen"
    assert "a bridge of p1, p2: " in told("br0")
    assert told("mac0") == ""
    assert "belongs to containers" in told("docker0")


@pytest.mark.parametrize(
    ("outward", "likely"),
    [
        ({"wan0"}, ["br0", "eth1.20"]),
        ({"wan0", "br0"}, ["eth1.20"]),
        ({"br0", "wan0", "eth1.20"}, ["br0", "eth1.20", "wan0"]),
        (set(), ["br0", "eth1.20", "wan0"]),
    ],
)
def test_the_lan_side_is_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outward: set[str], likely: list[str]
) -> None:
    """A router behind another one: its WAN side has a private address, too."""
    addresses = {
        "br0": ["192.168.1.1"], "eth1.20": ["fd00::1", "fe80::1"], "wan0": ["192.168.178.2"],
        "docker0": ["172.17.0.1"], "wg0": ["10.9.0.1"], "port": [], "pub0": ["198.51.100.1"],
        "lo": ["127.0.0.1"], "local0": ["fe80::2"],
    }  # fmt: skip
    for name in addresses:
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text("1\n", encoding="ascii")
    monkeypatch.setattr(lanside, "SYS", tmp_path)
    monkeypatch.setattr(lanside, "default_routes", lambda: outward)
    monkeypatch.setattr(interfaces, "names", lambda: sorted(addresses))
    monkeypatch.setattr(interfaces, "addresses", addresses.__getitem__)
    monkeypatch.setattr(interfaces, "looks_like_wan", lambda name: name == "pub0")
    assert lanside.guess() == likely


# --- the hub -------------------------------------------------------------------------


def test_the_hub_is_heard_where_its_birth_is_kept(tmp_path: Path) -> None:
    assert said(checkpoints.hub, settings(tmp_path)) == ("ok", "no broker is set")
    with broker_in(tmp_path) as broker, listening(broker) as hub:
        given = replace(settings(tmp_path), mqtt=broker.settings())
        assert said(check.broker, given)[0] == "ok"
        word, text = said(checkpoints.hub, given)
        assert (word, "nothing is kept on homeassistant/status" in text) == ("note", True)
        for state, expected in (("online", "ok"), ("offline", "note")):
            hub.client.publish("homeassistant/status", state, retain=True)
            until(lambda state=state: hub.on("homeassistant/status")[-1:] and  # type: ignore[misc]
                  hub.on("homeassistant/status")[-1].payload == state, "it is kept")  # fmt: skip
            word, text = said(checkpoints.hub, given)
            assert (word, f"says {state}" in text) == (expected, True)


def test_the_receivers_beside_the_hub(tmp_path: Path) -> None:
    given = settings(tmp_path)
    assert said(checkpoints.notify, given) == ("ok", "nothing beside the hub")
    on = replace(given, notify=replace(given.notify, eve=str(tmp_path / "eve.json")))
    assert said(checkpoints.notify, on) == ("ok", "eve")
    on = replace(given, notify=replace(given.notify, syslog="127.0.0.1"))
    assert said(checkpoints.notify, on) == ("ok", "syslog: incidents leave this machine")
    wrong = replace(given, notify=replace(given.notify, webhook="ftp://x"))
    assert said(checkpoints.notify, wrong)[0] == "WRONG"
