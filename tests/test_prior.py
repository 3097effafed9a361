"""What a device does in its first day, held to what devices of its class do at most."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardian import bundle as bundles
from guardian import capture
from guardian.addresses import Lan
from guardian.alerts import AlertSettings, IncidentTable
from guardian.bundle import BundleError
from guardian.const import MAX_DAY_NAMED, MAX_DAY_STRANGERS, NS
from guardian.deviceclass import CLASSES, COMPUTER, PHONE, THING
from guardian.devices import DeviceTable
from guardian.dhcp import fingerprint_of
from guardian.evidence import EvidenceSettings
from guardian.featurelist import NAMES as FEATURES
from guardian.firstday import FLOORS, LEAST_NAMED, QUIET, Day
from guardian.homes import Homes
from guardian.incidents import Incident
from guardian.past import Models, pack, unpack
from guardian.pipeline import Pipeline
from guardian.prior import (
    CAME,
    CLASS_MOVES_MOST,
    NEVER,
    PHASES,
    SENT,
    STATISTICS,
    STRANGERS,
    THERE,
    WINDOWS_S,
    Prior,
    as_manifest,
    of_manifest,
)
from guardian.seen import Seen, see
from tests import bundles as made
from tests.incident_rows import CAMERA, MACS, START, S, device_table, ruler, run, tables
from tests.test_deviceclass import WINDOWS

HOUR, DAY = 3_600.0, 86_400.0
MB = 1_000_000
PEER = "45.9.20.7"


def levels(**given: float) -> tuple[tuple[float, ...], ...]:
    """Return levels of all windows alike; without one where none is given."""
    return (tuple(given.get(name, math.inf) for name in STATISTICS),) * len(WINDOWS_S)


def prior(**given: float) -> Prior:
    return Prior(1_000, {(kind, phase): levels(**given) for kind in CLASSES for phase in PHASES})


def table(known: Prior | None, age_s: float = 30 * DAY) -> IncidentTable:
    judged = replace(ruler(), prior=known)
    return IncidentTable(judged, device_table(age_s), Lan(), AlertSettings(counters=True))


def asks(at: float, peer: str = "34.1.2.3", **given: object) -> list[S]:
    """Return a question to the router and the call that it was for."""
    dns = S(at, peer="192.168.1.1", port=53, proto=17, service="dns", orig_bytes=40)
    return [dns, S(at + 1, peer=peer, **given)]  # type: ignore[arg-type]


def usual(number: int = 5, at: float = 1.0) -> list[S]:
    return [s for k in range(number) for s in asks(at + 20 * k)]


def sends(
    total: int, at: float = 300.0, *, parts: int = 10, peer: str = PEER, **given: object
) -> list[S]:
    """Return one connection that carries so much out of the home."""
    return [
        S(at + 60 * k, peer=peer, port=443, piece=k, uid="Cout", age=60.0 * k, final=k == parts - 1,
          orig_bytes=total // parts, resp_bytes=900, **given)  # type: ignore[arg-type]
        for k in range(parts)
    ]  # fmt: skip


def told(table: IncidentTable, rows: Sequence[S]) -> list[Incident]:
    return [e.incident for e in run(table, rows) if e.change == "opened"]


def seen(rows: Sequence[S]) -> Iterator[Seen]:
    """Return what the incidents see of slices, one table a thousand."""
    devices = device_table()
    for k in range(0, len(rows), 1_000):
        slices, features, scores = tables(rows[k : k + 1_000], devices)
        yield from see(slices, features, scores, Lan())


def day_of(rows: Sequence[S]) -> Day:
    """Return the day of a device that is settled; each machine is new to it."""
    day = Day()
    for one in seen(rows):
        day.take(one, fresh=True)
    return day


# --- what is counted --------------------------------------------------------------------


def test_what_is_sent_to_who_was_never_asked_for_is_counted() -> None:
    day = day_of([*usual(), *sends(10 * MB), *sends(30 * MB, 900.0, peer="34.1.2.3")])
    assert day.counts == [10 * MB, 1]
    assert day.named == 5, "to who was asked for once it needs no further question"


def test_a_question_that_is_told_after_its_call_names_it() -> None:
    dns, call = asks(300.0, PEER)
    early = replace(dns, at=300.4, piece=1, age=1.5)
    day = day_of([*usual(), replace(call, at=300.0), early, *sends(MB, 400.0)])
    assert day.counts == [0, 0]
    late = [*usual(), replace(call, at=300.0), *sends(MB, 400.0), replace(dns, at=1_200.0)]
    assert day_of(late).counts[STRANGERS] == 1


def test_who_is_asked_for_later_is_a_stranger_no_more() -> None:
    day = day_of([*usual(), *sends(9 * MB), *sends(2 * MB, 950.0, peer="45.9.20.8")])
    assert day.counts == [9 * MB, 2]
    for one in seen(asks(2_000.0, PEER)):
        day.take(one, fresh=True)
    assert day.counts == [2 * MB, 1], "of the other one"


def test_who_it_knew_before_is_no_stranger_nor_is_what_was_under_way() -> None:
    day = Day()
    for one in seen([*usual(), *sends(9 * MB)]):
        day.take(one, fresh=False)
    assert (day.counts, day.named) == ([0, 0], 5)
    assert day_of([*usual(), *sends(9 * MB, state="OTH")]).counts == [0, 0]
    near = [S(100.0 + k, peer=PEER, proto=17, orig_bytes=MB) for k in range(9)]
    assert day_of([*usual(), *near]).counts == [0, 0], "streams by UDP have no names"


def test_what_is_remembered_is_capped_whatever_a_device_does() -> None:
    rows = [*usual()]
    for k in range(3_000):
        ip = f"{50 + k % 100}.{k // 250}.{k % 250}.9"
        rows += [
            S(200.0 + k, peer=ip, orig_bytes=300),
            *asks(200.2 + k, ip.replace(".9", ".8")),
        ]
    big = sends(50 * MB, 150.0, parts=1)
    rows[10:10] = big
    day = day_of(sorted(rows, key=lambda s: s.at))
    assert len(day._strangers) <= MAX_DAY_STRANGERS
    assert len(day._named) <= MAX_DAY_NAMED
    parts = (day._named, day._strangers)
    held = sum(map(sys.getsizeof, (*parts, *(x for part in parts for x in part))))
    held += sum(sys.getsizeof(s) + 2 * 36 for s in day._strangers.values())
    assert held < 20_000, "as const.py says"
    assert day.counts[SENT] == 50 * MB


def test_who_got_most_is_not_pushed_out_by_others() -> None:
    rows = [*usual(), *sends(5 * MB, 200.0, parts=1)]
    rows += [S(300.0 + k, peer=f"60.1.{k // 200}.{k % 200}", orig_bytes=2_000) for k in range(600)]
    rows += [replace(s, piece=1) for s in sends(5 * MB, 1_000.0, parts=1)]
    assert day_of(rows).counts[SENT] == 10 * MB


# --- what is told -----------------------------------------------------------------------


def test_a_device_that_sends_more_than_its_class_is_told_once_in_words() -> None:
    home = table(prior(sent=8 * MB))
    found = told(home, [*usual(), *sends(40 * MB), *sends(90 * MB, 2_000.0)])
    assert [(i.cause, i.severity, i.speaker) for i in found] == [("unusual", "low", "counter")]
    said = found[0].explanation
    assert "it sent 12.0 MB to one machine outside that it never asked for by name" in said
    assert (
        "of 1,000 newly watched things one comes to more than 8.0 MB in its first ten minutes"
        in said
    )
    assert PEER in {p.ip for p in found[0].peers}
    again = [*usual(at=2 * HOUR), *sends(90 * MB, 3 * HOUR), *sends(90 * MB, 30 * HOUR)]
    assert told(home, again) == [], "of the same nobody hears twice"


@pytest.mark.parametrize("rows", [
    [*usual(), *sends(7 * MB)], [*usual(), *sends(40 * MB, peer="34.1.2.3")], sends(40 * MB),
    usual(500),
])  # fmt: skip
def test_what_its_class_does_too_is_not_told(rows: list[S]) -> None:
    assert told(table(prior(sent=8 * MB, strangers=3)), rows) == []


def test_who_asks_for_no_names_has_no_strangers() -> None:
    home = table(prior(sent=8 * MB))
    assert told(home, sends(40 * MB)) == []
    assert told(home, usual(LEAST_NAMED - 1, at=1_000.0)) == []
    more = [*usual(1, at=1_100.0), *sends(MB, 1_200.0, parts=1)]
    assert [i.cause for i in told(home, more)] == ["unusual"], "from then on they count"


def test_in_a_full_week_it_waits() -> None:
    settings = AlertSettings(counters=True, a_week=1)
    home = IncidentTable(
        replace(ruler(), prior=prior(sent=8 * MB)), device_table(30 * DAY), Lan(), settings
    )
    home.week.load([int((START - DAY) * NS)], 1)
    changes = [e.change for e in run(home, [*usual(), *sends(40 * MB)])]
    assert "held" in changes
    assert "opened" not in changes


def test_many_strangers_speak_too() -> None:
    rows = [*usual(), *(S(200.0 + k, peer=f"60.1.1.{k}") for k in range(9))]
    found = told(table(prior(strangers=4)), rows)
    assert [i.cause for i in found] == ["unusual"]
    assert "it called 5 machines outside that it never asked for by name" in found[0].explanation


def test_who_is_young_and_was_there_before_has_no_strangers() -> None:
    rows = [*usual(), *sends(40 * MB)]
    assert told(table(prior(sent=8 * MB), age_s=5 * HOUR), rows) == []
    assert told(table(prior(sent=8 * MB), age_s=6 * HOUR), rows)


def test_nothing_is_told_without_a_prior_or_counters_or_beside_an_incident() -> None:
    rows = [*usual(), *sends(40 * MB)]
    assert told(table(None), rows) == []
    silent = IncidentTable(
        replace(ruler(), prior=prior(sent=8 * MB)), device_table(30 * DAY), Lan(),
        AlertSettings(counters=False),
    )  # fmt: skip
    assert told(silent, rows) == []
    scans = [
        S(110.0 + k / 10, 0.99, peer=f"203.0.{k // 200}.{k % 200}", port=23, state="S0",
          resp_pkts=0, resp_bytes=0) for k in range(60)
    ]  # fmt: skip
    found = told(table(prior(sent=8 * MB)), [*usual(), *scans, *sends(40 * MB)])
    assert [i.cause for i in found] == ["scan"], "one story is enough"


def test_who_was_seen_to_come_is_held_to_who_came() -> None:
    known = Prior(1_000, {
        (THING, CAME): levels(strangers=5.0), (THING, THERE): levels(strangers=50.0),
    })  # fmt: skip
    joins = S(0.5, peer="192.168.1.1", port=67, proto=17)
    beats = [S(200.0 + 60 * k, peer=f"60.1.1.{k}") for k in range(20)]
    found = told(table(known, age_s=0.0), [joins, *usual(), *beats])
    assert [i.cause for i in found] == ["unusual"]
    assert "of 1,000 new things one comes to more than 5 in its first" in found[0].explanation
    assert told(table(known), [*usual(), *beats]) == []
    assert told(table(known, age_s=0.0), [*usual(), *beats]) == []


def test_each_age_has_its_level_and_a_class_its_own() -> None:
    rising = tuple(
        tuple(level if name == "sent" else math.inf for name in STATISTICS)
        for level in (1.0 * MB, 2.0 * MB, 6.0 * MB, 20.0 * MB)
    )
    known = Prior(1_000, {(THING, THERE): rising, (COMPUTER, THERE): levels(sent=30.0 * MB)})
    for at, amount, found in (
        (200.0, 2, True), (2_000.0, 2, False), (2_000.0, 3, True),
        (8_000.0, 5, False), (8_000.0, 7, True), (40_000.0, 19, False),
    ):  # fmt: skip
        rows = [*usual(), *sends(amount * MB - 1, at, parts=1)]
        assert bool(told(table(known), rows)) == found, (at, amount)
    computer = table(known)
    row = computer._devices._rows[computer._devices.index(MACS[CAMERA])]
    row.fingerprint = fingerprint_of(WINDOWS, b"MSFT 5.0")
    row.classify()
    assert computer._devices.kind(computer._devices.index(MACS[CAMERA])) == COMPUTER
    assert told(computer, [*usual(), *sends(29 * MB, 200.0)]) == []
    assert told(computer, sends(3 * MB, 8_000.0))[0].cause == "unusual"


def test_a_claim_gains_little_whatever_the_bundle_says() -> None:
    kinds = {THING: {THERE: {"sent": [MB] * 4}}, PHONE: {THERE: {"sent": [9e15] * 4}}}
    known = of_manifest({"of": 1_000, "levels": kinds})
    assert known is not None
    assert known.at(PHONE, THERE, 0)[SENT] == CLASS_MOVES_MOST * MB
    for kind in CLASSES:
        for phase in PHASES:
            for window in range(len(WINDOWS_S)):
                shipped = bundles.load(bundles.default_path()).prior
                assert shipped is not None
                things = shipped.at(THING, phase, window)
                for mine, theirs in zip(shipped.at(kind, phase, window), things, strict=True):
                    assert mine <= CLASS_MOVES_MOST * theirs


# --- later days ---------------------------------------------------------------------------


def week(amount: int, days: int, at: float = 0.0) -> list[S]:
    """Return days on each of which a device sends as much to a stranger."""
    return [
        s for k in range(days)
        for s in (*usual(at=at + k * DAY + 5), *sends(amount, at + k * DAY + 200, parts=1))
    ]  # fmt: skip


def test_a_devices_own_days_move_what_is_normal_for_it() -> None:
    known = prior(sent=8.0 * MB)
    quiet, busy = day_of(week(0, 30)), day_of(week(7 * MB, 30))
    assert quiet.days == busy.days == 29
    limit = known.at(THING, THERE, 3)[SENT]
    assert quiet.limits(known, THING)[SENT] < limit < busy.limits(known, THING)[SENT]
    assert quiet.limits(known, THING)[SENT] >= QUIET * FLOORS[SENT]
    assert busy.limits(known, THING)[SENT] >= 2 * busy.own[SENT]
    first = day_of(week(0, 2)).limits(known, THING)[SENT]
    assert quiet.limits(known, THING)[SENT] < first < limit, "the longer, the nearer its own"
    assert day_of(week(0, 1)).limits(known, THING) == known.at(THING, THERE, 0)
    assert math.isinf(quiet.limits(known, THING)[STRANGERS]), "no prior, no level"


def test_nobody_can_teach_it_far() -> None:
    day, known, limit = Day(), prior(sent=8.0 * MB), 0.0
    for k in range(60):  # each day as much as goes without a word
        amount = int(max(limit, 8.0 * MB)) - 1
        for one in seen([*usual(at=k * DAY + 5), *sends(amount, k * DAY + 200, parts=1)]):
            day.take(one, fresh=True)
        assert day.beyond(known, THING) == -1
        limit = day.limits(known, THING)[SENT]
    assert limit == 10 * 8.0 * MB


def test_where_nothing_is_to_adapt_the_priors_day_holds() -> None:
    rows = [*week(7 * MB, 20), *usual(at=20 * DAY), *sends(10 * MB, 20 * DAY + 500)]
    known = prior(sent=8.0 * MB)
    assert told(table(known), rows) == []
    fixed = table(known)
    fixed.settings = AlertSettings(EvidenceSettings().adapting(False), counters=True)
    assert len(told(fixed, rows)) == 1
    switched = table(known)
    assert told(switched, rows[:-10]) == []
    switched.settings = fixed.settings
    switched.homes.renew()
    assert len(told(switched, rows[-10:])) == 1


def test_a_day_that_was_told_teaches_nothing() -> None:
    home = table(prior(sent=8 * MB))
    rows = [*week(0, 1), *week(500 * MB, 3, at=DAY), *week(0, 2, at=4 * DAY)]
    found = told(home, rows)
    assert [i.cause for i in found] == ["unusual"]
    assert "within a day; below" in found[0].explanation
    day = home.homes.peek(MACS[CAMERA])
    assert day is not None
    assert day.day.days == 4, "of five that are over"
    scanned = table(prior(sent=8 * MB))
    scans = [
        S(DAY + 3_000 + k / 10, 0.99, peer=f"203.0.{k // 200}.{k % 200}", port=23, state="S0",
          resp_pkts=0, resp_bytes=0) for k in range(60)
    ]  # fmt: skip
    rows = [*week(0, 1), *week(7 * MB, 1, at=DAY), *scans, *week(0, 1, at=2 * DAY)]
    assert [i.cause for i in told(scanned, rows)] == ["scan"]
    other = scanned.homes.peek(MACS[CAMERA])
    assert other is not None
    assert (other.day.days, other.day.own[SENT]) == (1, 0.0)


def test_it_survives_a_restart_but_for_what_the_day_counted() -> None:
    home = table(prior(sent=8 * MB))
    run(home, [*week(5 * MB, 3), *usual(at=3 * DAY + 10), *sends(400 * MB, 3 * DAY + 500)])
    models, homes = Models("one", FEATURES), Homes(EvidenceSettings())
    before = home.homes.settled()[MACS[CAMERA]]
    packed = pack(before, models)
    for other in (models, Models("two", FEATURES[1:])):
        after = unpack(packed, other, homes, int((START + 5 * DAY) * NS))[0].day
        assert after.as_json() == before.day.as_json()
    assert after.told == 1 << SENT
    assert after.days == 3
    assert after.limits(prior(sent=8.0 * MB), THING)[SENT] > 8 * MB
    assert after.counts == [0] * len(STATISTICS)


@pytest.mark.parametrize("broken", [
    {"days": -1}, {"own": [0.0]}, {"own": [math.nan] * 2}, {"own": [-1.0] * 2}, {"told": 99},
    {"own": "much"}, {"days": "x"}, {"days": 1 << 40}, {"told": None},
])  # fmt: skip
def test_days_that_are_none_are_refused(broken: dict[str, object]) -> None:
    good = day_of(week(0, 3)).as_json()
    assert Day.from_json(json.loads(json.dumps(good))).as_json() == good
    with pytest.raises((KeyError, ValueError, TypeError)):
        Day.from_json({**good, **broken})


def test_unlearning_begins_anew_and_another_bundle_goes_on() -> None:
    home = table(prior(sent=8 * MB))
    run(home, week(5 * MB, 3))
    other = table(prior(sent=80 * MB))
    other.succeed(home)
    day = other.homes.peek(MACS[CAMERA])
    assert day is not None
    assert day.day.days == 2
    assert told(other, [*usual(at=3 * DAY), *sends(40 * MB, 3 * DAY + 500)]) == []
    other.homes.unlearn(MACS[CAMERA])
    assert day.day.days == 0


# --- in a bundle --------------------------------------------------------------------------

NAMES = ("gap", "size", "share")
GOOD = {"of": 500, "levels": {"thing": {"came": {"sent": [1, 2, 3, 4], "strangers": [5, 5, 5, 6]}}}}


def with_prior(folder: Path, found: object) -> Path:
    path = folder / bundles.MANIFEST
    whole = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**whole, "prior": found}), encoding="utf-8")
    return folder


def test_a_manifest_may_have_a_prior(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "b", names=NAMES, window=4)
    assert bundles.load(folder, NAMES).prior is None, "older bundles have none"
    known = bundles.load(with_prior(folder, GOOD), NAMES).prior
    assert known is not None
    assert known.at(THING, CAME, 1) == (2.0, 5.0)
    assert known.at(THING, THERE, 1) == known.at(PHONE, CAME, 1) == NEVER
    assert as_manifest(known) == GOOD


@pytest.mark.parametrize("found", [
    [], "much", 7, {}, {"of": 500}, {"of": 1, "levels": {}}, {"of": "x", "levels": {}},
    {"of": 500, "levels": []}, {"of": 500, "levels": {"toaster": {"came": {}}}},
    {"of": 500, "levels": {"thing": {"left": {}}}}, {"of": 500, "levels": {"thing": ["came"]}},
    *({"of": 500, "levels": {"thing": {"came": {name: column}}}} for name, column in (
        ("luck", [1, 2, 3, 4]), ("sent", [1, 2, 3]), ("sent", [4, 3, 2, 1]), ("sent", [0, 1, 2, 3]),
        ("sent", [-1, 1, 2, 3]), ("sent", [1, 2, 3, float("nan")]), ("sent", 4), ("sent", None),
        ("sent", ["a", "b", "c", "d"]), ("sent", [1, 2, 3, 4, 5]),
    )),
])  # fmt: skip
def test_a_prior_that_is_none_is_refused_in_a_sentence(found: object, tmp_path: Path) -> None:
    folder = with_prior(made.write(tmp_path / "b", names=NAMES, window=4), found)
    with pytest.raises(BundleError, match="does not describe a bundle") as caught:
        bundles.load(folder, NAMES)
    assert "\n" not in str(caught.value)


def test_it_is_written_into_a_bundle(tmp_path: Path) -> None:
    from trainer import priors  # noqa: PLC0415 - the simulator comes with it

    folder = tmp_path / "b"
    shutil.copytree(bundles.default_path(), folder)
    known = prior(sent=8.0 * MB)
    digest = priors.write(folder, known)
    loaded = bundles.load(folder)
    assert (loaded.digest, loaded.prior) == (digest, known)
    assert priors.write(folder, known) == digest, "once is enough"
    (folder / bundles.SIGNATURE).write_text("untrusted comment: x\n", encoding="utf-8")
    with pytest.raises(BundleError, match="is signed"):
        priors.write(folder, known)


# --- drawn --------------------------------------------------------------------------------


def test_a_level_is_what_one_in_so_many_exceeds() -> None:
    from trainer.priors import tail_level  # noqa: PLC0415

    rng = np.random.default_rng(5)
    for index in (0.3, 0.7, 1.2):
        values = (100.0 * rng.random(4_000) ** -index).tolist()
        true = 100.0 * 1_000.0**index
        assert 0.5 < tail_level(values, 1.0, 1_000) / true < 2.0
    assert tail_level([0] * 1_000, 10.0, 1_000) < 12.0, "never beyond the floor, often enough"
    few, many = (tail_level([0] * n, 10.0, 1_000) for n in (5, 200))
    assert few > 4 * many, "the fewer were seen, the less is said"


def test_a_class_of_few_takes_what_all_do() -> None:
    from trainer.priors import Life, drawn  # noqa: PLC0415

    def lives(kind: str, number: int, most: int, group: str = "simulated") -> list[Life]:
        return [
            Life(group, kind, THERE, [(0, k % most) for _ in WINDOWS_S], [True] * 4)
            for k in range(number)
        ]

    things = lives(THING, 300, 8, "hue")
    whole = drawn(things)
    assert drawn([*things, *lives(COMPUTER, 2, 40, "pcs")]).at(COMPUTER, THERE, 0)[
        STRANGERS
    ] < 2 * max(whole.at(THING, THERE, 0)[STRANGERS], FLOORS[STRANGERS])
    calm = drawn([*things, *lives(PHONE, 300, 1)])
    real = drawn([*things, *lives(PHONE, 300, 1, "phones")])
    assert calm.at(PHONE, THERE, 0)[STRANGERS] > real.at(PHONE, THERE, 0)[STRANGERS]
    for kind in CLASSES:
        windows = np.array(whole.windows(kind, THERE))
        assert (np.diff(windows, axis=0) >= 0).all(), "levels never fall with age"


# --- in whole homes -------------------------------------------------------------------------


def played(path: Path) -> tuple[list[Incident], Pipeline]:
    """Return what is told in a home by the shipped bundle."""
    pipeline = Pipeline(bundles.load(bundles.default_path()), Lan(), DeviceTable(Lan()))
    events = [e for frames in capture.read_frames(path) for e in pipeline.step(frames).events]
    events += pipeline.finish().events
    return [e.incident for e in events if e.change == "opened"], pipeline


def born(kind: str, hours: float, folder: Path) -> tuple[str, Path]:
    """Return the camera that comes new into a home, and the capture of that."""
    from guardian.simulate import simulate  # noqa: PLC0415 - scapy takes its time
    from guardian.simulate.build import build  # noqa: PLC0415
    from guardian.simulate.scenario import home  # noqa: PLC0415

    scenario = home(kind, profile="test", hours=hours, at_hours=0.2, seed=77_011)
    few = tuple(
        replace(d, joins=600.0) if d.kind == "camera" else d
        for d in scenario.devices
        if d.kind in ("camera", "phone", "hub")
    )
    path = folder / "home.pcap"
    simulate(replace(scenario, devices=few), path)
    return build(scenario)[0].hosts["t-camera"].mac.hex(":"), path


def test_a_new_camera_that_carries_data_out_is_told_in_words(tmp_path: Path) -> None:
    camera, path = born("exfiltration", 0.8, tmp_path)
    found, _ = played(path)
    assert [(i.device.mac, i.cause, i.severity) for i in found] == [(camera, "unusual", "low")]
    assert "machine outside that it never asked for by name; of 1,000 new things one" in (
        found[0].explanation
    )


def test_a_new_camera_that_does_what_cameras_do_is_not_and_teaches_what_it_is_held_to(
    tmp_path: Path,
) -> None:
    from trainer import priors, streams  # noqa: PLC0415

    camera, path = born("", 0.8, tmp_path)
    found, pipeline = played(path)
    assert found == []
    stream = streams.read(path)
    lives = priors.lives("home", stream)
    days = [home.day for home in pipeline.incidents.homes.settled().values()]
    counted = sorted((d.came, d.counts, d.named >= LEAST_NAMED) for d in days)
    assert counted == sorted((x.phase == CAME, list(x.counts[1] or ()), x.named[1]) for x in lives)
    assert [x.phase for x in lives].count(CAME) == 2, "it and a phone"
    home = pipeline.incidents.homes.peek(camera)
    assert home is not None
    assert home.day.came


def test_what_comes_after_an_attack_teaches_nothing(tmp_path: Path) -> None:
    from trainer import priors, streams  # noqa: PLC0415

    _, path = born("exfiltration", 0.5, tmp_path)
    lives = priors.lives("simulated", streams.read(path))
    came = [life for life in lives if life.phase == CAME]
    none = [None] * len(WINDOWS_S)
    assert sorted(map(str, (life.counts for life in came))) == [
        str([(0, 0), *none[1:]]), str(none),
    ], "a phone, and the camera that is infected"  # fmt: skip
    assert all(life.counts[0] is not None for life in lives if life.phase == THERE)
    strict = prior(sent=1.0, strangers=1.0)
    assert priors.exceeding(strict, came) == []
    benign = [replace(life, counts=[(9, 0)] * 4, named=[True] * 4) for life in came]
    assert [name for _, name in priors.exceeding(strict, benign)] == ["sent", "sent"]
