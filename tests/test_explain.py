"""Explanations: every number recounted, every text safe, the usual where it is known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.const import MAX_KNOWN_PEERS, NS
from guardian.explain import ADVICE, ADVICE_INBOUND, listed, top_features, words
from guardian.facts import Facts, Row
from guardian.featurelist import NAMES
from guardian.habits import ENOUGH_ROWS, SAMPLE_NS, Habits
from guardian.normal import normal
from guardian.tables import F32
from tests.incident_rows import (
    CLASSES,
    START,
    S,
    beacon,
    calm,
    incident_table,
    mixed,
    ruler,
    run,
    scan,
)
from tests.twins import facts as twin

PEERS = [(0, 0xFFFF22010200 + k) for k in range(6)]


def row(**changes: object) -> Row:
    plain = Row(
        told=int(START * NS), ts=int(START * NS), uid="C1", orig=PEERS[0], orig_p=4, resp=PEERS[1],
        resp_p=23, proto=6, service="", host="", conn_state=1, orig_bytes=0, resp_bytes=0,
        orig_pkts=1, resp_pkts=0, duration=0.0, piece=0, final=True, age=0.0, outbound=True,
        label="scan", score=0.9, level=2.0, new_peer=True,
        x=np.zeros(len(NAMES), np.float32), error=np.zeros(len(NAMES), np.float32),
    )  # fmt: skip
    return plain._replace(**changes)  # type: ignore[arg-type]


def facts_of(rows: list[Row]) -> Facts:
    facts = Facts()
    for one in rows:
        facts.add(one)
    return facts


ROWS = st.lists(
    st.builds(
        lambda gap, peer, port, state, outbound, new, sizes, piece, final, uid: (
            gap,
            {
                "resp": PEERS[peer] if outbound else PEERS[0],
                "orig": PEERS[0] if outbound else PEERS[peer],
                "resp_p": port,
                "conn_state": state,
                "outbound": outbound,
                "new_peer": new,
                "orig_bytes": sizes[0],
                "resp_bytes": sizes[1],
                "orig_pkts": sizes[2],
                "resp_pkts": sizes[3],
                "piece": piece,
                "final": final,
                "uid": f"C{uid}",
                "age": sizes[2] / 10,
                "duration": sizes[3] / 10,
                "label": CLASSES[1 + sizes[3] % 6],
                "score": sizes[2] / 100,
            },
        ),
        st.integers(0, 90 * NS),
        st.integers(1, 5),
        st.sampled_from([23, 80]),
        st.integers(0, 12),
        st.booleans(),
        st.booleans(),
        st.tuples(
            st.integers(-1, 999), st.integers(-1, 999), st.integers(0, 99), st.integers(0, 99)
        ),
        st.integers(0, 2),
        st.booleans(),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80)
@given(ROWS)
def test_the_facts_equal_a_recount(stories: list[tuple[int, dict[str, object]]]) -> None:
    at, rows = int(START * NS), []
    for gap, changes in stories:
        at += gap
        rows.append(row(**changes, told=at, ts=at - NS // 2))
    facts = facts_of(rows)
    for name, value in twin.recount(rows).items():
        assert getattr(facts, name) == value, name
    for key in facts.keys:
        assert facts.beat(key) == twin.beat(rows, key)
    assert facts.best is max(rows, key=lambda r: r.level)


def test_a_scan_is_told_with_its_own_numbers() -> None:
    incident = run(incident_table(), scan(0.0, 214, every=0.27), until=120.0)[-1].incident
    assert incident.explanation.startswith(
        "Hall camera called 214 addresses it never called before on port 23 (telnet) within 58 s; "
        "none of the 214 connections was answered."
    )
    assert incident.advice == ADVICE["scan"]
    assert [(p.port, p.connections) for p in incident.peers] == [(23, 1)] * 20


def test_the_devices_own_habit_is_named_once_it_is_known() -> None:
    day = [
        S(3_600.0 * h + 600.0 * k, 0.02, peer=f"34.1.2.{k % 3}")
        for h in range(30)
        for k in range(6)
    ]
    rows = mixed(day, scan(30 * 3_600.0, 100))
    incident = run(incident_table(), rows, until=31 * 3_600.0)[-1].incident
    assert (
        "Normal for this device: below 4 destinations an hour (3 as a rule); it called 100."
        in incident.explanation
    )
    assert "Also: no destinations a minute; it called 19 in one." in (incident.explanation)


def test_a_young_device_is_measured_by_others() -> None:
    incident = run(incident_table(age_s=0.0), scan())[0].incident
    assert (
        "Normal for devices in quiet homes: below 2 destinations a minute; it called 19 in one."
        in incident.explanation
    )


@pytest.mark.parametrize(
    ("cause", "values", "said"),
    [
        ("scan", {"minute_new_peers": 40.0, "minute_peers": 50.0},
         "below 2 new destinations a minute; it called 40 in one."),
        ("scan", {"minute_ports": 100.0}, "below 2 ports a minute; it tried 100 or more in one."),
        ("c2", {"pair_count": 20.0}, "below 2 calls to one destination and port; it made 20."),
        ("brute-force", {"minute_conns": 33.0}, "below 2 connections a minute; it had 33 in one."),
        ("brute-force", {"long_conns": 77.0},
         "below 2 connections in ten minutes; it had 77."),
        ("download", {"bytes_in": 5e6}, "up to 2 B received in one go; it received 5.0 MB."),
        ("other", {"minute_peers": 7.0}, "below 2 destinations a minute; it called 7 in one."),
        # A window of 100 connections that is full counts at least so many.
        ("scan", {"minute_new_peers": 61.0, "minute_conns": 100.0},
         "below 2 new destinations a minute; it called 61 or more in one."),
        # Within the normal: no argument.
        ("scan", {"minute_peers": 1.0}, ""),
        ("download", {"bytes_in": 1.0}, ""),
        ("never heard of", {"minute_peers": 90.0}, ""),
    ],
)  # fmt: skip
def test_where_normal_ends_and_how_far_beyond_it_went(
    cause: str, values: dict[str, float], said: str
) -> None:
    """Normal ends at the ruler's 95 % points (1.7); what was seen is the highest of the rows."""
    low, high = np.zeros(len(NAMES), np.float32), np.zeros(len(NAMES), np.float32)
    for name, value in values.items():
        high[NAMES.index(name)] = np.log1p(value)
    facts = facts_of([row(x=high, level=1.0), row(x=low, level=5.0)])
    told = normal(cause, facts, Habits(), ruler(), None)
    assert told == (f"Normal for devices in quiet homes: {said}" if said else "")


def test_normal_follows_the_device_once_it_is_known() -> None:
    x = np.zeros(len(NAMES), np.float32)
    x[NAMES.index("minute_conns")] = np.log1p(60.0)
    own = np.zeros((3, len(NAMES)), np.float32)
    own[2, NAMES.index("minute_conns")] = np.log1p(11.0)
    told = normal("other", facts_of([row(x=x)]), Habits(), ruler(), own)
    assert told == "Normal for this device: below 12 connections a minute; it had 60 in one."
    own[2, NAMES.index("minute_conns")] = np.log1p(60.0)
    assert normal("other", facts_of([row(x=x)]), Habits(), ruler(), own) == ""
    assert normal("scan", facts_of([row(x=x, outbound=False)]), Habits(), ruler(), own) == ""


def test_regular_calls_are_told_as_such() -> None:
    x = np.zeros(len(NAMES), np.float32)
    x[NAMES.index("pair_regular")] = 0.98
    own = np.zeros((3, len(NAMES)), np.float32)
    own[2, NAMES.index("pair_regular")] = 0.6
    told = normal("c2", facts_of([row(x=x)]), Habits(), ruler(), own)
    assert (
        told
        == "Normal for this device: calls up to 60 % regular (100 % is clockwork); these are 98 %."
    )


@pytest.mark.parametrize("cause", [*CLASSES[1:], "unusual"])
def test_advice_asks_whether_it_was_you_and_says_what_to_do(cause: str) -> None:
    text = ADVICE[cause]
    assert "say that" in text or "Was this you?" in text
    assert any(word in text for word in ("off the network", "Unplug", "watch it"))
    if cause != "unusual":
        assert "password" in text
        assert "update" in text


def test_addresses_that_are_known_are_not_called_new() -> None:
    table = incident_table()
    run(table, [S(float(k), 0.02, peer=f"203.0.0.{k + 2}", port=443) for k in range(10)])
    incident = run(table, scan(60.0, 60), until=300.0)[-1].incident
    assert "called 60 addresses, 50 of them for the first time, on port 23" in incident.explanation


def test_ports_of_one_machine() -> None:
    rows = [
        replace(s, peer="192.168.1.9", port=k + 1, uid=f"C{k}") for k, s in enumerate(scan(0.0, 80))
    ]
    incident = run(incident_table(), rows, until=300.0)[-1].incident
    assert "Hall camera tried 80 ports of 192.168.1.9 within 16 s" in incident.explanation


def test_pings_have_no_port() -> None:
    rows = [replace(s, port=0, proto=1, state="OTH") for s in scan()]
    incident = run(incident_table(), rows, until=300.0)[-1].incident
    assert "before by ping or another ICMP message within 12 s" in incident.explanation


def test_a_flood_of_a_packet_a_minute_is_not_called_high() -> None:
    rows = [S(60.0 * k, 0.99, "flood", orig_pkts=1) for k in range(30)]
    incident = run(incident_table(), rows, until=2_000.0)[-1].incident
    assert "up to 1 a minute" in incident.explanation
    assert incident.severity == "medium"


def test_what_lies_within_the_normal_is_no_argument() -> None:
    slow = [S(60.0 * k, 0.99, "flood", orig_pkts=1) for k in range(30)]
    fast = [S(60.0 * k, 0.99, "flood", orig_pkts=60_000, duration=20.0) for k in range(30)]
    said = [
        run(incident_table(), rows, until=2_000.0)[-1].incident.explanation for rows in (slow, fast)
    ]
    assert "Normal" not in said[0]
    assert "up to 3,000 a second" in said[1]
    assert re.search(
        r"Normal for [a-z ]+: sending up to \d+ a (second|minute); it sent 3,000 a second\.$",
        said[1],
    )


def test_a_flood_of_many_ports_names_no_single_one() -> None:
    rows = [S(1.0 * k, 0.99, "flood", peer="10.0.0.9", port=4_000 + k) for k in range(30)]
    said = run(incident_table(), rows, until=300.0)[-1].incident.explanation
    assert "packets to 10.0.0.9 on 30 ports, most on port 4000, up to" in said


def test_a_beacon_is_told_with_its_period() -> None:
    rows = [replace(s, at=s.at + (1.0 if k % 2 else -1.0)) for k, s in enumerate(beacon(10.0, 21))]
    incident = run(incident_table(), rows, until=3_000.0)[-1].incident
    assert incident.explanation == (
        "Hall camera calls cnc.example (185.9.9.9) on port 4975 again and again: 21 times, every "
        "60 s, give or take 2.0 s, 2.1 kB sent and 4.2 kB received in all; malware that waits for "
        "orders calls like this. No count alone is beyond the normal; the models know the pattern "
        "from attacks."
    )
    assert incident.advice == ADVICE["c2"]


def test_names_that_were_asked_for_are_not_who_was_called() -> None:
    rows = [
        replace(s, peer="192.168.1.1", port=53, proto=17, host="a1b2.tunnel.example", cause="other")
        for s in beacon(10.0, 21)
    ]
    said = run(incident_table(), rows, until=3_000.0)[-1].incident.explanation
    assert "with 192.168.1.1 on port 53 (DNS)" in said
    assert "It asked for names such as a1b2.tunnel.example." in said
    assert "tunnel.example (192.168.1.1)" not in said


def test_a_stranger_that_calls_has_its_address_named() -> None:
    rows = [replace(s, outbound=False, peer="203.0.113.9", cause="brute-force") for s in scan()]
    said = run(incident_table(), rows, until=300.0)[-1].incident.explanation
    assert said.startswith("203.0.113.9 called Hall camera on port 23 (telnet) within")


def test_a_list_reads_as_one() -> None:
    assert [listed(s) for s in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_what_has_no_rhythm_is_not_given_one() -> None:
    gaps = [1.0, 400.0, 3.0, 200.0, 7.0, 90.0, 2.0, 600.0, 5.0, 44.0]
    rows = [replace(s, at=sum(gaps[:k])) for k, s in enumerate(beacon(0.0, 10))]
    incident = run(incident_table(), rows, until=3_000.0)[-1].incident
    assert "10 times, at irregular times within 22 min" in incident.explanation


def test_one_open_connection_is_told_as_such() -> None:
    rows = [
        S(60.0 * k, 0.95, "c2", peer="185.9.9.9", port=6667, piece=k, final=False, uid="Clong",
          age=60.0 * k)
        for k in range(12)
    ]  # fmt: skip
    incident = run(incident_table(), rows, until=1_000.0)[-1].incident
    assert "keeps a connection to 185.9.9.9 on port 6667 (IRC) open (11 min so far)" in (
        incident.explanation
    )
    assert incident.peers[0].connections == 1


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("flood", "sent 400 packets to 185.9.9.9 on port 80 (HTTP), up to 73 a second"),
        ("brute-force", "opened 8 connections to 185.9.9.9 on port 80 (HTTP) within 5.0 s"),
        ("download", "fetched 9.0 MB from evil.example (185.9.9.9) on port 80 (HTTP), which it"),
        ("other", "behaves as infected devices do: 8 connections with 185.9.9.9 on port 80"),
    ],
)
def test_other_causes(cause: str, said: str) -> None:
    host = "evil.example" if cause == "download" else ""
    rows = [
        S(1.0 * k / 1.4, 0.999, cause, peer="185.9.9.9", port=80, resp_bytes=1_000_000, host=host,
          orig_pkts=50)
        for k in range(9 if host else 8)  # a download by name counts for a third
    ]  # fmt: skip
    incident = run(incident_table(), rows, until=300.0)[-1].incident
    assert said in incident.explanation
    assert incident.advice == ADVICE[cause]


def test_the_address_that_stands_out_is_named() -> None:
    rows = [
        S(1.0 * k, 0.999, "brute-force", peer="185.9.9.9" if k % 10 else f"52.0.0.{k}", port=22)
        for k in range(40)
    ]
    incident = run(incident_table(), rows, until=300.0)[-1].incident
    assert "opened 40 connections to 5 addresses, mostly 185.9.9.9, on port 22 (SSH)" in (
        incident.explanation
    )


def test_who_is_attacked_is_not_called_the_attacker() -> None:
    rows = [replace(s, outbound=False) for s in scan()]
    incident = run(incident_table(), rows, until=300.0)[-1].incident
    assert incident.explanation.startswith("60 addresses called Hall camera on port 23 (telnet)")
    assert incident.advice == ADVICE_INBOUND
    assert incident.severity == "low"


def test_unusual_names_what_the_autoencoder_could_not_rebuild() -> None:
    past = calm(0.0, 900, every=8.0)
    odd = [S(7_300.0 + 5 * k, 0.05, anomaly=3.0, peer=f"52.3.0.{k % 9}") for k in range(200)]
    incident = run(incident_table(), mixed(past, odd), until=9_000.0)[-1].incident
    assert [f.name for f in incident.features] == ["bytes_out"]
    assert incident.features[0].weight == 1.0
    assert "amount sent by the device" in incident.explanation


def test_features_weigh_by_their_distance_from_the_usual() -> None:
    x = np.zeros(len(NAMES), np.float32)
    x[NAMES.index("minute_peers")], x[NAMES.index("minute_conns")] = 4.0, 2.0
    x[NAMES.index("hour_sin")] = 50.0  # the time of day is no evidence
    found = top_features("scan", facts_of([row(x=x)]), ruler(), None)
    assert [f.name for f in found] == ["minute_peers", "minute_conns"]
    assert [round(f.weight, 3) for f in found] == [0.75, 0.25]
    assert found[0].text == "different destinations in the last minute: 54, usually 0 to 2"
    assert found[0].value == pytest.approx(np.expm1(4.0))
    own = np.zeros((3, len(NAMES)), np.float32)
    own[2, NAMES.index("minute_peers")] = 5.0
    assert [f.name for f in top_features("scan", facts_of([row(x=x)]), ruler(), own)] == [
        "minute_conns"
    ]


TEXT = st.text(max_size=80)


@settings(max_examples=60)
@given(
    cause=st.sampled_from([*CLASSES[1:], "unusual", "never heard of"]),
    host=TEXT,
    proto=st.integers(0, 255),
    outbound=st.booleans(),
    pieces=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    values=st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=5),
)
def test_any_facts_make_safe_words(
    cause: str, host: str, proto: int, outbound: bool, pieces: list[int], values: list[float]
) -> None:
    x: F32 = np.resize(np.array(values, np.float32), len(NAMES))
    rows = [
        row(host=host, proto=proto, outbound=outbound, piece=piece, uid=f"C{k}", x=x, error=x)
        for k, piece in enumerate(pieces)
    ]
    told = words(cause, "Hall camera", facts_of(rows), Habits(), ruler())
    for text in (told.explanation, told.advice, *(f.text for f in told.features)):
        assert text.isascii()
        assert text.isprintable()
    assert told.explanation.endswith(".")
    assert sum(f.weight for f in told.features) <= 1.0 + 1e-9


def test_habits_forget_and_stay_small() -> None:
    habits = Habits()
    x = np.zeros(3, np.float32)
    for k in range(2 * MAX_KNOWN_PEERS):
        habits.add(k * SAMPLE_NS, (0, k), x + k)
    assert not habits.knows((0, 0))
    assert habits.knows((0, 2 * MAX_KNOWN_PEERS - 1))
    assert habits.peers_an_hour() == 3_600 * NS // SAMPLE_NS
    usual = habits.usual()
    assert usual is not None
    assert usual.shape == (3, 3)
    assert usual[0, 0] > MAX_KNOWN_PEERS


def test_habits_say_nothing_before_they_know() -> None:
    habits = Habits()
    for k in range(ENOUGH_ROWS - 1):
        habits.add(k, (0, 1), np.zeros(3, np.float32))
    assert habits.usual() is None
    assert habits.peers_an_hour() is None


def test_silent_hours_count_as_silent() -> None:
    habits = Habits()
    for hour in (0, 9, 10):
        habits.add(hour * 3_600 * NS, (0, 1), np.zeros(3, np.float32))
    assert habits.peers_an_hour() == 0
