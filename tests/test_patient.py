"""Slow scans, strangers, and what connections carry: the plain rules behind hours and payloads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardian.alerts import AlertSettings, Allow, IncidentTable
from guardian.carried import MAX_CARRYING, Carried
from guardian.incidents import Incident
from guardian.mining import mining
from guardian.patient import MAX_WATCHED, SCAN_TARGETS, YOUNG_S, Patient
from guardian.seen import see
from guardian.service import sniff
from tests.incident_rows import CAMERA, LINE, MACS, S, incident_table, mixed, run, tables

HOUR, DAY = 3_600.0, 86_400.0


def table() -> IncidentTable:
    return incident_table(settings=AlertSettings(counters=True))


def told(rows: list[S], **given: object) -> list[Incident]:
    """Return the incidents that open about these rows."""
    return [e.incident for e in run(table(), rows, **given) if e.change == "opened"]  # type: ignore[arg-type]


def asks(at: float = 50.0, number: int = 100, *, every: float = 300.0) -> list[S]:
    """Return questions to the router, each with a call to the cloud of that name."""
    return [
        s
        for k in range(number)
        for s in (
            S(at + k * every, peer="192.168.1.1", port=53, proto=17, service="dns", orig_bytes=40,
              orig_pkts=1),
            S(at + k * every + 1, peer=f"34.1.2.{k % 3}"),
        )
    ]  # fmt: skip


def knocks(number: int = 40, *, every: float = 1_000.0, at: float = 100.0) -> list[S]:
    """Return calls to one address after the other that nobody answers."""
    return [
        S(at + k * every, peer=f"203.0.113.{k}", port=23, state="S0", resp_pkts=0, resp_bytes=0,
          orig_bytes=0, orig_pkts=1)
        for k in range(number)
    ]  # fmt: skip


def strange(number: int = 40, *, every: float = 600.0, at: float = 8 * HOUR + 100.0) -> list[S]:
    """Return calls to a master at an address."""
    return [S(at + k * every, peer="45.9.20.7", port=6_667) for k in range(number)]


# --- slow scans -----------------------------------------------------------------


def test_a_slow_scan_that_no_model_sees_is_told_once() -> None:
    (one,) = told(mixed(asks(), knocks()))
    assert (one.cause, one.speaker) == ("scan", "counter")
    assert one.count == SCAN_TARGETS
    assert "below 20 in three days is normal" in one.explanation
    assert "20 addresses" in one.explanation


def test_what_goes_on_counts_each_target_once() -> None:
    events = run(table(), mixed(asks(), knocks(60)), until=4 * DAY)
    assert [e.change for e in events].count("opened") == 1
    assert events[-1].change == "closed"
    assert events[-1].incident.count == 60


def test_ports_of_one_machine_are_a_scan_too() -> None:
    rows = [replace(s, peer="192.168.1.6", port=1 + k) for k, s in enumerate(knocks(30))]
    (one,) = told(mixed(asks(), rows))
    assert one.cause == "scan"
    assert "20 ports of 192.168.1.6" in one.explanation


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("fewer", knocks(SCAN_TARGETS - 1)),
        ("seldom: not so many in three days", knocks(60, every=6 * HOUR)),
        ("within the hour: a set-up, which models and counters judge", knocks(every=60.0)),
        ("a cloud that is away", [replace(s, port=443) for s in knocks()]),
        ("its name was asked for", mixed(knocks(), asks(at=99.0, every=1_000.0))),
        ("the question is told after the call", mixed(knocks(), [
            replace(s, piece=1, age=1.5) for s in asks(at=100.6, every=1_000.0) if s.port == 53
        ])),
        ("one machine and port", [replace(s, peer="203.0.113.7") for s in knocks()]),
        ("UDP", [replace(s, proto=17) for s in knocks()]),
        ("a network of peers: as many answer", [
            replace(s, port=2_000 + k, state="SF" if k % 2 else "S0", resp_pkts=k % 2)
            for k, s in enumerate(knocks(80))
        ]),
    ],
)  # fmt: skip
def test_what_is_no_slow_scan(why: str, rows: list[S]) -> None:
    assert told(mixed(asks(), rows)) == [], why


# --- strangers --------------------------------------------------------------------


def test_a_slow_beacon_to_a_stranger_is_found_in_twelve_beats() -> None:
    for every in (600.0, 3_600.0):
        (one,) = told(mixed(asks(number=400), strange(every=every)))
        assert (one.cause, one.speaker, one.count) == ("c2", "counter", 12)
        assert "without asking for a name" in one.explanation


def test_a_held_line_to_a_stranger_is_found() -> None:
    rows = [replace(s, piece=k, uid="Cheld", final=False, age=600.0 * k)
            for k, s in enumerate(strange())]  # fmt: skip
    (one,) = told(mixed(asks(number=400), rows))
    assert one.cause == "c2"


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("few", strange(11)),
        ("soon over", strange(every=60.0)[:50]),
        ("the device is new", strange(at=HOUR)),
        ("it asked for the name", mixed(strange(), asks(at=8 * HOUR + 99, every=600.0))),
        ("the port is known", [replace(s, port=443) for s in strange()]),
        ("much is sent", [replace(s, orig_bytes=50_000) for s in strange()]),
        ("nobody answers", [replace(s, state="S0") for s in strange()]),
        ("an app with a network of its own",
         mixed(*([replace(s, peer=f"45.9.20.{k}", port=7_000 + k) for s in strange(at=8 * HOUR + k)]
                 for k in range(6)))),
    ],
)  # fmt: skip
def test_what_is_no_stranger(why: str, rows: list[S]) -> None:
    assert told(mixed(asks(number=400), rows)) == [], why


def test_a_stranger_of_a_new_device_needs_the_models_doubt() -> None:
    """Just under the line is enough, at the beginning; what keeps its address for days has none."""
    rows = strange(at=HOUR)
    doubted = [replace(rows[0], threat=LINE - 0.1, cause="c2"), *rows[1:]]
    (one,) = told(mixed(asks(number=400), doubted))
    assert (one.cause, one.speaker, one.count) == ("c2", "counter", 12)
    for why in (
        rows,
        [replace(doubted[0], cause="scan"), *rows[1:]],
        [replace(doubted[0], threat=0.3), *rows[1:]],
        [rows[0], replace(rows[1], threat=LINE - 0.1, cause="c2"), *rows[2:]],
    ):
        assert told(mixed(asks(number=400), why)) == []


def test_in_its_first_minutes_a_device_has_no_strangers() -> None:
    for at, found in ((YOUNG_S - 150.0, 0), (YOUNG_S + 150.0, 1)):
        rows = strange(at=at)
        doubted = [replace(rows[0], threat=LINE - 0.1, cause="c2"), *rows[1:]]
        assert len(told(mixed(asks(number=400), doubted))) == found


def test_a_device_that_asks_nothing_of_dns_has_no_strangers() -> None:
    rows = [s for s in asks(number=400) if s.port != 53]
    assert told(mixed(rows, strange())) == []


def test_a_machine_known_from_before_is_no_stranger() -> None:
    """As after a restart: what the rules saw is gone, what the device knew is not."""
    rows = mixed(asks(number=400), strange())
    first = table()
    early = [S(10.0, peer="45.9.20.7", port=6_667)]
    run(first, early)
    first._rules._patient = Patient()
    assert [e for e in run(first, rows) if e.change == "opened"] == []


# --- what connections carry ---------------------------------------------------------


def question(at: float, size: int, number: int = 1) -> S:
    return S(at, peer="192.168.1.1", port=53, proto=17, service="dns", orig_bytes=size * number,
             orig_pkts=number)  # fmt: skip


def test_a_tunnel_in_one_connection_is_found_by_its_questions() -> None:
    (one,) = told([question(5.0, 149, 18)])
    assert (one.cause, one.speaker) == ("other", "counter")
    assert "149 bytes long, normal is below 80" in one.explanation


def test_a_slow_leak_by_dns_adds_up() -> None:
    assert told([question(20.0 * k, 120) for k in range(60)])
    assert not told([question(600.0 * k, 120) for k in range(60)])


def test_short_questions_and_few_long_ones_are_none() -> None:
    assert not told([question(k, 45, 100) for k in range(600)])
    assert not told([question(5.0, 200, 8)])
    # Whoever looks up addresses of machines has long names among short ones.
    assert not told([question(k, 95 if k % 2 else 40) for k in range(600)])


def test_a_flood_of_messages_is_found_within_its_minute() -> None:
    rows = [S(60.0 + 5 * k, peer="192.168.1.6", port=1_883, service="mqtt", orig_bytes=60_000)
            for k in range(6)]  # fmt: skip
    (one,) = told(rows)
    assert (one.cause, one.speaker) == ("flood", "counter")
    assert not told([replace(s, orig_bytes=30_000) for s in rows])
    assert not told([replace(s, service="http") for s in rows])
    assert not told([replace(s, at=30.0 * k) for k, s in enumerate(rows)])


LEVIN = bytes.fromhex("01210101010101010601000000000000")
STRATUM = (
    b'{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"44AF","pass":"x","agent":"X"}}\n',
    b'{"id": 1, "method": "mining.subscribe", "params": ["cgminer/4.10"]}\n',
    b'{"params": ["w", "x"], "id": 2, "method": "mining.authorize"}\n',
    b'{"worker":"a","jsonrpc":"2.0","params":["0x0"],"id":2,"method":"eth_submitLogin"}\n',
)


def test_miners_are_known_by_what_they_say() -> None:
    assert mining(True, LEVIN) == mining(False, LEVIN) == b"monero"
    for payload in STRATUM:
        assert mining(True, payload) == b"stratum"
        assert sniff(0, True, 6, 3_333, payload, b"", b"")[1] == b"stratum"
    for payload in (b'{"method":"login","id":1}', b'{"id":1,"method":"set_power"}', b"\x01\x21"):
        assert mining(True, payload) == b""
    assert mining(False, STRATUM[0]) == b""


def test_a_miner_is_told_at_once_unless_allowed() -> None:
    row = S(5.0, peer="62.210.127.86", port=18_080, service="monero")
    (one,) = told([row])
    assert (one.cause, one.speaker) == ("other", "counter")
    assert "coin miners" in one.explanation
    allowed = table()
    allowed.apply(Allow(device=MACS[CAMERA]), 0)
    assert run(allowed, [row]) == []


# --- all of them --------------------------------------------------------------------


def test_cuts_change_nothing() -> None:
    rows = mixed(asks(number=400), knocks(), strange(), [question(90.5, 149, 18)])
    whole = [(e.change, e.incident) for e in run(table(), rows)]
    parts = [(e.change, e.incident) for e in run(table(), rows, cuts=range(0, len(rows), 7))]
    assert len({i.id for _, i in whole}) == 3
    assert whole == parts


def test_without_counters_they_are_silent() -> None:
    rows = mixed(asks(), knocks(), [question(90.5, 149, 18)])
    assert run(incident_table(), rows) == []


def test_memory_is_bounded_by_devices() -> None:
    home = table()
    slices, feature_rows, scores = tables([*knocks(1), question(200.0, 149, 18)], home._devices)
    patient, carried = Patient(), Carried()
    for one in see(slices, feature_rows, scores, home._lan):
        for k in range(2 * MAX_WATCHED):
            patient.look(f"d{k}", one, None, -8.0, True)
            carried.look(f"d{k}", one, -8.0, True)
    assert len(patient._devices) == MAX_WATCHED
    assert len(carried._devices) == MAX_CARRYING
