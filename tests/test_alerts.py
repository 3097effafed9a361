"""Incidents: when they open, what becomes of them, and when they stay silent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.alerts import AlertSettings, Allow, Feedback, IncidentTable, Snooze, Watch
from guardian.const import (
    MAX_COUNTED,
    MAX_EXAMPLES,
    MAX_OPEN_INCIDENTS,
    MAX_PEERS,
    MAX_PENDING,
    NS,
)
from guardian.evidence import LIMIT, Contrast, EvidenceSettings, Past, doublings, log_odds
from guardian.homes import Homes
from guardian.incidents import IncidentEvent
from tests.incident_rows import (
    CAMERA,
    CLASSES,
    HUB,
    LINE,
    MACS,
    START,
    S,
    beacon,
    calm,
    incident_table,
    mixed,
    run,
    scan,
    tables,
)

DAY = 86_400.0
WITH_COUNTERS = AlertSettings(counters=True)


def changes(events: list[IncidentEvent]) -> list[tuple[str, str]]:
    return [(e.change, e.incident.cause) for e in events]


def opened(events: list[IncidentEvent]) -> list[IncidentEvent]:
    return [e for e in events if e.change == "opened"]


# --- opening ------------------------------------------------------------------


def test_a_scan_opens_one_incident_within_seconds() -> None:
    events = run(incident_table(), scan())
    (event,) = opened(events)
    assert event.incident.cause == "scan"
    assert event.incident.speaker == "model"
    assert event.incident.device.name == "Hall camera"
    assert event.incident.opened <= (START + 2.0) * NS


def test_a_scan_of_a_new_device_opens_within_seconds_too() -> None:
    (event,) = opened(run(incident_table(age_s=0.0), scan()))
    assert event.incident.opened <= (START + 3.0) * NS


@pytest.mark.parametrize("every", [1.0, 60.0, 600.0, 3_600.0])
@pytest.mark.parametrize("age_s", [0.0, 30 * DAY])
def test_a_beacon_is_found_within_ten_beats(every: float, age_s: float) -> None:
    (event,) = opened(run(incident_table(age_s=age_s), beacon(every=every, threat=0.85)))
    assert event.incident.cause == "c2"
    assert event.incident.opened <= (START + 10 * every) * NS


def test_a_beacon_is_found_among_much_ordinary_traffic() -> None:
    rows = mixed(beacon(number=12), calm(number=400, every=2.0))
    (event,) = opened(run(incident_table(), rows))
    assert event.incident.cause == "c2"
    assert {p.ip for p in event.incident.peers} == {"185.9.9.9"}


def test_slices_of_one_long_connection_count_like_beats() -> None:
    rows = [
        S(60.0 * k, 0.95, "c2", peer="185.9.9.9", port=6667, piece=k, final=False, uid="Clong",
          age=60.0 * k)
        for k in range(12)
    ]  # fmt: skip
    (event,) = opened(run(incident_table(), rows))
    assert event.incident.cause == "c2"
    assert event.incident.opened <= (START + 10 * 60) * NS


@pytest.mark.parametrize("threat", [0.85, 0.9999, 1.0])
def test_one_stray_row_opens_nothing_however_sure(threat: float) -> None:
    rows = mixed(calm(number=200), [S(300.2, threat)])
    assert run(incident_table(), rows, until=2 * DAY) == []


def test_isolated_high_rows_of_benign_traffic_stay_silent() -> None:
    stray = [S(600.0 * k + 0.3, 0.97, peer=f"52.0.0.{k}") for k in range(140)]
    assert run(incident_table(), mixed(calm(number=17_000), stray)) == []


def test_isolated_high_rows_without_any_others_stay_silent() -> None:
    assert (
        run(incident_table(), [S(1_800.0 * k, 0.97, peer=f"52.0.0.{k}") for k in range(140)]) == []
    )


def test_what_the_device_gave_in_calm_hours_raises_its_line() -> None:
    """A device that always scores high in harmless bursts is not reported for another burst."""
    # Harmless: two high rows among many, each hour, which never suffice.
    past = [
        s
        for hour in range(24)
        for s in mixed(
            calm(hour * 3_600.0, 100, every=30.0),
            [S(hour * 3_600.0 + 1_000.1 + k, 0.9, peer=f"52.0.{hour}.{k % 200}") for k in (0, 700)],
        )
    ]
    burst = [S(DAY + 10 + k, 0.9, peer=f"52.1.0.{k}") for k in range(12)]
    assert opened(run(incident_table(), mixed(past, burst))) == []
    assert opened(run(incident_table(), burst)) != []
    sure = [replace(s, threat=0.99) for s in burst]
    assert opened(run(incident_table(), mixed(past, sure))) != []


def test_a_device_infected_from_its_first_minute_is_found() -> None:
    """Nothing but malicious rows, ever, of the only device."""
    table = incident_table(age_s=0.0)
    (event,) = opened(run(table, beacon(number=500, every=30.0, threat=0.97)))
    assert event.incident.opened <= (START + 10 * 30) * NS


def test_a_device_that_is_being_set_up_must_insist() -> None:
    """Its first address, then many calls to a cloud that is away; the same later is an alarm."""
    lease = S(1.0, peer="192.168.1.1", port=67, proto=17)
    rows = [S(20.0 + 4 * k, 0.93, "c2", peer=f"52.0.0.{k % 3}", state="S0") for k in range(9)]
    assert run(incident_table(age_s=0.0), [lease, *rows]) == []
    assert len(opened(run(incident_table(age_s=0.0), rows))) == 1
    # A lease that is renewed is no set-up, whoever asks for it.
    assert len(opened(run(incident_table(age_s=DAY), [lease, *rows]))) == 1
    later = [replace(s, at=s.at + 1_900.0) for s in rows]
    assert len(opened(run(incident_table(age_s=0.0), [lease, *later]))) == 1
    # What goes on is told all the same.
    assert len(opened(run(incident_table(age_s=0.0), [lease, *scan(30.0, 60)]))) == 1


def test_without_a_reference_the_home_shows_what_is_ordinary() -> None:
    rows = mixed(calm(number=60), scan(310.0))
    assert len(opened(run(incident_table(ordinary=None), rows))) == 1
    assert run(incident_table(ordinary=None), scan(number=500)) == []


THREATS = st.floats(0.0, 1.0, width=32)


@settings(max_examples=25)
@given(
    threat=THREATS,
    anomaly=st.floats(0.0, 1e6, width=32),
    cause=st.sampled_from(CLASSES[1:]),
    rows=st.lists(
        st.tuples(
            st.floats(0.001, 4_000.0),
            st.integers(0, 40),
            st.sampled_from([23, 80, 443]),
            st.booleans(),
            st.sampled_from([CAMERA, HUB]),
        ),
        max_size=120,
    ),
    known=st.booleans(),
    age_s=st.sampled_from([0.0, 30 * DAY]),
)
def test_a_bundle_whose_outputs_are_constant_opens_nothing(
    threat: float,
    anomaly: float,
    cause: str,
    rows: list[tuple[float, int, int, bool, str]],
    known: bool,
    age_s: float,
) -> None:
    """Whatever the score and the traffic; known: the bundle's golden sequences give it, too."""
    table = incident_table(
        age_s=age_s,
        ordinary=threat if known else None,
        anomaly=anomaly if known else None,
    )
    at, traffic = 0.0, []
    for gap, peer, port, outbound, device in rows:
        at += gap
        traffic.append(
            S(at, threat, cause, anomaly, f"52.0.0.{peer}", port, outbound=outbound, device=device)
        )
    traffic += [replace(s, at=s.at + at + 1.0) for s in scan(threat=threat)]
    traffic += [replace(s, at=s.at + at + 50.0) for s in beacon(threat=threat)]
    traffic = [replace(s, anomaly=anomaly, cause=cause) for s in traffic]
    assert run(table, traffic, until=at + DAY) == []


def test_numbers_that_are_none_are_no_evidence() -> None:
    assert run(incident_table(), scan(threat=float("nan")), until=DAY) == []


def test_a_device_whose_cloud_is_away_is_no_scanner_at_once() -> None:
    away = [
        replace(s, peer=f"34.1.2.{k % 3}", port=443, uid=f"C{k}")
        for k, s in enumerate(scan(0.0, 40))
    ]
    assert run(incident_table(), away[:8]) == []
    assert len(opened(run(incident_table(), away))) == 1


# --- one incident for one cause -----------------------------------------------


def test_one_incident_for_each_device_and_cause() -> None:
    hub = [replace(s, device=HUB) for s in scan(0.05, 40)]
    events = run(incident_table(), mixed(scan(), hub, beacon(0.1, 30, every=5.0)), until=300.0)
    found = Counter((e.incident.device.mac, e.incident.cause) for e in opened(events))
    assert found == {
        (MACS[CAMERA], "scan"): 1,
        (MACS[CAMERA], "c2"): 1,
        (MACS[HUB], "scan"): 1,
    }
    assert len({e.incident.id for e in events}) == 3


def test_a_label_that_flickers_makes_no_second_incident() -> None:
    rows = [
        replace(s, cause="other" if k % 10 == 7 else "scan") for k, s in enumerate(scan(0, 300))
    ]
    assert len(opened(run(incident_table(), rows))) == 1


def test_what_turns_into_another_thing_for_good_is_another_incident() -> None:
    """Password guessing, then a beacon to the same machine; the first rows look like the old."""
    guessing = [replace(s, peer="185.9.9.9", cause="brute-force") for s in scan(0.0, 40)]
    calls = [
        replace(s, cause="brute-force" if k < 6 else "c2")
        for k, s in enumerate(beacon(60.0, 40, every=20.0))
    ]
    events = run(incident_table(), mixed(guessing, calls), until=1_000.0)
    assert changes(opened(events)) == [("opened", "brute-force"), ("opened", "c2")]
    second = next(e.incident for e in reversed(events) if e.incident.cause == "c2")
    assert second.count >= 20


def test_what_a_device_does_to_one_machine_is_one_incident() -> None:
    """A scan of one machine's ports, of which every connection looks like something else."""
    rows = [
        replace(s, peer="64.13.134.52", port=k + 1, cause="scan" if k < 20 else CLASSES[1 + k % 6])
        for k, s in enumerate(scan(0.0, 200))
    ]
    events = run(incident_table(), rows, until=300.0)
    assert changes(opened(events)) == [("opened", "scan")]
    assert events[-1].incident.count == 200


def test_calls_between_two_devices_accuse_the_one_that_opened_them() -> None:
    table = incident_table()
    rows = [replace(s, peer=HUB, port=20 + k) for k, s in enumerate(scan())]
    devices = table._devices
    events = []
    for s in rows:
        slices, seen, scores = tables([s], devices)
        both = type(seen)(
            np.repeat(seen.x, 2, axis=0),
            np.array([devices.index(MACS[CAMERA]), devices.index(MACS[HUB])], dtype=np.int32),
            np.zeros(2, dtype=np.int64),
            np.array([True, False]),
        )
        twice = scores.take(np.array([0, 0]))
        events += table.step(slices, both, twice, int(slices.told[0]))
    assert {e.incident.device.mac for e in opened(events)} == {MACS[CAMERA]}


# --- a life -------------------------------------------------------------------


def test_opened_updated_escalated_closed() -> None:
    events = run(incident_table(), scan(0.0, 900, every=0.5), until=DAY)
    kinds = [e.change for e in events]
    assert kinds[0] == "opened"
    assert kinds[-1] == "closed"
    assert kinds.count("escalated") == 1
    assert 5 <= kinds.count("updated") <= 8
    first, last = events[0].incident, events[-1].incident
    (risen,) = [e.incident for e in events if e.change == "escalated"]
    assert (first.severity, risen.severity, last.severity) == ("medium", "high", "high")
    assert last.count == 900
    assert last.closed == int((START + 899 * 0.5 + 1_800) * NS)
    assert {e.incident.id for e in events} == {first.id}


def test_updates_are_at_least_a_minute_apart() -> None:
    events = run(incident_table(), scan(0.0, 3_000, every=0.1), until=400.0)
    told = [e.incident.updated for e in events if e.change == "updated"]
    assert len(told) >= 4
    # The last one carries evidence up to a few seconds before it was due.
    assert min(np.diff(told[:-1])) >= 60 * NS


def test_a_slow_beacon_is_not_closed_between_beats() -> None:
    events = run(incident_table(), beacon(number=40, every=3_000.0))
    assert [e.change for e in events].count("opened") == 1
    assert "closed" not in [e.change for e in events]


def test_what_comes_back_soon_is_the_same_incident_and_notifies_nobody() -> None:
    events = run(incident_table(), mixed(scan(), scan(2 * 3_600.0)), until=4 * 3_600.0)
    assert [e.change for e in events if e.change != "updated"] == ["opened", "closed", "closed"]
    assert len({e.incident.id for e in events}) == 1
    again = next(e for e in events if e.incident.count > 60)
    assert (again.change, again.incident.closed) == ("updated", None)


def test_what_comes_back_late_is_a_new_incident() -> None:
    events = run(incident_table(), mixed(scan(), scan(DAY)), until=2 * DAY)
    assert [e.change for e in events if e.change != "updated"] == ["opened", "closed"] * 2
    assert len({e.incident.id for e in events}) == 2


def test_only_what_is_open_is_open() -> None:
    table = incident_table()
    run(table, scan())
    (incident,) = table.open()
    assert incident.count == 60
    table.tick(int((START + DAY) * NS))
    assert table.open() == []


def test_the_end_of_the_input_tells_the_rest() -> None:
    table = incident_table()
    run(table, scan())
    (event,) = table.finish(int((START + 20) * NS))
    assert (event.change, event.incident.count, event.incident.closed) == ("updated", 60, None)
    assert table.finish(int((START + 21) * NS)) == []


STORIES = st.lists(
    st.tuples(
        st.sampled_from(["scan", "beacon", "calm", "odd"]),
        st.floats(0.0, 30_000.0),
        st.integers(1, 40),
        st.floats(0.1, 900.0),
        st.sampled_from([CAMERA, HUB]),
    ),
    min_size=1,
    max_size=6,
)


def story(kind: str, at: float, number: int, every: float, device: str) -> list[S]:
    makers = {"scan": scan, "beacon": beacon, "calm": calm}
    if kind == "odd":
        rows = [
            S(at + k * every, 0.9, CLASSES[1 + k % 6], peer=f"52.7.0.{k}") for k in range(number)
        ]
    else:
        rows = makers[kind](at, number, every=every)
    return [replace(s, device=device) for s in rows]


@settings(max_examples=25)
@given(STORIES, st.lists(st.integers(0, 240), max_size=8), st.booleans())
def test_steps_may_be_cut_anywhere(
    stories: list[tuple[str, float, int, float, str]], cuts: list[int], counters: bool
) -> None:
    rows = mixed(*(story(*s) for s in stories))
    kind = AlertSettings(counters=counters)
    whole = run(incident_table(settings=kind), rows, until=60_000.0)
    parts = run(incident_table(settings=kind), rows, cuts=cuts, until=60_000.0)
    assert parts == whole


# --- restart ------------------------------------------------------------------


def test_a_restart_keeps_an_incident_open_without_telling_again() -> None:
    first = incident_table()
    before = run(first, scan(0.0, 300))
    second = incident_table()
    second.restore(first.open())
    assert [i.id for i in second.open()] == [before[0].incident.id]
    events = run(second, scan(100.0, 300), until=DAY)
    assert {e.change for e in events} <= {"updated", "escalated", "closed"}
    assert "opened" not in {e.change for e in events}
    last = events[-1].incident
    assert events[-1].change == "closed"
    assert last.id == before[0].incident.id
    assert last.opened == before[0].incident.opened
    assert last.count == 600
    assert sum(p.connections for p in last.peers) <= 600


@pytest.mark.parametrize("cause", [*CLASSES[1:], "counter", "unusual"])
def test_a_restored_incident_closes_after_its_quiet_time(cause: str) -> None:
    what = "scan" if cause in ("counter", "unusual") else cause
    rows = [replace(s, cause=what) for s in scan(number=120)]
    first = incident_table()
    run(first, rows)
    stored = first.open()
    if cause == "counter":
        stored = [replace(i, speaker="counter") for i in stored]
    if cause == "unusual":
        stored = [replace(i, cause="unusual") for i in stored]
    second = incident_table()
    second.restore(stored)
    assert second.open() == stored
    (event,) = second.tick(int((START + 4_000) * NS))
    assert event.change == "closed"
    assert event.incident.explanation == stored[0].explanation


# --- the user -----------------------------------------------------------------


def test_what_is_allowed_is_no_evidence() -> None:
    table = incident_table()
    table.apply(Allow(device=MACS[CAMERA], peer="185.9.9.9", cause="c2"), int(START * NS))
    events = run(table, mixed(beacon(), scan(0.01)))
    assert {e.incident.cause for e in events} == {"scan"}


def test_an_allowance_ends() -> None:
    table = incident_table()
    table.apply(Allow(peer="cnc.example", until=int((START + 600) * NS)), int(START * NS))
    (event,) = opened(run(table, beacon(every=60.0)))
    assert event.incident.opened >= (START + 600) * NS


def test_an_allowance_closes_what_it_covers() -> None:
    table = incident_table()
    run(table, mixed(beacon(number=10, every=1.0), scan(0.01)))
    now = int((START + 20) * NS)
    events = table.apply(Allow(device=MACS[CAMERA], peer="185.9.9.9"), now)
    assert changes(events) == [("closed", "c2")]
    assert [i.cause for i in table.open()] == ["scan"]


def test_an_allowance_closes_what_was_open_before_a_restart() -> None:
    first, second = incident_table(), incident_table()
    run(first, beacon(number=10, every=1.0))
    second.restore(first.open())
    now = int((START + 20) * NS)
    assert second.apply(Allow(peer="52.0.0.1"), now) == []
    assert changes(second.apply(Allow(peer="cnc.example"), now)) == [("closed", "c2")]


def test_a_snoozed_device_is_recorded_and_told_later_if_it_goes_on() -> None:
    table = incident_table()
    table.apply(Snooze(MACS[CAMERA], int((START + 3_600) * NS)), int(START * NS))
    events = run(table, scan(0.0, 4_000, every=1.0), until=5_000.0)
    kinds = [e.change for e in events]
    assert kinds[0] == "updated"
    assert kinds.count("opened") == 1
    told = events[kinds.index("opened")].incident
    assert told.updated >= int((START + 3_500) * NS)
    assert "escalated" not in kinds[: kinds.index("opened")]


def test_what_ended_while_snoozed_is_never_told() -> None:
    table = incident_table()
    table.apply(Snooze(MACS[CAMERA], int((START + DAY) * NS)), int(START * NS))
    kinds = [e.change for e in run(table, scan(), until=2 * DAY)]
    assert kinds[0] == "updated"
    assert kinds[-1] == "closed"
    assert "opened" not in kinds


def test_feedback_closes_and_allows() -> None:
    table = incident_table()
    found = opened(run(table, scan()))[0].incident
    assert changes(table.apply(Feedback(found.id, "fine"), int((START + 30) * NS))) == [
        ("closed", "scan")
    ]
    assert run(table, scan(60.0)) == []
    assert len(opened(run(table, scan(31 * DAY)))) == 1


def test_feedback_that_it_is_bad_withdraws_what_was_allowed() -> None:
    table = incident_table()
    found = opened(run(table, scan()))[0].incident
    table.apply(Feedback(found.id, "this-was-me"), int((START + 30) * NS))
    table.apply(Feedback(found.id, "bad"), int((START + 40) * NS))
    assert run(table, scan(60.0), until=300.0) != []
    with pytest.raises(KeyError):
        table.apply(Feedback("none", "bad"), int((START + 50) * NS))


def test_a_network_is_allowed_whole() -> None:
    table = incident_table()
    table.apply(Allow(peer="185.9.9.0/24"), int(START * NS))
    assert run(table, beacon()) == []
    table.apply(Allow(peer="CNC.example".lower()), int(START * NS))
    other = [replace(s, peer="185.9.8.1", host="CNC.Example") for s in beacon(7_200.0)]
    assert run(table, other) == []


def test_what_was_undone_speaks_again() -> None:
    table = incident_table()
    found = opened(run(table, scan()))[0].incident
    table.apply(Feedback(found.id, "fine"), int((START + 30) * NS))
    assert run(table, scan(60.0)) == []
    table.hold([])
    events = run(table, scan(120.0), until=300.0)
    assert changes(opened(events)) == [("opened", "scan")]
    assert opened(events)[0].incident.id == found.id


def test_a_snooze_that_was_taken_back_lets_its_device_speak_at_once() -> None:
    table = incident_table()
    table.apply(Snooze(MACS[CAMERA], int((START + DAY) * NS)), int(START * NS))
    assert "opened" not in [e.change for e in run(table, scan())]
    table.hold([])
    assert [e.change for e in table.tick(int((START + 13) * NS))] == ["opened"]


def test_only_what_gets_worse_speaks_again_even_when_snoozed() -> None:
    table = incident_table()
    assert next(e.change for e in run(table, scan(0.0, 60))) == "opened"
    table.apply(Snooze(MACS[CAMERA], int((START + DAY) * NS)), int((START + 13) * NS))
    later = [replace(s, peer=f"198.51.{k // 200}.{k % 200}") for k, s in enumerate(scan(13.0, 900))]
    loud = [e for e in run(table, later, until=DAY / 2) if e.change in ("opened", "escalated")]
    assert [(e.change, e.incident.severity) for e in loud] == [("escalated", "high")]


def test_what_was_bad_is_told_sooner_for_thirty_days() -> None:
    def first_row(table: IncidentTable, at: float) -> int:
        now = opened(run(table, scan(at, 60, threat=0.9)))[0].incident
        return round((now.opened / NS - START - at) / 0.2) + 1

    plain, bad = incident_table(), incident_table()
    found = opened(run(bad, scan()))[0].incident
    bad.apply(Feedback(found.id, "bad"), int((START + 60) * NS))
    usual = first_row(plain, DAY)
    assert first_row(bad, DAY) <= usual / 2 + 1 < usual
    assert first_row(bad, 31 * DAY) == usual
    # Under the bundle's line by less than 1.0 in log odds: evidence where it was bad.
    below = scan(40 * DAY, 60, threat=LINE - 0.1)
    assert opened(run(plain, below)) == []
    bad.apply(Watch(MACS[CAMERA], "scan", int((START + 41 * DAY) * NS)), int(START * NS))
    assert len(opened(run(bad, below))) == 1


# --- the week's limit -------------------------------------------------------------


def limited(a_week: int = 2) -> IncidentTable:
    return incident_table(settings=AlertSettings(counters=False, a_week=a_week))


def few(at: float) -> list[S]:
    """Return a scan of medium severity."""
    return scan(at, 40)


def test_beyond_the_weeks_limit_incidents_are_held_back_and_still_recorded() -> None:
    table = limited()
    stories = mixed(*(few(k * DAY) for k in range(4)))
    events = [e for e in run(table, stories, until=5 * DAY) if e.change != "updated"]
    assert [e.change for e in events] == ["opened", "closed"] * 2 + ["held", "closed"] * 2
    assert [e.told for e in events] == [True] * 4 + [False] * 4
    # Seven days after the first one there is room again.
    later = run(table, mixed(few(7.1 * DAY), few(7.6 * DAY)))
    assert [e.change for e in later if e.change in ("opened", "held")] == ["opened", "held"]


def test_the_more_of_a_week_is_spent_the_more_evidence_is_asked() -> None:
    def asked(spent: int) -> float:
        """Return the second at which a beacon is told, or held back, after some incidents."""
        table = limited(2)
        run(table, mixed(*(few(k * DAY) for k in range(spent))))
        rows = beacon(4 * DAY, 30)
        moments = [e.incident.opened for e in run(table, rows) if e.change in ("opened", "held")]
        return (moments[0] - START * NS) / NS - 4 * DAY

    none, half, full = (asked(spent) for spent in (0, 1, 2))
    assert none < half < full <= 2 * none


def test_without_a_limit_all_are_told() -> None:
    stories = mixed(*(few(k * DAY) for k in range(4)))
    assert len(opened(run(limited(0), stories, until=5 * DAY))) == 4


def test_what_is_of_high_severity_is_always_told() -> None:
    table = limited(1)
    first = opened(run(table, few(0.0)))
    # It begins as any other, is held back, and is told once it is bad enough.
    rows = scan(DAY, 900)
    loud = [e for e in run(table, rows, until=2 * DAY) if e.change in ("held", "opened")]
    assert len(first) == 1
    assert [(e.change, e.incident.severity) for e in loud] == [
        ("held", "medium"),
        ("opened", "high"),
    ]


def test_what_is_still_open_when_there_is_room_is_told_then() -> None:
    table = limited(1)
    run(table, few(0.0))
    slow = [
        replace(s, at=2 * DAY + 900.0 * k, threat=0.9, cause="c2", peer="185.9.9.9")
        for k, s in enumerate(scan(0.0, 9))
    ]
    kinds = [e.change for e in run(table, slow, until=2.2 * DAY)]
    assert "held" in kinds
    assert "opened" not in kinds
    on = [replace(s, at=6.9 * DAY + 900.0 * k, uid=f"D{k}") for k, s in enumerate(slow)]
    before = [e.change for e in run(table, on, until=6.999 * DAY)]
    assert "held" in before
    assert "opened" not in before
    assert [e.change for e in table.tick(int((START + 7.001 * DAY) * NS))].count("opened") == 1


def test_a_restart_remembers_what_the_week_had_and_what_was_held_back() -> None:
    first, second = limited(1), limited(1)
    at = opened(run(first, few(0.0)))[0].incident.opened
    run(first, few(DAY))
    held = first.open()
    second.restore(held, {held[0].id: True}, [at])
    assert "opened" not in [e.change for e in run(second, few(DAY + 60.0))]
    assert "held" not in [e.change for e in run(second, few(DAY + 120.0))]
    loud = [e.change for e in run(second, scan(DAY + 180.0, 900))]
    assert loud.count("opened") == 1


# --- the autoencoder alone ------------------------------------------------------


def odd(at: float, number: int, *, every: float = 5.0, anomaly: float = 3.0) -> list[S]:
    return [S(at + k * every, 0.05, anomaly=anomaly, peer=f"52.3.0.{k % 9}") for k in range(number)]


def test_unusual_needs_a_settled_device_and_must_insist() -> None:
    past = calm(0.0, 900, every=8.0)
    (event,) = opened(run(incident_table(), mixed(past, odd(7_300.0, 200))))
    assert (event.incident.cause, event.incident.label) == ("unusual", "benign")
    assert event.incident.severity == "low"
    assert event.incident.score == pytest.approx(3.0)
    assert event.incident.opened >= (START + 7_300 + 300) * NS
    assert opened(run(incident_table(), mixed(past, odd(7_300.0, 15)))) == []
    assert opened(run(incident_table(age_s=0.0), mixed(past, odd(7_300.0, 200)))) == []


def test_unusual_is_measured_by_what_the_device_always_did() -> None:
    always = odd(0.0, 900, every=8.0)
    assert run(incident_table(), mixed(always, odd(7_300.0, 200))) == []


# --- the plain counters -----------------------------------------------------------


def test_a_plain_sweep_is_told_by_a_counter_that_says_so() -> None:
    rows = scan(0.0, 150, every=0.1, threat=0.02)
    (event,) = opened(run(incident_table(settings=WITH_COUNTERS), rows))
    assert (event.incident.cause, event.incident.speaker) == ("scan", "counter")
    assert "not a model" in event.incident.explanation
    assert run(incident_table(), rows) == []


def test_where_the_models_speak_no_counter_does() -> None:
    events = run(incident_table(settings=WITH_COUNTERS), scan(0.0, 400, every=0.1), until=300.0)
    assert {e.incident.speaker for e in events} == {"model"}
    assert len(opened(events)) == 1
    assert events[-1].incident.count == 400


def test_models_that_join_take_over_from_a_counter() -> None:
    rows = [
        replace(s, threat=0.02 if k < 120 else 0.99)
        for k, s in enumerate(scan(0.0, 200, every=0.1))
    ]
    events = run(incident_table(settings=WITH_COUNTERS), rows, until=300.0)
    assert len(opened(events)) == 1
    assert events[0].incident.speaker == "counter"
    assert events[-1].incident.speaker == "model"
    assert "counter" not in events[-1].incident.explanation
    assert events[-1].incident.count == 200


def test_one_giant_flow_is_a_flood() -> None:
    flow = S(
        5.0, 0.1, port=80, orig_pkts=30_000, resp_pkts=0, duration=5.0, state="S0", final=False
    )
    (event,) = opened(run(incident_table(settings=WITH_COUNTERS), [flow]))
    assert (event.incident.cause, event.incident.speaker) == ("flood", "counter")
    assert event.incident.severity == "high"
    answered = replace(flow, resp_pkts=3_000)
    assert run(incident_table(settings=WITH_COUNTERS), [answered]) == []


def datagrams(number: int, packets: int) -> list[S]:
    """Return calls to relays that the models take for a flood, each of some packets."""
    return [S(k * 0.3, 0.99, "flood", peer=f"45.9.{k // 200}.{k % 200}", port=6_756 + k, proto=17,
              orig_pkts=packets, resp_pkts=0)
            for k in range(number)]  # fmt: skip


def test_a_flood_has_a_hundred_packets() -> None:
    """However sure the models are: who knocks at relays of a cloud floods nobody."""
    assert opened(run(incident_table(), datagrams(99, 1))) == []
    (event,) = opened(run(incident_table(), datagrams(100, 1)))
    assert event.incident.cause == "flood"


def test_packets_count_beyond_the_rows_that_are_kept() -> None:
    assert MAX_PENDING < 100
    (event,) = opened(run(incident_table(), datagrams(4, 30)))
    assert (event.incident.cause, event.incident.count) == ("flood", 4)


def test_a_heavy_slice_that_the_model_suspects_is_a_flood_at_once() -> None:
    heavy = S(5.0, 0.7, "c2", port=31_337, proto=17, orig_pkts=3_600, resp_pkts=0, duration=5.0)
    (event,) = opened(run(incident_table(settings=WITH_COUNTERS), [heavy]))
    assert event.incident.cause == "flood"
    assert event.incident.speaker == "model"
    for other in (
        replace(heavy, threat=0.2),  # no model suspects it
        replace(heavy, resp_pkts=100),  # a stream with reports of its receiver
        replace(heavy, orig_pkts=2_900),
        replace(heavy, duration=8.0),
    ):
        assert run(incident_table(settings=WITH_COUNTERS), [other]) == []


def test_a_download_of_next_to_nothing_is_a_call() -> None:
    rows = [replace(s, cause="download") for s in beacon(number=9)]
    (event,) = opened(run(incident_table(), rows))
    assert event.incident.cause == "c2"
    rows = [replace(s, resp_bytes=40_000, host="") for s in rows]
    (event,) = opened(run(incident_table(), rows))
    assert event.incident.cause == "download"


def test_many_unanswered_connections_to_one_machine_are_a_flood() -> None:
    rows = [
        replace(s, peer="203.0.113.9", port=80, uid=f"C{k}")
        for k, s in enumerate(scan(0.0, 1_500, every=0.01, threat=0.02))
    ]
    found = opened(run(incident_table(settings=WITH_COUNTERS), rows))
    assert [e.incident.cause for e in found] == ["flood"]


def test_many_silent_ports_of_one_machine_are_a_sweep() -> None:
    rows = [
        replace(s, peer="192.168.1.9", port=k + 1, uid=f"C{k}")
        for k, s in enumerate(scan(0.0, 120, every=0.1, threat=0.02))
    ]
    (event,) = opened(run(incident_table(settings=WITH_COUNTERS), rows))
    assert "100 ports of one machine called in vain" in event.incident.explanation
    slow = [replace(s, at=10.0 * s.at) for s in rows]
    assert run(incident_table(settings=WITH_COUNTERS), slow) == []
    by_udp = [replace(s, proto=17) for s in rows]
    assert run(incident_table(settings=WITH_COUNTERS), by_udp) == []


def test_a_browser_and_answered_calls_alarm_no_counter() -> None:
    rows = [
        S(0.1 * k, 0.02, peer=f"34.0.{k // 200}.{k % 200}", state="S0" if k % 4 == 0 else "SF",
          resp_pkts=0 if k % 4 == 0 else 9)
        for k in range(500)
    ]  # fmt: skip
    assert run(incident_table(settings=WITH_COUNTERS), rows) == []


# --- bounds -------------------------------------------------------------------


def test_an_incident_stays_small_whatever_a_device_does() -> None:
    rows = [
        replace(s, peer=f"10.{k // 60_000}.{k // 250 % 250}.{k % 250 + 1}", port=k % 60_000)
        for k, s in enumerate(scan(0.0, 6_000, every=0.01))
    ]
    table = incident_table()
    incident = run(table, rows, until=120.0)[-1].incident
    assert incident.count == 6_000
    assert len(incident.peers) == MAX_PEERS
    assert len(incident.connections) == MAX_EXAMPLES
    assert f"over {MAX_COUNTED:,}" in incident.explanation


def test_no_more_incidents_than_a_person_could_read() -> None:
    table = incident_table()
    table._number = MAX_OPEN_INCIDENTS
    assert run(table, scan()) == []
    assert table.refused > 0


def test_forged_devices_push_out_each_other_not_the_home() -> None:
    homes = Homes(EvidenceSettings(), capacity=8)
    mine = homes.get("camera", 0)
    assert homes.get("camera", 3_600 * NS) is mine
    for k in range(50):
        homes.get(f"forged {k}", (3_600 + k) * NS)
    assert len(homes) == 8
    assert homes.peek("camera") is mine
    assert homes.peek("forged 49") is not None
    assert homes.peek("forged 0") is None


def test_a_score_of_the_last_hours_is_shown() -> None:
    table = incident_table()
    index = table._devices.index(MACS[CAMERA])
    assert table.score(index) == 0.0
    run(table, [S(10.0, 0.5), S(20.0, 0.25)])
    assert table.score(index) == 0.5
    run(table, [S(3 * 3_600.0, 0.125)])
    assert table.score(index) == 0.125
    assert table.learning(index) is False
    assert incident_table(age_s=0.0).learning(index) is True


def test_same_story_same_ids() -> None:
    a, b = run(incident_table(), scan()), run(incident_table(), scan())
    assert [e.incident.id for e in a] == [e.incident.id for e in b]
    other = run(incident_table(), [replace(s, device=HUB) for s in scan()])
    assert other[0].incident.id != a[0].incident.id


# --- parts --------------------------------------------------------------------


def test_levels() -> None:
    assert log_odds(0.5) == 0.0
    assert log_odds(float("nan")) == log_odds(0.0) == -LIMIT
    assert log_odds(1.0) == LIMIT
    assert doublings(4.0) == 2.0
    assert doublings(float("nan")) == doublings(-1.0) == -LIMIT
    assert doublings(float("inf")) == LIMIT


@settings(max_examples=20)
@given(st.lists(st.floats(-LIMIT, LIMIT), min_size=100, max_size=150))
def test_the_past_is_the_high_end_of_whole_calm_hours(levels: list[float]) -> None:
    past = Past()
    for k, level in enumerate(levels):
        past.add(level, k * NS, tainted=False)
    assert past.high(1) is None  # the hour is not over
    past.add(0.0, 3_600 * NS, tainted=False)
    high = past.high(1)
    assert high is not None
    assert abs(high - np.quantile(levels, 0.99, method="inverted_cdf")) <= 0.26
    spoilt = Past()
    for k, level in enumerate(levels):
        spoilt.add(level, k * NS, tainted=k == 5)
    spoilt.add(0.0, 3_600 * NS, tainted=False)
    assert spoilt.high(1) is None


def test_contrast_follows_the_lower_of_reference_and_home() -> None:
    contrast = Contrast(2.0, reference=3.0)
    assert not contrast.stands_out(4.0)
    for _ in range(Contrast.FEW):
        contrast.add(-3.0)
    assert contrast.stands_out(4.0)


def test_a_table_forgets_nothing_it_needs_of_a_device_that_was_evicted() -> None:
    table: IncidentTable = incident_table()
    run(table, scan())
    table._devices._rows.clear()
    table._devices._by_key.clear()
    (event,) = table.tick(int((START + DAY) * NS))[-1:]
    assert (event.change, event.incident.device.name) == ("closed", "Hall camera")
