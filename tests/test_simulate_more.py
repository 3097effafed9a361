"""The simulator's later scenarios: quiet attacks, and benign events that look like attacks."""

from __future__ import annotations

import struct
import subprocess
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.dhcp import DHCP
from scapy.layers.dns import DNS
from scapy.layers.l2 import Ether

from guardian.simulate import (
    HELP,
    SCENARIOS,
    DeviceSpec,
    Infection,
    Scenario,
    home,
    labels_path,
    match,
    read_labels,
    simulate,
    training,
    training_homes,
)
from guardian.simulate.build import build
from guardian.simulate.frames import ip_bytes, mac_bytes, words
from guardian.simulate.scenario import DEMO_START, INFECTIONS, LOOKALIKES, MORE_INFECTIONS
from guardian.tables import CONN_STATES, Conns
from tests.test_simulate import packets, records_of, values

MORE = (*MORE_INFECTIONS, *LOOKALIKES)

PARAMS: dict[str, tuple[tuple[str, float], ...]] = {
    "slow-scan": (("ports-per-hour", 60.0),),
    "arp-sweep": (("rate", 40.0), ("rounds", 2.0), ("pause", 90.0)),
    "arp-spoof": (("every", 3.0), ("seconds", 600.0)),
    "dns-flood": (("rate", 120.0), ("seconds", 8.0)),
    "exfiltration": (("size", 400_000.0), ("speed", 30_000.0), ("parts", 2.0)),
    "dns-exfiltration": (("every", 3.0), ("seconds", 400.0)),
    "https-beacon-even": (("period", 20.0),),
    "p2p-malware": (("peers", 30.0), ("keepalive", 40.0)),
    "firmware-update": (("size", 900_000.0),),
    "new-app": (("servers", 30.0), ("package", 300_000.0), ("spread", 20.0)),
    "guest-phone": (("stays", 500.0),),
    "device-setup": (("clouds", 12.0), ("services", 4.0)),
    "backup": (("size", 900_000.0), ("files", 3.0)),
    "internet-scan": (("knocks-per-hour", 600.0),),
    "login-guess": (("sessions", 40.0), ("gap", 2.0)),
    "slow-dos": (("connections", 80.0), ("drips", 1.0)),
    "message-flood": (("rate", 60.0), ("seconds", 4.0), ("again", 2.0)),
    "ping-sweep": (("rate", 20.0), ("machines", 100.0)),
    "port-sweep": (("rate", 20.0), ("ports", 60.0)),
    "remote-view": (("every", 300.0),),
    "outage": (("seconds", 600.0),),
    "local-polls": (("every", 2.0), ("seconds", 600.0)),
    "public-resolver": (("every", 20.0),),
    "cloud-relays": (("every", 10.0), ("looks", 300.0)),
    "home-store": (("every", 20.0), ("sessions", 6.0), ("size", 5_000.0)),
    "desk-work": (("minutes", 12.0), ("pause", 10.0), ("keys", 30.0)),
}
"""Short forms, to keep the tests quick."""

LABELS = {
    "slow-scan": {"scan"},
    "dns-flood": {"flood"},
    "exfiltration": {"other"},
    "dns-exfiltration": {"other"},
    "https-beacon-even": {"c2"},
    "p2p-malware": {"c2"},
    "internet-scan": {"scan"},
    "login-guess": {"brute-force"},
    "slow-dos": {"flood"},
    "message-flood": {"flood"},
    "ping-sweep": {"scan"},
    "port-sweep": {"scan"},
}
"""Of connection records; ARP has none, and the look-alikes are benign."""


def short(kind: str, **more: object) -> Scenario:
    """Return a scenario of less than half an hour; what befalls begins after six minutes."""
    given = {"hours": 0.4, "at_hours": 0.1, "params": PARAMS[kind], **more}
    return SCENARIOS[kind](**given)


# --- every later scenario ------------------------------------------------------------
@pytest.mark.parametrize("kind", MORE)
def test_a_seed_gives_the_same_bytes_and_another_others(kind: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.pcap" for number in range(3)]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        simulate(short(kind, seed=seed, hours=0.3), path)
    one, again, other = (path.read_bytes() + labels_path(path).read_bytes() for path in paths)
    assert one == again
    assert one != other


Flow = tuple[str, tuple[bytes, int], tuple[bytes, int]]
Shape = tuple[int, str, bytes, bytes, int]


def flow_between(name: str, a: tuple[bytes, int], b: tuple[bytes, int]) -> Flow:
    return (name, a, b) if a <= b else (name, b, a)


def flow(frame: bytes) -> Flow:
    """Return the direction-free flow of a frame: 5-tuple, or the two addresses of an ARP."""
    kind = frame[12:14]
    if kind == b"\x08\x06":
        return flow_between("arp", (frame[28:32], 0), (frame[38:42], 0))
    v4 = kind == b"\x08\0"
    proto, at = (frame[23], 34) if v4 else (frame[20], 54)
    a, b = (frame[26:30], frame[30:34]) if v4 else (frame[22:38], frame[38:54])
    ports = struct.unpack_from("!HH", frame, at) if proto in (6, 17) else (0, 0)
    return flow_between({6: "tcp", 17: "udp"}.get(proto, "icmp"), (a, ports[0]), (b, ports[1]))


def label_of_packets(path: Path) -> Iterator[tuple[int, bytes, str]]:
    """Yield each packet with the label of its flow at that time, empty where there is none."""
    rows: dict[tuple[Flow, bytes], list[tuple[int, str]]] = defaultdict(list)
    nobody: list[tuple[int, str]] = []
    for row in read_labels(labels_path(path)):
        ports = (0, 0) if row.proto in ("icmp", "arp") else (row.orig_p, row.resp_p)
        ends = (ip_bytes(row.orig_h), ports[0]), (ip_bytes(row.resp_h), ports[1])
        mac = mac_bytes(row.device) if row.proto == "arp" else b""
        rows[flow_between(row.proto, *ends), mac].append((row.ts // 1000, row.label))
    for us, frame in packets(path):
        key = flow(frame)
        macs = (frame[6:12], frame[:6]) if key[0] == "arp" else (b"",)
        known = next((rows[key, mac] for mac in macs if (key, mac) in rows), nobody)
        at = bisect_right(known, us, key=lambda row: row[0])
        late = at and key[0] == "arp" and us - known[at - 1][0] > 1_000_000
        yield us, frame, known[at - 1][1] if at and not late else ""


def shape(us: int, frame: bytes) -> Shape:
    """Return what a packet is but for ports, numbers and checksums, which follow from what its
    host did before."""
    kind = flow(frame)[0]
    ends = {b"\x08\0": frame[26:34], b"\x08\x06": frame}.get(frame[12:14], frame[22:54])
    return us, kind, frame[6:12], ends, len(frame)


@pytest.fixture(scope="module")
def quiet_home(tmp_path_factory: pytest.TempPathFactory) -> Counter[Shape]:
    path = tmp_path_factory.mktemp("quiet") / "quiet.pcap"
    simulate(home(hours=0.4, profile="test"), path)
    return Counter(shape(us, frame) for us, frame in packets(path))


@pytest.fixture(scope="module", params=MORE)
def short_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("short") / "home.pcap"
    simulate(short(request.param, profile="test"), path)
    return request.param, path


def test_labels_cover_exactly_what_the_attack_added(
    short_home: tuple[str, Path], quiet_home: Counter[Shape]
) -> None:
    kind, path = short_home
    labelled = list(label_of_packets(path))
    bad = Counter(shape(us, frame) for us, frame, label in labelled if label not in ("", "benign"))
    assert all(label or frame[12:14] == b"\x08\x06" for _, frame, label in labelled)
    if kind in LOOKALIKES:
        assert not bad
        return
    assert bad.total() > 20
    whole = Counter(shape(us, frame) for us, frame, _ in labelled)
    if kind == "arp-spoof":
        # The victim's packets take another way; they and their copies stay what they were.
        bent = set(whole - quiet_home - bad)
        assert {k[1] for k in bent} <= {"tcp", "udp", "icmp", "arp"}
        assert sum(k[1] == "arp" for k in bent) == 2  # the victim finds the router again
        whole = Counter({k: n for k, n in whole.items() if k not in bent})
        quiet_home = quiet_home & whole
    assert whole - quiet_home == bad
    assert not quiet_home - whole


def test_the_decoder_counts_nothing_malformed_and_records_have_labels(
    short_home: tuple[str, Path],
) -> None:
    kind, path = short_home
    records = records_of(path)  # asserts that no packet is malformed or has a bad checksum
    labels = match(records, read_labels(labels_path(path)))
    assert sum(label == "" for label in labels) < 0.01 * len(labels)
    assert set(labels) - {"", "benign"} == LABELS.get(kind, set())


# --- what each promises -----------------------------------------------------------------
def few_devices(kind: str, hours: float, at: float, device: str = "camera") -> Scenario:
    """Return a home of two or three quiet devices, for what takes long."""
    whole = home(kind, device=device, hours=hours, at_hours=at)
    kept = {"bulb", "printer", device}
    return replace(whole, devices=tuple(d for d in whole.devices if d.kind in kept))


def test_a_slow_scan_tries_a_few_ports_an_hour_for_most_of_a_day(tmp_path: Path) -> None:
    path = tmp_path / "slow.pcap"
    scenario = few_devices("slow-scan", 26.0, 2.0, device="thermostat")
    rate = build(scenario)[1]["thermostat#0/slow-scan.ports-per-hour"]
    simulate(scenario, path)
    tried = [row for row in read_labels(labels_path(path)) if row.label == "scan" and row.resp_p]
    times = [row.ts / 1e9 for row in tried]
    hour = max(bisect_right(times, t + 3_600) - i for i, t in enumerate(times))
    assert 2 <= hour <= rate / 0.6 + 1 < 12
    assert min(b - a for a, b in pairwise(times)) > 120  # at most one in two minutes
    assert times[-1] - times[0] > 18 * 3_600
    assert len({(row.resp_h, row.resp_p) for row in tried}) == len(tried) > 80


def told(kind: str, tmp_path: Path, **more: object) -> tuple[Path, Conns, np.ndarray]:
    """Simulate a short form; return its file, its records and which of them are the attack's."""
    path = tmp_path / f"{kind}.pcap"
    simulate(short(kind, **more), path)
    records = records_of(path)
    labels = match(records, read_labels(labels_path(path)))
    return path, records, np.array([label not in ("", "benign") for label in labels])


def test_an_arp_sweep_asks_for_every_address_and_tries_no_port(tmp_path: Path) -> None:
    path, _, bad = told("arp-sweep", tmp_path)
    asked = Counter(row.resp_h for row in read_labels(labels_path(path)) if row.label == "scan")
    assert len(asked) == 253
    assert set(asked.values()) == {2}  # two rounds
    assert not bad.any()


def test_a_spoofer_takes_the_routers_address_and_passes_everything_on(tmp_path: Path) -> None:
    params = (("every", 3.0), ("seconds", 2_400.0))
    scenario = short("arp-spoof", start=DEMO_START + 36_000, hours=1.2, params=params)
    path = tmp_path / "spoof.pcap"
    simulate(scenario, path)
    w, _, _ = build(scenario)
    spoofer, victim, router = w.hosts["hall-camera"], w.hosts["annas-phone"], w.gateway
    frames = list(packets(path))
    lie = b"\x08\x06\0\1\x08\0\6\4\0\2" + spoofer.mac + router.ip
    lies = [us for us, f in frames if f[12:32] == lie]
    assert all(2.5e6 < b - a < 3.5e6 for a, b in pairwise(lies))
    begin, end = lies[0], lies[-1]

    def sent(to: bytes, by: bytes) -> list[tuple[int, bytes]]:
        head = to + by + b"\x08\0"
        return [(us, f) for us, f in frames if f[:14] == head and f[26:30] == victim.ip]

    to_us, passed = sent(spoofer.mac, victim.mac), sent(router.mac, spoofer.mac)
    direct = [us for us, _ in sent(router.mac, victim.mac)]
    assert len(to_us) == len(passed) > 200
    assert any(us > end + 4e6 for us in direct)
    assert not any(begin <= us <= end for us in direct)
    for (a, one), (b, two) in zip(to_us, passed, strict=True):
        assert 0 < b - a < 10_000
        assert two[22] == one[22] - 1
        assert words(two[14:34]) == 0
        assert two[34:] == one[34:]
        assert two[26:34] == one[26:34]


def test_a_dns_flood_asks_for_other_names_each_time(tmp_path: Path) -> None:
    path, records, bad = told("dns-flood", tmp_path)
    asked = [Ether(f)[DNS] for us, f, label in label_of_packets(path)
             if label == "flood" and f[36:38] == b"\0\x35"][:300]  # fmt: skip
    names = {bytes(d.qd[0].qname) for d in asked}
    assert len(names) == 300
    assert all(name.endswith(b".victim.example.") for name in names)
    assert bad.sum() > 600  # 120 a second for eight seconds
    assert {s.decode() for s in records.service[bad].tolist()} == {"dns"}


def test_exfiltration_is_a_steady_upload_to_one_new_host(tmp_path: Path) -> None:
    _, records, bad = told("exfiltration", tmp_path)
    tls = bad & (records.service == b"ssl")
    assert tls.sum() == 2
    assert len(np.unique(records.resp[tls], axis=0)) == 1
    known = {tuple(row) for row in records.resp[~bad].tolist()}
    assert not known & {tuple(row) for row in records.resp[tls].tolist()}
    assert 350_000 < records.orig_bytes[tls].sum() < 600_000
    assert records.orig_bytes[tls].sum() > 20 * records.resp_bytes[tls].sum()
    speed = records.orig_bytes[tls] / (records.duration[tls])
    assert np.all((speed > 20_000) & (speed < 40_000))


@pytest.mark.parametrize("profile", ["demo", "test"])
def test_data_leaves_in_names(profile: str, tmp_path: Path) -> None:
    path, records, bad = told("dns-exfiltration", tmp_path, profile=profile)
    asked = [Ether(f)[DNS] for _, f, label in label_of_packets(path)
             if label == "other" and f[36:38] == b"\0\x35"]  # fmt: skip
    names = [bytes(d.qd[0].qname).decode().rstrip(".") for d in asked]
    assert len(set(names)) == len(names) > 80
    assert all(len(n) <= 253 and max(map(len, n.split("."))) <= 63 for n in names)
    assert len({n.split(".", n.count(".") - 2)[-1] for n in names}) == 1  # one domain
    assert {d.qd[0].qtype for d in asked} == {1 if profile == "demo" else 16}
    assert {s.decode() for s in records.service[bad].tolist()} == {"dns"}


def test_even_beacons_have_equal_sizes_and_uneven_gaps(tmp_path: Path) -> None:
    path, records, bad = told("https-beacon-even", tmp_path)
    beats = bad & (records.service == b"ssl")
    assert beats.sum() > 30
    assert len(np.unique(records.orig_bytes[beats])) == 1
    assert len(np.unique(records.resp_bytes[beats])) == 1
    assert {CONN_STATES[s] for s in records.conn_state[beats].tolist()} == {"SF"}
    gaps = np.diff(np.sort(records.ts[beats])) / 1e9
    assert 15 < np.median(gaps) < 25
    assert gaps.std() > 0.5
    assert any(b"rendezvous.example" in f for _, f, label in label_of_packets(path)
               if label == "c2" and f[54:57] == b"\x16\x03\x01")  # fmt: skip


def test_p2p_malware_has_many_peers_on_high_ports_and_comes_back(tmp_path: Path) -> None:
    path, records, bad = told("p2p-malware", tmp_path)
    assert set(records.proto[bad].tolist()) == {17}
    calls: Counter[tuple[bytes, int]] = Counter()
    own: set[int] = set()
    w, _, _ = build(short("p2p-malware"))
    me = w.hosts["hall-camera"].ip
    for _, frame, label in label_of_packets(path):
        if label == "c2" and frame[26:30] == me:
            port, peer_port = struct.unpack_from("!HH", frame, 34)
            own.add(port)
            calls[frame[30:34], peer_port] += 1
    assert len(own) == 1
    assert len({ip for ip, _ in calls}) >= 30
    assert len({port for _, port in calls}) > 25
    assert min(port for _, port in calls) >= 10_000
    assert max(calls.values()) > 10  # keep-alives
    assert any(frame[30:34] == me for _, frame, label in label_of_packets(path) if label == "c2")


def hosts_called(path: Path, device: bytes, begin: float, end: float) -> Counter[bytes]:
    """Return payload bytes by remote IPv4 peer, both ways, of a device within seconds of the
    capture."""
    zero = next(packets(path))[0]
    out: Counter[bytes] = Counter()
    for us, f in packets(path):
        if (
            begin <= (us - zero) / 1e6 < end
            and f[12:14] == b"\x08\0"
            and device in (f[:6], f[6:12])
        ):
            peer = f[30:34] if f[6:12] == device else f[26:30]
            if peer[:2] != b"\xc0\xa8" and peer[0] < 224:
                out[peer] += len(f)
    return out


def test_firmware_comes_in_bulk_from_a_new_host_and_the_device_restarts(tmp_path: Path) -> None:
    scenario, path = short("firmware-update"), tmp_path / "fw.pcap"
    simulate(scenario, path)
    camera = build(scenario)[0].hosts["hall-camera"]
    before = hosts_called(path, camera.mac, 0, 350)
    after = hosts_called(path, camera.mac, 350, 1_440)
    new = {peer: size for peer, size in after.items() if peer not in before}
    assert max(new.values()) > 900_000
    restarts = [
        us for us, f in packets(path) if f[6:12] == camera.mac and f[34:38] == b"\0\x44\0\x43"
    ]
    assert len(restarts) >= 2  # discover and request


def test_a_new_app_calls_many_hosts_at_once(tmp_path: Path) -> None:
    scenario, path = short("new-app"), tmp_path / "app.pcap"
    simulate(scenario, path)
    phone = build(scenario)[0].hosts["annas-phone"]
    before = hosts_called(path, phone.mac, 0, 355)
    burst = hosts_called(path, phone.mac, 355, 440)
    assert len(set(burst) - set(before)) >= 28


def test_a_guests_phone_comes_with_a_made_up_mac_and_goes(tmp_path: Path) -> None:
    scenario, path = short("guest-phone"), tmp_path / "guest.pcap"
    simulate(scenario, path)
    guest = build(scenario)[0].hosts["guest-phone"]
    assert guest.mac[0] & 3 == 2  # made up by itself, unicast
    mine = [
        (us / 1e6 - scenario.start, f) for us, f in packets(path) if guest.mac in (f[:6], f[6:12])
    ]
    assert mine[0][0] == pytest.approx(360, abs=1)
    assert mine[-1][0] <= 860
    assert len(mine) > 60
    assert Ether(mine[0][1]).haslayer(DHCP)
    rows = [r for r in read_labels(labels_path(path)) if r.device == guest.mac.hex(":")]
    assert {r.label for r in rows} == {"benign"}
    assert max(r.ts for r in rows) / 1e9 - scenario.start < 860
    assert not any(f[34:38] == b"\0\x50" for _, f in mine if f[12:14] == b"\x08\0")  # no set-up


def test_a_set_up_begins_with_dhcp_and_storms(tmp_path: Path) -> None:
    scenario, path = short("device-setup"), tmp_path / "setup.pcap"
    simulate(scenario, path)
    device = build(scenario)[0].hosts["den-speaker"]
    mine = [(us / 1e6 - scenario.start, f) for us, f in packets(path) if f[6:12] == device.mac]
    assert mine[0][0] == pytest.approx(360, abs=1)
    assert Ether(mine[0][1]).haslayer(DHCP)
    ports = Counter(struct.unpack_from("!H", f, 36)[0] for _, f in mine
                    if f[12:14] == b"\x08\0" and f[23] == 17)  # fmt: skip
    assert ports[5353] > 25
    assert ports[123] >= 4
    assert len(hosts_called(path, device.mac, 0, 1_440)) > 12
    assert "den-speaker" not in {d.name for d in scenario.devices if d.joins is None}


def test_a_backup_comes_every_night(tmp_path: Path) -> None:
    whole = few_devices("backup", 26.0, 1.0, device="printer")
    params = (("size", 600_000.0), ("files", 2.0))
    befalls = tuple(replace(i, params=params) for i in whole.infections)
    scenario, path = replace(whole, infections=befalls), tmp_path / "backup.pcap"
    simulate(scenario, path)
    w, _, _ = build(scenario)
    vault = {w.cloud("vault.keepsafe.example", number) for number in range(2)}
    up = [
        us / 1e6 - scenario.start for us, f in packets(path) if f[30:34] in vault and len(f) > 1_400
    ]
    assert all(3_600 <= t < 3_900 or abs(t - 90_000) < 900 for t in up)
    assert sum(t < 4_000 for t in up) > 200
    assert sum(t > 4_000 for t in up) > 200


# --- the switch, the worlds, the list -----------------------------------------------------
def test_one_list_lets_training_homes_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "DRAWN", ())
    plain = list(training_homes(120, seed=4))
    monkeypatch.setattr(training, "DRAWN", MORE)
    homes = list(training_homes(120, seed=4))
    for one, two in zip(plain, homes, strict=True):
        assert two.devices[: len(one.devices)] == one.devices
        assert two.infections[: len(one.infections)] == one.infections
        assert len({d.kind for d in two.devices}) < 8
        attacks = [i for i in two.infections if i.kind not in LOOKALIKES]
        assert bool(attacks) == bool(one.infections)  # quiet homes stay quiet
        assert len(attacks) <= len(one.infections) + 4
        build(two)
    drawn = Counter(i.kind for h in homes for i in h.infections)
    assert set(drawn) == {*INFECTIONS, *MORE}
    assert homes == list(training_homes(120, seed=4))


def test_a_training_home_with_them_is_simulated_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind as training draws it, each in a home of its own, short."""
    devices = tuple(DeviceSpec(kind, f"{kind}-0", "A") for kind in ("camera", "phone", "bulb"))
    for number, kind in enumerate(MORE):
        at, name = 120.0, {"new-app": "phone-0"}.get(kind, "camera-0")
        more: tuple[DeviceSpec, ...] = ()
        if kind in ("guest-phone", "device-setup"):
            name = "new-3"
            more = (DeviceSpec("phone", name, "B", at, guest=kind == "guest-phone"),)
        scenario = Scenario(
            f"train-{kind}", 1 << 48 | number, 1_650_000_000, 0.2, (*devices, *more),
            (Infection(kind, name, at, PARAMS[kind]),), profile="train",
        )  # fmt: skip
        path = tmp_path / "home.pcap"
        simulate(scenario, path)
        records = records_of(path)
        labels = match(records, read_labels(labels_path(path)))
        assert sum(label == "" for label in labels) < 0.01 * len(labels), kind


def test_demo_and_test_rates_of_the_later_kinds_are_not_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "DRAWN", MORE)
    train = values(list(training_homes(150, seed=6)))
    demo = values([SCENARIOS[name]() for name in MORE])
    test = values([SCENARIOS[name](profile="test") for name in MORE])
    kinds = {name.partition(".")[0] for name in demo} & set(MORE)
    assert kinds == set(MORE)
    for name, own in demo.items():
        others = train.get(name, set()) | test.get(name, set())
        assert all(abs(a / b - 1) > 0.005 for a in own for b in others), name
    for name, own in test.items():
        assert all(abs(a / b - 1) > 0.005 for a in own for b in train.get(name, set())), name
    assert all(train[name] for name in demo if name.partition(".")[0] in MORE)


def test_each_scenario_has_a_line_of_help() -> None:
    assert list(HELP) == list(SCENARIOS)
    command = [sys.executable, "-m", "guardian.cli", "simulate"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    lines = said.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(SCENARIOS)
    assert all(len(line) < 100 for line in lines)
    for name in LOOKALIKES:
        assert HELP[name].startswith("benign: ")
