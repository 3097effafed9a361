"""Devices: who is at home, by hand-made packets and against a slow twin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import capture, decode
from guardian.addresses import Lan, mac_text, pack
from guardian.const import MAX_ADDRESSES_PER_DEVICE, NS, ROUTER_GRACE_S, SETTLED_S
from guardian.devices import Device, DeviceTable
from guardian.dhcp import DHCP_MAGIC
from guardian.tables import Arps, Conns, Decoded, Packets

CAM, HUB, GW, NEW = 0x020000000001, 0x020000000002, 0x0200000000FE, 0x020000000009
GROUP_MAC = 0x01005E0000FB
CAM4, HUB4, GW4, CLOUD, OTHER = (
    "192.168.1.5",
    "192.168.1.6",
    "192.168.1.1",
    "34.1.2.3",
    "52.9.9.9",
)
GLOBAL6, LINK6, CLOUD6 = "2001:db8:1::5", "fe80::5", "2001:db8:ffff::1"


@dataclass
class P:
    """A packet, as short as a test likes it."""

    src_mac: int
    src: str
    dst_mac: int
    dst: str
    ts: float = 0.0
    proto: int = 17
    sport: int = 5000
    dport: int = 6000
    payload: bytes = b""


def decoded(packets: list[P], arps: list[tuple[float, int, str]] | None = None) -> Decoded:
    """Return what decode would have made of packets, and of ARPs (time, MAC, address)."""
    table = Packets.blank(len(packets))
    data = b""
    for k, p in enumerate(packets):
        table.ts[k] = int(p.ts * NS)
        table.src_mac[k], table.dst_mac[k] = p.src_mac, p.dst_mac
        table.src[k], table.dst[k] = pack(p.src), pack(p.dst)
        table.v6[k] = ":" in p.src
        table.proto[k], table.sport[k], table.dport[k] = p.proto, p.sport, p.dport
        table.payload_start[k], table.payload_cap[k] = len(data), len(p.payload)
        data += p.payload
    said = Arps.blank(len(arps or []))
    for k, (ts, mac, address) in enumerate(arps or []):
        said.ts[k], said.op[k], said.src_mac[k] = int(ts * NS), 1, mac
        said.src[k] = pack(address)
    now = int(max([0.0, *(p.ts for p in packets)]) * NS)
    return Decoded(table, said, np.frombuffer(data, dtype=np.uint8), {}, 0, now)


def conns(rows: list[tuple[int, str, int, str]], told: float = 1e6) -> Conns:
    """Return slices of (originator's MAC, address, responder's MAC, address)."""
    table = Conns.blank(len(rows))
    for k, (orig_mac, orig, resp_mac, resp) in enumerate(rows):
        table.orig_mac[k], table.resp_mac[k] = orig_mac, resp_mac
        table.orig[k], table.resp[k] = pack(orig), pack(resp)
    table.told[:] = int(told * NS)
    return table


def out(mac: int = CAM, src: str = CAM4, ts: float = 0.0) -> P:
    """Return a packet to the Internet by way of the gateway."""
    return P(mac, src, GW, CLOUD, ts)


def back(ts: float = 0.0, dst_mac: int = CAM, dst: str = CAM4) -> P:
    return P(GW, CLOUD, dst_mac, dst, ts)


def dns(ts: float = 0.0) -> P:
    return P(GW, "192.168.1.77", CAM, CAM4, ts, sport=53)


def keys(table: DeviceTable) -> list[str]:
    return [d.key for d in table.devices()]


def sides(
    table: DeviceTable, *rows: tuple[int, str, int, str], told: float = 1e6
) -> list[tuple[str, str]]:
    """Return the keys of both sides, empty for none."""
    orig, resp = table.sides(conns(list(rows), told))
    return [(table.key(o), table.key(r)) for o, r in zip(orig.tolist(), resp.tolist(), strict=True)]


def test_a_device_and_its_gateway_are_told_apart() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([P(CAM, CAM4, GW, GW4, 0, dport=53), P(GW, GW4, CAM, CAM4, 0, sport=53)]))
    table.step(decoded([out(ts=1), back(ts=2)]))
    cam, gateway = table.devices()
    assert (cam.key, cam.addresses, cam.gateway) == (mac_text(CAM), (CAM4,), False)
    assert (gateway.mac, gateway.gateway) == (mac_text(GW), True)
    assert sides(table, (CAM, CAM4, GW, CLOUD), (CAM, CAM4, GW, GW4), (GW, CLOUD, CAM, CAM4)) == [
        (mac_text(CAM), ""),
        (mac_text(CAM), ""),
        ("", mac_text(CAM)),
    ]


def test_both_sides_of_a_local_connection_count() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([P(CAM, CAM4, HUB, HUB4), P(HUB, HUB4, CAM, CAM4)]))
    assert sides(table, (CAM, CAM4, HUB, HUB4)) == [(mac_text(CAM), mac_text(HUB))]


def test_multicast_broadcast_and_nobody_are_no_devices() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([out(), P(HUB, HUB4, GROUP_MAC, "224.0.0.251")]))
    assert sides(
        table,
        (HUB, HUB4, GROUP_MAC, "224.0.0.251"),
        (HUB, HUB4, 0xFFFFFFFFFFFF, "192.168.1.255"),
        (HUB, HUB4, 0xFFFFFFFFFFFF, "255.255.255.255"),
        (0, "0.0.0.0", 0, HUB4),
        (HUB, HUB4, 0, "192.168.1.99"),
        (HUB, HUB4, HUB, "fe80::6"),
    ) == [
        (mac_text(HUB), ""),
        (mac_text(HUB), ""),
        (mac_text(HUB), ""),
        ("", mac_text(HUB)),
        (mac_text(HUB), ""),
        (mac_text(HUB), ""),
    ]


def test_a_device_without_an_address_counts_by_its_mac() -> None:
    payload = bytes([1, 1, 6, 0]) + bytes(232) + DHCP_MAGIC + b"\x0c\x0bhall-camera\xff"
    table = DeviceTable(Lan())
    table.step(
        decoded(
            [
                P(CAM, "0.0.0.0", 0xFFFFFFFFFFFF, "255.255.255.255", 0, 17, 68, 67, payload),
                P(HUB, "::", 0x3333FF000005, "ff02::1:ff00:5"),
            ]
        )
    )
    cam, hub = table.devices()
    assert (cam.name, cam.addresses) == ("hall-camera", ())
    assert hub.addresses == ()
    assert sides(table, (CAM, "0.0.0.0", 0xFFFFFFFFFFFF, "255.255.255.255")) == [(cam.key, "")]


def test_the_users_name_comes_first_then_dhcp_then_the_address() -> None:
    payload = bytes([1, 1, 6, 0]) + bytes(232) + DHCP_MAGIC + b"\x0c\x03cam\xff"
    table = DeviceTable(Lan(), names={CAM4: "Hall camera\n"})
    table.step(decoded([P(HUB, HUB4, CAM, CAM4, 0)]))
    assert table.ref(0).name == HUB4
    table.step(decoded([P(HUB, HUB4, GW, GW4, 1, 17, 68, 67, payload), out(ts=2)]))
    assert (table.ref(0).name, table.ref(1).name) == ("cam", "Hall camera")
    table.set_name(mac_text(HUB).upper(), "Hub")
    assert table.ref(0).name == "Hub"
    assert {table.find(text) for text in ("hub", "CAM", HUB4, mac_text(HUB))} == {mac_text(HUB)}
    assert table.find("hall camera") == mac_text(CAM)
    assert table.find("nobody") == table.find("") == ""
    table.set_name(mac_text(HUB), "")
    assert table.ref(0).name == "cam"


def test_the_user_may_write_a_mac_or_an_address_in_any_form() -> None:
    for written in (mac_text(CAM).upper().replace(":", "-"), f"::ffff:{CAM4}", f" {CAM4} "):
        table = DeviceTable(Lan(), names={written: "Hall camera"})
        table.step(decoded([out(ts=2)]))
        assert "Hall camera" in {table.ref(d.index).name for d in table.devices()}, written


def test_ipv6_addresses_join_their_mac() -> None:
    table = DeviceTable(Lan())
    table.step(
        decoded(
            [
                P(CAM, LINK6, 0x333300000001, "ff02::1", 0),
                out(ts=1),
                P(CAM, GLOBAL6, GW, CLOUD6, 2),
                P(GW, CLOUD6, CAM, GLOBAL6, 3),
            ]
        )
    )
    assert keys(table) == [mac_text(CAM)]
    assert table.device(0).addresses == (LINK6, CAM4, GLOBAL6)
    assert table.ref(0).ip == CAM4
    assert sides(table, (CAM, GLOBAL6, GW, CLOUD6), (GW, CLOUD6, CAM, GLOBAL6)) == [
        (mac_text(CAM), ""),
        ("", mac_text(CAM)),
    ]


def test_a_home_with_ipv6_alone_learns_its_router_from_its_advertisement() -> None:
    advert = P(GW, "fe80::1", 0x333300000001, "ff02::1", 0, 58, 134, 0)
    table = DeviceTable(Lan())
    table.step(decoded([advert, P(CAM, LINK6, 0x3333FF000001, "ff02::1", 1)]))
    table.step(decoded([P(CAM, GLOBAL6, GW, CLOUD6, 2), P(GW, CLOUD6, CAM, GLOBAL6, 3)]))
    assert [d.gateway for d in table.devices()] == [True, False]
    assert sides(table, (GW, CLOUD6, CAM, GLOBAL6)) == [("", mac_text(CAM))]


def test_forged_sources_count_for_the_device_that_forges_them() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([out(), back(1)]))
    table.step(decoded([P(CAM, f"8.8.{k}.1", GW, CLOUD, 2) for k in range(100)]))
    assert keys(table) == [mac_text(CAM)]
    assert sides(table, (CAM, "8.8.4.1", GW, CLOUD)) == [(mac_text(CAM), "")]


def test_a_device_cannot_declare_itself_a_router() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([out(), out(HUB, HUB4, 1)]))
    late = ROUTER_GRACE_S + 100.0
    # Lures the hub's traffic, sends what pretends to come from outside, advertises itself.
    lured = [P(HUB, HUB4, CAM, CLOUD, late), P(CAM, OTHER, HUB, HUB4, late)]
    advert = P(CAM, LINK6, 0x333300000001, "ff02::1", late, 58, 134, 0)
    table.step(decoded([*lured, advert, P(CAM, CAM4, CAM, CLOUD, late)]))
    assert [d.gateway for d in table.devices()] == [False, False]
    assert sides(table, (CAM, CAM4, HUB, HUB4), (CAM, OTHER, HUB, HUB4)) == [
        (mac_text(CAM), mac_text(HUB)),
        (mac_text(CAM), mac_text(HUB)),
    ]


def test_a_second_router_is_believed_while_it_is_new() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([out()]))
    late = ROUTER_GRACE_S + 100.0
    mesh = P(NEW, "192.168.1.2", HUB, HUB4, late)
    table.step(decoded([mesh, P(HUB, HUB4, NEW, CLOUD, late + 30)]))
    assert {d.key: d.gateway for d in table.devices()}[mac_text(NEW)]
    assert sides(table, (NEW, "192.168.1.2", HUB, HUB4)) == [("", mac_text(HUB))]


def test_addresses_behind_a_second_router_are_devices_of_their_own() -> None:
    table = DeviceTable(Lan(), gateway_macs=[GW])
    table.step(decoded([P(GW, "10.0.0.7", CAM, CAM4, 0), P(GW, "10.0.0.8", CAM, CAM4, 1), dns(2)]))
    assert keys(table) == ["ip:10.0.0.7", "ip:10.0.0.8", mac_text(GW)]
    table.step(decoded([P(CAM, CAM4, GW, "10.0.0.7", 3)]))
    assert sides(table, (CAM, CAM4, GW, "10.0.0.7"), (CAM, CAM4, GW, "192.168.1.77")) == [
        (mac_text(CAM), "ip:10.0.0.7"),
        (mac_text(CAM), ""),
    ]


def test_a_configured_gateway_is_never_judged() -> None:
    table = DeviceTable(Lan(), gateway_macs=[GW], gateway_addresses=["192.168.1.77"])
    table.step(decoded([P(GW, "192.168.1.77", CAM, CAM4), P(CAM, CAM4, GW, "192.168.1.77")]))
    assert [d.gateway for d in table.devices()] == [False, True]
    assert sides(table, (GW, "192.168.1.77", CAM, CAM4)) == [("", mac_text(CAM))]


def test_an_address_that_a_router_announces_is_its_own() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([out()], [(1.0, GW, "192.168.1.77")]))
    table.step(decoded([P(GW, "192.168.1.77", CAM, CAM4, 2)]))
    assert sorted(keys(table)) == sorted([mac_text(CAM), mac_text(GW)])


def test_logs_without_macs_go_by_address() -> None:
    table = DeviceTable(Lan())
    rows = conns(
        [(0, CAM4, 0, CLOUD), (0, CAM4, 0, HUB4), (0, CAM4, 0, GW4), (0, CAM4, 0, "192.168.1.200")]
    )
    rows.resp_pkts[:] = [5, 5, 5, 0]
    rows.proto[:], rows.resp_p[2] = 17, 53
    table.learn_from_conns(rows)
    assert sorted(keys(table)) == [f"ip:{GW4}", f"ip:{CAM4}", f"ip:{HUB4}"]
    found = sides(table, *[(0, CAM4, 0, a) for a in (CLOUD, HUB4, GW4, "192.168.1.200")])
    assert found == [
        (f"ip:{CAM4}", ""),
        (f"ip:{CAM4}", f"ip:{HUB4}"),
        (f"ip:{CAM4}", ""),
        (f"ip:{CAM4}", ""),
    ]
    assert {d.key: d.gateway for d in table.devices()}[f"ip:{GW4}"]


def test_a_log_after_a_capture_finds_the_device_by_its_address() -> None:
    table = DeviceTable(Lan())
    table.step(decoded([out()]))
    table.learn_from_conns(conns([(0, CAM4, 0, CLOUD)]))
    assert keys(table) == [mac_text(CAM)]
    assert sides(table, (0, CAM4, 0, CLOUD)) == [(mac_text(CAM), "")]


def test_invented_macs_push_out_each_other_not_the_home() -> None:
    table = DeviceTable(Lan(), capacity=8)
    table.step(decoded([out(), out(ts=SETTLED_S + 1.0)]))
    evicted = set()
    for k in range(50):
        table.step(decoded([P(0x060000000000 + k, f"10.1.0.{k}", HUB, HUB4, SETTLED_S + 2.0 + k)]))
        evicted.update(table.take_evicted())
    assert len(table) == 8
    assert table.evictions == 43
    assert table.key(0) == mac_text(CAM)
    assert 0 not in evicted
    assert evicted <= set(range(1, 8))


def test_a_freed_index_goes_to_another_device_only_after_it_was_told() -> None:
    table = DeviceTable(Lan(), capacity=2)
    table.step(decoded([P(CAM, CAM4, GW, GW4, 0), P(HUB, HUB4, GW, GW4, 1)]))
    table.step(decoded([P(NEW, "192.168.1.9", GW, GW4, 2)]))
    assert table.take_evicted() == [0]
    assert table.key(0) == mac_text(NEW)
    assert sides(table, (CAM, CAM4, GW, CLOUD)) == [("", "")]
    table.step(decoded([P(NEW, "192.168.1.9", GW, GW4, 3)]))
    assert table.take_evicted() == []


def test_a_device_keeps_its_latest_addresses() -> None:
    table = DeviceTable(Lan())
    table.step(
        decoded([P(CAM, f"10.0.{k // 200}.{k % 200 + 2}", HUB, HUB4, k) for k in range(400)])
    )
    known = table.device(0).addresses
    assert len(known) == MAX_ADDRESSES_PER_DEVICE
    assert known[-1] == "10.0.1.201"
    assert sides(table, (0, "10.0.0.2", 0, CLOUD), (0, "10.0.1.201", 0, CLOUD)) == [
        ("", ""),
        (mac_text(CAM), ""),
    ]


def test_devices_survive_a_restart() -> None:
    payload = bytes([1, 1, 6, 0]) + bytes(232) + DHCP_MAGIC + b"\x0c\x03cam\xff"
    table = DeviceTable(Lan())
    table.step(decoded([P(CAM, CAM4, GW, GW4, 0, 17, 68, 67, payload), out(ts=1), back(2), dns(3)]))
    again = DeviceTable(Lan())
    again.load(table.devices())

    def plain(devices: list[Device]) -> list[tuple[object, ...]]:
        return [
            (d.key, d.mac, d.addresses, d.name, d.gateway, d.first_seen, d.last_seen)
            for d in devices
        ]

    assert plain(again.devices()) == plain(table.devices())
    assert sides(again, (CAM, CAM4, GW, CLOUD), (GW, "192.168.1.77", CAM, CAM4)) == [
        (mac_text(CAM), ""),
        ("", mac_text(CAM)),
    ]


@pytest.mark.parametrize(
    ("capture_file", "name", "ip", "gateway"),
    [
        ("one-week-2021/schlage-lock-01.pcap", "Schlage", "192.168.1.122", "00:1c:7f:53:d0:28"),
        ("one-week-2021/ultraloq-hub-01.pcap", "UB01", "192.168.1.125", "00:1c:7f:53:d0:28"),
        ("blink-hub-idle-2019/2019-04-25_idle.pcap", "", "192.168.20.105", "8a:60:8a:92:83:f6"),
    ],
)
def test_the_router_of_a_real_capture_is_learned(
    data: Path, capture_file: str, name: str, ip: str, gateway: str
) -> None:
    """Captures of one device by its MAC: the router is only seen at the other end."""
    table = DeviceTable(Lan())
    for frames in capture.read_frames(data / "smart-home-pcaps" / capture_file):
        table.step(decode.decode(frames, ignore_checksums=True))
    known = table.devices()
    assert [d.mac for d in known if d.gateway] == [gateway]
    mine = next(d for d in known if d.mac and not d.gateway)
    assert (mine.name, mine.addresses[-1]) == (name, ip)
    # Nothing else but machines of another subnet behind that router.
    assert all(d.key.startswith("ip:") for d in known if d != mine and not d.gateway)


MACS = st.sampled_from([CAM, HUB, GW, NEW])
HOME = st.sampled_from([CAM4, HUB4, GW4, "10.0.0.7", "10.0.0.8", LINK6, "192.168.1.77"])
ANY = st.one_of(HOME, st.sampled_from([CLOUD, OTHER, "224.0.0.251", "0.0.0.0", GLOBAL6, CLOUD6]))
PACKET = st.tuples(MACS, ANY, MACS, ANY, st.sampled_from([53, 67, 5000]))


@settings(max_examples=80)
@given(
    st.lists(st.tuples(PACKET, st.integers(0, 400)), max_size=15),
    st.lists(st.integers(0, 15), max_size=4),
    st.lists(st.tuples(MACS, HOME, st.integers(0, 6_000)), max_size=3),
    st.booleans(),
)
def test_batches_may_be_cut_anywhere(
    steps: list[tuple[tuple[int, str, int, str, int], int]],
    cuts: list[int],
    arps: list[tuple[int, str, int]],
    macs: bool,
) -> None:
    """The same devices, and the same sides at every moment, however the input was cut.

    A link has MACs or has none.
    """
    packets, now = [], 0
    for (src_mac, src, dst_mac, dst, sport), gap in steps:
        now += gap + 1  # distinct times: what happens at one moment has no order
        packets.append(P(src_mac * macs, src, dst_mac * macs, dst, now, 17, sport))
    said = sorted((ts + 0.5, mac, address) for mac, address, ts in arps if macs)
    whole, parts = DeviceTable(Lan()), DeviceTable(Lan())
    whole.step(decoded(packets, said))
    rows = [(p.src_mac, p.src, p.dst_mac, p.dst) for p in packets]
    edges = [0, *sorted(min(c, len(packets)) for c in cuts), len(packets)]
    before = -1.0
    for start, end in itertools.pairwise(edges):
        until = packets[end - 1].ts if end else -1.0
        until = 1e9 if end == len(packets) else until
        parts.step(decoded(packets[start:end], [a for a in said if before < a[0] <= until]))
        before = until
        if start < end:
            told = packets[end - 1].ts
            assert sides(parts, *rows, told=told) == sides(whole, *rows, told=told)
    assert {d.key: d for d in parts.devices()} == {d.key: d for d in whole.devices()}
