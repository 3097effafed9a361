"""The home's networks while they change under a running daemon."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from guardian import addresses, homenet, interfaces
from guardian.addresses import Lan
from guardian.config import Settings
from guardian.const import NS
from guardian.devices import DeviceTable
from guardian.runtime import load_bundle, open_pipeline
from tests import wire


def local(lan: Lan, *texts: str) -> list[bool]:
    found: list[bool] = lan.local(addresses.pack_all(texts)).tolist()
    return found


def test_a_new_prefix_is_home_and_an_old_one_stays_so_for_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    present = {"br0": ["192.168.1.0/24", "2001:db8:1::/64"]}
    own = {"br0": ["192.168.1.1", "2001:db8:1::1"]}
    monkeypatch.setattr(interfaces, "networks", lambda name: present[name])
    monkeypatch.setattr(interfaces, "addresses", lambda name: own[name])
    lan = Lan(("192.168.0.0/16", "2001:db8:1::/64"))
    table = DeviceTable(lan)
    home = homenet.HomeNetworks(lan, table, ["br0"], named=False)
    assert not home.refresh(NS)
    assert local(lan, "2001:db8:1::9", "2001:db8:2::9") == [True, False]
    present["br0"][1], own["br0"][1] = "2001:db8:2::/64", "2001:db8:2::1"
    assert home.refresh(2 * NS)
    assert local(lan, "2001:db8:1::9", "2001:db8:2::9", "10.0.0.9", "192.0.2.9") == [
        True, True, True, False,
    ]  # fmt: skip
    assert addresses.pack("2001:db8:2::1") in table._routers.own
    assert not home.refresh(2 * NS + homenet.KEEP_NS - 1)
    assert home.refresh(2 * NS + homenet.KEEP_NS)
    assert local(lan, "2001:db8:1::9", "2001:db8:2::9") == [False, True]
    for k in range(100):
        present["br0"][1] = f"2001:db8:{k + 10:x}::/64"
        home.refresh((k + 10) * NS)
    assert len(home.networks) == 2 + homenet.MAX_GONE


def test_networks_that_the_user_named_stay_as_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "networks", lambda _name: ["2001:db8:2::/64"])
    monkeypatch.setattr(interfaces, "addresses", lambda _name: [])
    lan = Lan(("10.0.0.0/8",))
    home = homenet.HomeNetworks(lan, DeviceTable(lan), ["br0"], named=True)
    assert not home.refresh(NS)
    assert local(lan, "2001:db8:2::9", "10.1.1.1") == [False, True]


def test_what_moves_to_a_new_prefix_stays_inside_for_the_whole_pipeline() -> None:
    """Two home devices talk; after the prefix is learned nothing of it counts as outside."""
    settings = Settings()
    lan = (*addresses.PRIVATE, "2a00:db8:1::/64")
    pipeline = open_pipeline(settings, load_bundle(settings), lan=lan, live=True)
    one, two = (socket.inet_pton(socket.AF_INET6, f"2a00:db8:2::{k}") for k in (10, 11))
    at = 1_800_000_000 * NS

    def talk(port: int, now: int) -> list[tuple[bool, bool]]:
        packet = wire.ip6(wire.udp(b"hello", one, two, sport=port), 17, one, two)
        frames = wire.frames_of([wire.ether(packet, 0x86DD)])
        pipeline.step(replace(frames, ts=frames.ts * 0 + now, now=now))
        later = replace(wire.frames_of([]), now=now + 120 * NS)  # the connection expired
        found = pipeline.step(later).records
        return list(zip(found.local_orig.tolist(), found.local_resp.tolist(), strict=True))

    assert talk(40_001, at) == [(False, False)]
    pipeline.privacy.lan.set_networks((*lan, "2a00:db8:2::/64"))
    assert talk(40_002, at + 300 * NS) == [(True, True)]
