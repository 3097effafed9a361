"""VLANs of the kernel's own: the trunk and the interface above it show the same device."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.broker import until
from tests.namespaces import Host, hosts, join
from tests.test_daemon import daemon, query, send, systemd

pytestmark = [pytest.mark.net, pytest.mark.slow]

CONNECTIONS = (
    "SELECT device, orig_h, orig_p, resp_h, resp_p, orig_pkts, orig_bytes, orig_ip_bytes "
    "FROM connections WHERE resp_p = 9999 ORDER BY orig_h, orig_p"
)


def tagged(host: Host, over: str, vlan: int) -> str:
    """Make the interface of a VLAN above another and return its name; skip where none can be."""
    name = f"{over}.{vlan}"
    words = "link", "add", "link", over, "name", name, "type", "vlan", "id", str(vlan)
    done = subprocess.run(
        ["ip", "-n", host.name, *words], capture_output=True, text=True, check=False
    )
    if done.returncode and "Unknown device type" in done.stderr:
        pytest.skip(f"this kernel has no VLANs (8021q): {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    host.ip("link", "set", name, "up")
    return name


@pytest.mark.timeout(600)
def test_trunk_and_vlan_show_the_same_device(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("trunk", "vlan", "both")}
    with hosts("device", "gateway") as (device, gateway):
        join(device, "eth0", gateway, "lan0")
        for vlan in (10, 20):
            ours, theirs = tagged(gateway, "lan0", vlan), tagged(device, "eth0", vlan)
            gateway.ip("addr", "add", f"192.168.{vlan}.1/24", "dev", ours)
            device.ip("link", "set", theirs, "address", f"02:00:00:00:00:{vlan}")
            device.ip("addr", "add", f"192.168.{vlan}.20/24", "dev", theirs)
        notify = tmp_path / "notify"
        with (
            systemd(notify) as said,
            daemon(gateway, paths["trunk"], "lan0", notify) as (trunk, _),
            daemon(gateway, paths["vlan"], "lan0.10", notify) as (alone, _),
            daemon(gateway, paths["both"], "lan0,lan0.10", notify) as (both, log),
        ):
            until(lambda: said.count("READY=1") == 3, "all are ready", 300)
            for vlan in (10, 20):
                send(device, 30, 9_999, f"192.168.{vlan}.1")
            devices = "SELECT key FROM devices"
            until(
                lambda: all(("02:00:00:00:00:10",) in query(p, devices) for p in paths.values()),
                "all know the device",
                60,
            )
            for one in (trunk, alone, both):
                one.send_signal(signal.SIGTERM)
            for one in (trunk, alone, both):
                assert one.wait(120) == 0
        assert "lan0.10 is left out: lan0 is watched too" in log.read_text()
    found = {name: query(path, CONNECTIONS) for name, path in paths.items()}
    inner = [row for row in found["trunk"] if row[1] == "192.168.10.20"]
    assert len(inner) == 30
    assert {row[0] for row in inner} == {"02:00:00:00:00:10"}
    assert found["vlan"] == inner  # to the byte: the tag is not counted
    assert len(found["trunk"]) == 60  # and the other VLAN's, once
    assert found["both"] == found["trunk"]
