"""The simulated home: right bytes, right labels, the same every time, three worlds apart."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mqtt import MQTT
from scapy.layers.dhcp import DHCP
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.ntp import NTP

from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.decode import decode
from guardian.errors import ConfigError, GuardianError, InputError
from guardian.simulate import (
    SCENARIOS,
    DeviceSpec,
    Infection,
    Scenario,
    Summary,
    home,
    labels_path,
    match,
    read_labels,
    simulate,
    training,
    training_homes,
)
from guardian.simulate.build import build
from guardian.simulate.frames import Way, arp, ip_bytes, mac_bytes, words
from guardian.simulate.labels import CLASSES
from guardian.simulate.scenario import INFECTIONS, LOOKALIKES
from guardian.tables import CONN_STATES, Conns

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
FOUR = ("192.168.1.20", "8.8.4.4")
SIX = ("fe80::1", "fe80::ff:2")


def way(addresses: tuple[str, str], ttl: int = 61) -> Way:
    return Way(mac_bytes(A), mac_bytes(B), ip_bytes(addresses[0]), ip_bytes(addresses[1]), ttl)


def scapy_head(addresses: tuple[str, str], ident: int, ttl: int = 61) -> Any:
    ether = Ether(src=A, dst=B)
    if ":" in addresses[0]:
        return ether / IPv6(src=addresses[0], dst=addresses[1], hlim=ttl)
    return ether / IP(src=addresses[0], dst=addresses[1], id=ident, flags="DF", ttl=ttl)


def ident_of(frame: bytes) -> int:
    return int.from_bytes(frame[18:20], "big")


ports = st.integers(0, 65535)
addresses = st.sampled_from([FOUR, SIX])


@given(
    addresses, ports, ports, st.integers(0, 2**32 - 1), st.integers(0, 63), st.binary(max_size=99)
)
def test_tcp_frames_equal_scapys(
    pair: tuple[str, str], sport: int, dport: int, seq: int, flags: int, payload: bytes
) -> None:
    frame = way(pair).tcp(sport, dport, seq, 7, flags, 501, payload)
    body = TCP(sport=sport, dport=dport, seq=seq, ack=7, flags=flags, window=501)
    assert frame == bytes(scapy_head(pair, ident_of(frame)) / body / payload)


@given(addresses, ports, ports, st.binary(max_size=99))
def test_udp_frames_equal_scapys(
    pair: tuple[str, str], sport: int, dport: int, payload: bytes
) -> None:
    frame = way(pair).udp(sport, dport, payload)
    # DNS, NTP and others on known ports must not change what scapy packs: raw bytes only.
    body = UDP(sport=sport, dport=dport)
    assert frame == bytes(scapy_head(pair, ident_of(frame)) / body / payload)


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    one = way(FOUR)
    for value in range(65536):
        frame = one.udp(1, 2, struct.pack("!H", value))
        if frame[40:42] == b"\xff\xff":
            return
        assert frame[40:42] != b"\0\0"
    pytest.fail("no payload gave the checksum of ones")


def test_syn_options_icmp_arp_and_padding_equal_scapys() -> None:
    options = b"\x02\x04\x05\xb4\x04\x02\x01\x03\x03\x07\x01\x01"
    frame = way(FOUR).tcp(5, 80, 9, 0, 2, 1000, options=options)
    scapys = TCP(sport=5, dport=80, seq=9, flags="S", window=1000, options=[
        ("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7), ("NOP", None), ("NOP", None),
    ])  # fmt: skip
    assert frame == bytes(scapy_head(FOUR, ident_of(frame)) / scapys)

    frame = way(FOUR).icmp(8, 0, b"\0\7\0\1abc")
    assert frame == bytes(scapy_head(FOUR, ident_of(frame)) / ICMP(type=8, id=7, seq=1) / b"abc")
    frame = way(SIX).icmp(128, 0, b"\0\7\0\1abc")
    assert frame == bytes(scapy_head(SIX, 0) / ICMPv6EchoRequest(id=7, seq=1, data=b"abc"))

    ask = arp(1, mac_bytes(A), ip_bytes(FOUR[0]), bytes(6), ip_bytes(FOUR[1]))
    assert ask == bytes(
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=A, psrc=FOUR[0], pdst=FOUR[1])
    )
    padded = Way(mac_bytes(A), mac_bytes(B), ip_bytes(FOUR[0]), ip_bytes(FOUR[1]), pad=True)
    assert len(padded.tcp(1, 2, 3, 4, 16, 5)) == 60


# --- files ----------------------------------------------------------------------
def packets(path: Path) -> Iterator[tuple[int, bytes]]:
    """Walk a classic pcap by hand."""
    data = path.read_bytes()
    assert data[:4] == b"\xd4\xc3\xb2\xa1"
    at = 24
    while at < len(data):
        second, us, caplen, wirelen = struct.unpack_from("<IIII", data, at)
        assert caplen == wirelen
        yield second * 1_000_000 + us, data[at + 16 : at + 16 + caplen]
        at += 16 + caplen
    assert at == len(data)


def every_kind(hours: float = 1.2) -> Scenario:
    """A home with a set-up, an update and all infections, each for a short while."""
    quiet = home(hours=hours, at_hours=0.1, infection="telnet-scan", params=(("seconds", 30.0),))
    devices = tuple(
        DeviceSpec(d.kind, d.name, d.variant, 300.0 if d.kind == "bulb" else None,
                   900.0 if d.kind == "plug" else None)
        for d in quiet.devices
    )  # fmt: skip
    flood = (("seconds", 5.0), ("rate", 60.0))
    more = (
        Infection("local-scan", "den-speaker", 900.0, (("rate", 200.0),)),
        Infection("ssh-guess", "home-hub", 1_000.0, (("sessions", 12.0),)),
        Infection("beacon", "thermostat", 1_100.0, (("period", 40.0),)),
        Infection("download", "thermostat", 1_050.0, (("size", 30_000.0),)),
        Infection("syn-flood", "kitchen-plug", 1_500.0, flood),
        Infection("udp-flood", "annas-phone", 1_600.0, flood),
    )
    return Scenario(
        "every-kind", 5, quiet.start, hours, devices, (*quiet.infections, *more), quiet.lan
    )


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    path = tmp_path_factory.mktemp("simulated") / "every.pcap"
    return path, simulate(every_kind(), path)


def test_the_same_scenario_gives_the_same_bytes(
    tmp_path: Path, capture: tuple[Path, Summary]
) -> None:
    path, _ = capture
    simulate(every_kind(), tmp_path / "again.pcap")
    for one, two in ((path, tmp_path / "again.pcap"),
                     (labels_path(path), labels_path(tmp_path / "again.pcap"))):  # fmt: skip
        assert (
            hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(two.read_bytes()).digest()
        )


def test_packets_come_in_time_order_and_are_counted(capture: tuple[Path, Summary]) -> None:
    path, summary = capture
    times = [t for t, _ in packets(path)]
    assert all(a <= b for a, b in pairwise(times))
    assert len(times) == summary.packets
    assert (times[0] / 1e6, times[-1] / 1e6) == (summary.start, summary.end)
    assert path.stat().st_size == summary.bytes
    assert summary.end - summary.start > 1.15 * 3600


def test_every_packet_has_right_lengths_and_checksums(capture: tuple[Path, Summary]) -> None:
    seen: Counter[str] = Counter()
    for _, frame in packets(capture[0]):
        kind = int.from_bytes(frame[12:14], "big")
        if kind == 0x0806:
            seen["arp"] += 1
            continue
        if kind == 0x0800:
            assert words(frame[14:34]) == 0
            end = 14 + int.from_bytes(frame[16:18], "big")
            proto, ends, body = frame[23], frame[26:34], frame[34:end]
        else:
            assert kind == 0x86DD
            end = 54 + int.from_bytes(frame[18:20], "big")
            proto, ends, body = frame[20], frame[22:54], frame[54:end]
        assert end == len(frame) or (len(frame) == 60 and not any(frame[end:]))
        total = words(body)
        if proto in (6, 17, 58):
            total += words(ends) + proto + len(body)
        assert total % 65535 == 0
        if proto == 17:
            assert int.from_bytes(body[4:6], "big") == len(body)
        seen[f"{proto}"] += 1
    assert set(seen) == {"arp", "1", "6", "17", "58"}


@pytest.mark.slow
def test_scapy_reads_what_the_home_says(capture: tuple[Path, Summary]) -> None:
    """A sample of each protocol means to scapy what it should."""
    wanted = {"dhcp", "dns", "mdns", "ntp", "mqtt", "ra", "tls", "http", "ssdp"}
    found: Counter[str] = Counter()
    for _, frame in packets(capture[0]):
        # Plain fields decide, so that only few packets need scapy.
        if found.total() > 2_000:
            break
        packet = Ether(frame) if len(frame) < 700 else None
        if packet is None:
            continue
        if packet.haslayer(DHCP):
            found["dhcp"] += 1
            names = [o[1] for o in packet[DHCP].options if o[0] == "hostname"]
            assert names == [] or names[0] in {d.name.encode() for d in every_kind().devices}
        elif packet.haslayer(DNS):
            found["mdns" if packet.dport == 5353 else "dns"] += 1
        elif packet.haslayer(NTP):
            found["ntp"] += 1
        elif packet.haslayer(ICMPv6ND_RA):
            found["ra"] += 1
        elif packet.haslayer(MQTT):
            found["mqtt"] += 1
        elif packet.haslayer(TCP) and bytes(packet[TCP].payload)[:3] == b"\x16\x03\x01":
            found["tls"] += 1
            assert b".example" in bytes(packet[TCP].payload)
        elif packet.haslayer(TCP) and b" HTTP/1.1\r\n" in bytes(packet[TCP].payload):
            found["http"] += 1
        elif packet.haslayer(UDP) and packet.dport == 1900:
            found["ssdp"] += 1
    assert wanted <= set(found)


def flow_of(frame: bytes) -> tuple[object, ...] | None:
    """Return a direction-free 5-tuple of a packet, ICMP without type and code."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800:
        proto, a, b, at = frame[23], frame[26:30], frame[30:34], 34
    elif kind == 0x86DD:
        proto, a, b, at = frame[20], frame[22:38], frame[38:54], 54
    else:
        return None
    pa, pb = struct.unpack_from("!HH", frame, at) if proto in (6, 17) else (0, 0)
    name = {6: "tcp", 17: "udp"}.get(proto, "icmp")
    return (name, *sorted([(a, pa), (b, pb)]))


def test_labels_cover_every_flow_and_only_flows(capture: tuple[Path, Summary]) -> None:
    path, summary = capture
    flows: dict[tuple[object, ...], int] = {}
    for t, frame in packets(path):
        key = flow_of(frame)
        if key is not None:
            flows.setdefault(key, t)
    labels = read_labels(labels_path(path))
    told: dict[tuple[object, ...], int] = {}
    for row in labels:
        ends = [(ip_bytes(row.orig_h), row.orig_p), (ip_bytes(row.resp_h), row.resp_p)]
        if row.proto == "icmp":
            ends = [(a, 0) for a, _ in ends]
        told.setdefault((row.proto, *sorted(ends)), row.ts // 1000)
    assert told == flows  # same flows, and each label at its flow's first packet
    assert [r.ts for r in labels] == sorted(r.ts for r in labels)
    counts = Counter(row.label for row in labels)
    assert dict(counts) == summary.labels
    assert counts.total() == summary.connections
    assert set(counts) == set(CLASSES) - {"other"}


def test_labels_name_the_infected_device(capture: tuple[Path, Summary]) -> None:
    w, _, _ = build(every_kind())
    macs = {h.mac.hex(":"): h.name for h in w.hosts.values()}
    by_device = Counter(
        (macs[row.device], row.label)
        for row in read_labels(labels_path(capture[0]))
        if row.label != "benign"
    )
    assert {label for name, label in by_device if name == "thermostat"} == {"c2", "download"}
    assert by_device["hall-camera", "scan"] > 100
    assert by_device["den-speaker", "scan"] > 20
    assert by_device["home-hub", "brute-force"] == 12
    assert by_device["kitchen-plug", "flood"] > 100
    assert {name for name, label in by_device if label == "flood"} == {
        "kitchen-plug",
        "annas-phone",
    }


def test_an_infection_changes_nothing_of_what_was_there() -> None:
    """The quiet home's connections all stand in the infected home, at the same times."""

    def benign(scenario: Scenario) -> set[tuple[object, ...]]:
        w, _, _ = build(scenario)
        w.run(900.0)
        _, rows = w.drain(900.0)
        return {(r.ts_us, r.orig, r.resp, r.resp_p) for r in rows if r.label == "benign"}

    quiet = benign(home(hours=0.25))
    ill = benign(home("telnet-scan", hours=0.25, at_hours=0.1, device="bulb"))
    assert len(quiet) > 40
    assert quiet == ill


# --- through the product's own eyes -----------------------------------------------
def records_of(path: Path) -> Conns:
    table, parts = ConnTable(Lan()), []
    for frames in read_frames(path):
        decoded = decode(frames)
        assert decoded.malformed == 0
        assert decoded.not_understood == {}
        assert not decoded.packets.bad_csum.any()
        parts.append(table.step(decoded).records)
    return Conns.concat([*parts, table.finish().records])


def test_connections_come_out_as_intended(capture: tuple[Path, Summary]) -> None:
    path, _ = capture
    records = records_of(path)
    labels = match(records, read_labels(labels_path(path)))
    assert sum(label == "" for label in labels) < 0.01 * len(labels)
    assert not records.missed_bytes.any()
    states: dict[str, Counter[str]] = {}
    services: dict[str, Counter[str]] = {}
    for label, state, service, proto in zip(labels, records.conn_state.tolist(),
            records.service.tolist(), records.proto.tolist(), strict=True):  # fmt: skip
        if proto == 6:
            states.setdefault(label, Counter())[CONN_STATES[state]] += 1
        services.setdefault(label, Counter())[service.decode()] += 1
    assert {"SF", "S0", "REJ"} <= set(states["benign"])
    assert set(states["scan"]) >= {"S0", "REJ"}
    assert states["scan"]["S0"] > 0.7 * states["scan"].total()
    assert set(states["brute-force"]) <= {"SF", "RSTO", "REJ"}
    assert states["brute-force"]["SF"] > 5
    assert states["c2"]["SF"] > 0.6 * states["c2"].total()
    assert states["download"]["SF"] >= 1
    assert set(states["flood"]) <= {"S0", "RSTOS0", "RSTO"}
    expected = {"dns", "http", "ssl", "dhcp", "ntp", "mqtt", "ssdp"}
    assert expected <= set(services["benign"])
    assert {"telnet", "ssh"} <= set(services["brute-force"])
    assert services["download"]["http"] >= 1


@pytest.mark.slow
def test_records_of_all_worlds_match_their_labels(tmp_path: Path) -> None:
    """Every form of attack that training draws, and the tests' own home."""
    homes = [home("infected", profile="test", hours=0.7)]
    for scenario in training_homes(60, seed=9):
        ill = any(i.kind in INFECTIONS for i in scenario.infections)
        if len(homes) < 6 and ill and scenario.hours < 3.5:
            homes.append(scenario)
    for scenario in homes:
        path = tmp_path / "home.pcap"
        simulate(scenario, path)
        labels = match(records_of(path), read_labels(labels_path(path)))
        assert sum(label == "" for label in labels) < 0.01 * len(labels), scenario.name
        assert {"benign"} < set(labels) <= set(CLASSES), scenario.name


# --- three worlds -----------------------------------------------------------------
def drawn(scenario: Scenario) -> tuple[dict[str, float], dict[str, object]]:
    """Return rates and choices by kind and name, without the devices' own names."""
    _, rates, chosen = build(scenario)
    return rates, chosen


def values(scenarios: list[Scenario]) -> dict[str, set[float]]:
    out: dict[str, set[float]] = {}
    for scenario in scenarios:
        for name, value in drawn(scenario)[0].items():
            out.setdefault(name.rpartition("/")[2], set()).add(value)
    return out


def test_the_three_worlds_share_no_seed_rate_or_device_mix() -> None:
    # The later kinds have a test of their own.
    names = ("quiet", *INFECTIONS)
    demo = [SCENARIOS[name](hours=1) for name in names]
    test = [SCENARIOS[name](hours=1, profile="test") for name in names]
    train = list(training_homes(60, seed=1)) + list(training_homes(60, seed=2))
    worlds = [train, demo, test]

    seeds = [{(s.profile, s.seed) for s in world} for world in worlds]
    plain = [{s.seed for s in world} for world in worlds]
    mixes = [{tuple(sorted(d.kind for d in s.devices)) for s in world} for world in worlds]
    variants = [{d.variant for s in world for d in s.devices} for world in worlds]
    days = [{s.start // 86_400 for s in world} for world in worlds]
    groups: list[list[set[Any]]] = [[*seeds], [*plain], [*mixes], [*variants], [*days]]
    for kinds in groups:
        for i, one in enumerate(kinds):
            assert all(one.isdisjoint(two) for two in kinds[i + 1 :])
    assert all(len({d.kind for d in s.devices}) < 8 for s in train)
    assert {x.kind for s in train for x in s.infections} == {*INFECTIONS, *training.DRAWN}

    rates = [values(world) for world in worlds]
    for name, own in rates[1].items():
        others = rates[0].get(name, set()) | rates[2].get(name, set())
        # Not only unequal: a demo rate keeps its distance from every other.
        assert all(abs(a / b - 1) > 0.005 for a in own for b in others), name
    for name, own in rates[2].items():
        assert all(abs(a / b - 1) > 0.005 for a in own for b in rates[0].get(name, set())), name
    # The comparison is worth something: nearly all rates of the demo were drawn in training too.
    assert len(set(rates[0]) & set(rates[1])) > 0.9 * len(rates[1])


def test_malware_ports_of_demo_and_test_are_not_trained() -> None:
    def ports(scenarios: list[Scenario]) -> set[object]:
        return {
            value
            for s in scenarios
            for name, value in drawn(s)[1].items()
            if name.endswith((".port",)) and "#" in name
        }

    attacks = [name for name in SCENARIOS if name != "quiet"]
    demo = ports([SCENARIOS[name]() for name in attacks])
    test = ports([SCENARIOS[name](profile="test") for name in attacks])
    train = ports(list(training_homes(200, seed=3)))
    assert len(demo) >= 4
    assert len(test) >= 4
    assert len(train) > 50
    assert demo.isdisjoint(train)
    assert test.isdisjoint(train | demo)


def test_training_homes_vary() -> None:
    homes = list(training_homes(80, seed=1))
    assert homes == list(training_homes(80, seed=1))
    assert homes[:20] == list(training_homes(20, seed=1))
    assert len({h.seed for h in homes}) == 80
    quiet = sum(all(i.kind in LOOKALIKES for i in h.infections) for h in homes)
    assert 15 < quiet < 40
    assert max(h.hours for h in homes) > 24
    assert any(d.joins is not None for h in homes for d in h.devices)
    assert any(d.update_at is not None for h in homes for d in h.devices)


def test_the_gateway_needs_neither_the_simulator_nor_scapy() -> None:
    code = (
        "import sys, guardian.pipeline; assert not any('simulate' in m for m in sys.modules);"
        "import guardian.simulate; assert not any(m.startswith('scapy') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- mistakes -----------------------------------------------------------------------
def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no device of this home"):
        home("beacon", device="toaster")
    for hours in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="hours"):
            home(hours=hours)
    with pytest.raises(ConfigError, match="no infection"):
        build(Scenario("x", 1, 0, 1, home().devices, (Infection("flu", "hall-camera", 0),)))
    with pytest.raises(ConfigError, match="/24"):
        build(Scenario("x", 1, 0, 1, (), lan="10.0.0.0/8"))
    with pytest.raises(GuardianError, match="cannot write"):
        simulate(home(hours=0.01), tmp_path / "nowhere" / "x.pcap")
    with pytest.raises(InputError, match="cannot read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("hello\n", encoding="ascii")
    with pytest.raises(InputError, match="no label file"):
        read_labels(tmp_path / "bad.csv")
