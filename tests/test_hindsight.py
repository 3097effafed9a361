"""`guardian score` says what the gateway decides by: evidence, known at the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import bundle as bundles
from guardian import capture, listing, source
from guardian.addresses import Lan
from guardian.alerts import AlertSettings
from guardian.bundle import Bundle
from guardian.cli import cli
from guardian.config import Settings
from guardian.devices import DeviceTable
from guardian.gathered import OWN, TOLD, Gathering, Part, score
from guardian.hindsight import Listed, Waiting, judged, listed
from guardian.pipeline import Pipeline
from guardian.simulate import SCENARIOS, labels_path, match, read_labels, simulate
from guardian.tables import Conns
from guardian.verdicts import VERDICTS
from tests.incident_rows import S, beacon, device_table, mixed, ruler, tables
from tests.test_pipeline import cut

DAY = 86_400.0


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return bundles.load(bundles.default_path())


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tests' own home, quiet, with a scan, and with a whole infection."""
    out = {}
    for name, hours in (("quiet", 1.0), ("telnet-scan", 0.5), ("infected", 1.0)):
        out[name] = tmp_path_factory.mktemp("hindsight") / f"{name}.pcap"
        simulate(SCENARIOS[name](profile="test", hours=hours), out[name])
    return out


def printed(path: Path) -> list[dict[str, str]]:
    done = CliRunner().invoke(cli, ["score", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.stdout)))


def told(path: Path) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, ["replay", str(path), "--json"], catch_exceptions=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["alerts"]
    return found


def gathering(**settings: Any) -> Gathering:
    return Gathering(
        ruler(), device_table(30 * DAY), Lan(), AlertSettings(**{"counters": False, **settings})
    )


def feed(table: Gathering, rows: list[S]) -> list[str]:
    """Let a table take rows; return the uids of their records."""
    slices, features, scores = tables(rows, device_table(30 * DAY))
    table.step(slices, features, scores, int(slices.told[-1]))
    return [uid.decode() for uid in slices.uid.tolist()]


def of(uids: list[str], *, anomaly: float = 0.1, threat: float = 0.9, label: int = 2) -> Listed:
    """Return rows of these records with the same words of the models."""
    rows = Listed.blank(len(uids))
    rows.uid[:] = [uid.encode() for uid in uids]
    rows.anomaly[:], rows.threat[:], rows.label[:] = anomaly, threat, label
    return rows


def verdicts(rows: Listed) -> list[str]:
    return [VERDICTS[k] for k in rows.verdict.tolist()]


# --- with whom it was -----------------------------------------------------------------------


def calls(rows: list[S], *, aside: float = -600.0) -> str:
    """Return what is said of a call far under the line at a moment beside others, or nothing."""
    quiet = replace(rows[0], at=rows[0].at + aside, threat=0.02, uid="Cquiet")
    elsewhere = replace(quiet, at=quiet.at + 0.1, peer="34.1.2.3", uid="Celsewhere")
    port = replace(quiet, at=quiet.at + 0.2, port=8_443, uid="Cport")
    slices, features, scores = tables(mixed([quiet, elsewhere, port], rows), device_table(30 * DAY))
    table = gathering()
    table.step(slices, features, scores, int(slices.told[-1]))
    parts = table.parts_of(slices)
    cause = {uid.decode(): part.cause for uid, part in zip(slices.uid.tolist(), parts, strict=True)}
    assert cause["Celsewhere"] == cause["Cport"] == ""
    return cause["Cquiet"]


def guesses(number: int = 12) -> list[S]:
    return [replace(s, cause="brute-force", host="") for s in beacon(700.0, number, every=5.0)]


def test_every_call_to_a_controller_is_part_of_its_incident() -> None:
    assert calls(beacon(700.0, 12)) == "c2"


def test_a_session_among_guesses_is_one_and_an_earlier_one_is_not() -> None:
    """Who owns the device may have called there before."""
    assert calls(guesses(), aside=27.0) == "brute-force"
    assert calls(guesses(), aside=-600.0) == ""
    assert calls(guesses(), aside=60.0) == ""


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("nothing was told", beacon(700.0, 2)),
        ("of other causes no", [replace(s, cause="other") for s in beacon(700.0, 12)]),
        ("a resolver", [replace(s, service="dns", port=53) for s in beacon(700.0, 12)]),
        (
            "of many peers each was called once",
            [replace(s, peer=f"185.9.9.{k + 1}") for k, s in enumerate(beacon(700.0, 12))],
        ),
    ],
)
def test_what_is_no_controller_keeps_its_quiet_calls(why: str, rows: list[S]) -> None:
    assert calls(rows) == "", why


# --- the number ---------------------------------------------------------------------------

chances = st.floats(0.0, 1.0, width=32)
shares = st.floats(0.0, 1.0)
reached = st.floats(1.0, 1e6)


def one(threat: float, evidence: float, member: bool) -> float:
    return float(score(np.array([threat]), np.array([evidence]), np.array([member]))[0])


@given(chances, shares, reached)
def test_an_incidents_records_lie_above_all_others(
    threat: float, share: float, sum_: float
) -> None:
    assert 0.0 <= one(threat, share, False) < TOLD <= one(0.0, sum_, True) < 1.0
    if threat <= OWN:
        assert one(threat, 0.0, False) == threat


@given(chances, chances, shares, shares)
def test_more_threat_and_more_evidence_never_lower_it(
    a: float, b: float, share: float, more: float
) -> None:
    low, high = sorted((a, b))
    less, more = sorted((share, more))
    for member, base in ((False, 0.0), (True, 1.0)):
        assert one(low, base + less, member) <= one(high, base + less, member)
        assert one(low, base + less, member) <= one(low, base + more, member)


def test_the_rows_of_a_large_incident_stay_apart_as_printed() -> None:
    evidence = 1.0 + np.arange(200_000) / 3.0
    some = score(np.full(len(evidence), 0.9), evidence, np.ones(len(evidence), np.bool_))
    assert len(np.unique(np.round(some, listing.DECIMALS))) == len(some)


# --- what becomes of a row ----------------------------------------------------------------


def scan(count: int, begin: float = 0.0) -> list[S]:
    return [S(begin + k, threat=0.99, peer=f"34.1.2.{k}", port=23) for k in range(count)]


def test_one_sure_row_is_no_attack_and_what_an_incident_took_in_is(shipped: Bundle) -> None:
    table = gathering()
    (sure,) = feed(table, [S(0.0, threat=0.99, cause="c2", port=8080)])
    alone = judged(of([sure, "other"], threat=0.99), table, shipped)
    assert verdicts(alone) == ["benign", "benign"]
    assert TOLD > alone.threat[0] > alone.threat[1] > OWN

    rows = feed(table, scan(12, begin=3_600.0))
    known = judged(of([*rows, sure]), table, shipped)
    assert verdicts(known) == ["attack"] * 12 + ["benign"]
    assert {shipped.classes[k] for k in known.label[:-1].tolist()} == {"scan"}
    assert shipped.classes[int(known.label[-1])] == "c2"  # nobody's: as the models said
    assert set(known.device[:-1].tolist()) == {b"02:00:00:00:00:01"}
    assert (known.threat[:-1] >= TOLD).all()
    assert (np.diff(known.threat[:-1]) >= 0).all()  # later rows found more
    assert known.threat[11] > known.threat[0]


def test_rows_printed_before_the_incident_opened_are_taken_in_by_it(shipped: Bundle) -> None:
    """Hindsight: what the first rows of a scan were part of is not known when they end."""
    table = gathering()
    first = feed(table, scan(4))
    assert set(verdicts(judged(of(first), table, shipped))) == {"benign"}
    feed(table, scan(8, begin=4.0))
    assert set(verdicts(judged(of(first), table, shipped))) == {"attack"}


def test_what_only_the_autoencoder_saw_is_an_anomaly(shipped: Bundle) -> None:
    table = gathering()
    feed(table, [S(float(k) * 20 - 9_000, anomaly=0.1) for k in range(300)])
    rows = feed(table, [S(6_000.0 + k * 20, anomaly=8.0, peer="34.1.2.9") for k in range(60)])
    (incident,) = table.open()
    assert incident.cause == "unusual"
    known = judged(of([*rows, "over", "under"], threat=0.2, label=0), table, shipped)
    said = verdicts(known)
    assert said.count("anomaly") > 20
    assert "attack" not in said
    assert said[-1] == "benign"
    over = judged(of(["over"], anomaly=1.5 * shipped.anomaly_threshold), table, shipped)
    assert verdicts(over) == ["anomaly"]
    np.testing.assert_array_equal(known.threat, 0.2)


def test_a_cause_that_the_bundle_has_not_is_no_label(shipped: Bundle) -> None:
    table = gathering()
    table.parts["C1"] = Part(2.0, "02:00:00:00:00:01", "mischief")
    row = judged(of(["C1"], label=3), table, shipped)
    assert (verdicts(row), row.label.tolist()) == (["attack"], [3])


def test_an_incident_says_more_than_a_sum_of_the_same_size() -> None:
    table = gathering()
    row = tables(scan(1), device_table())  # any row: its uid counts
    uid = row[0].uid[0].decode()
    shape = cast("Any", type("R", (), {"uid": uid}))
    for part in (Part(1.0), Part(1.0, "d", "scan"), Part(1.0), Part(0.5)):
        table._note(shape, part)
    assert table.parts[uid] == Part(1.0, "d", "scan")


# --- waiting ------------------------------------------------------------------------------


def test_beyond_the_cap_the_oldest_come_out_in_order_and_are_forgotten(shipped: Bundle) -> None:
    table = gathering()
    waiting = Waiting(table, shipped, most=20)
    out: list[Listed] = []
    uids: list[str] = []
    for k in range(8):
        names = feed(table, scan(6, begin=6.0 * k))
        uids += names
        out += waiting.add(of(names))
    assert sum(map(len, out)) == 48 - 18
    assert not set(table.parts) & set(uids[:30])
    out += waiting.rest()
    whole = Listed.concat(out)
    assert [uid.decode() for uid in whole.uid.tolist()] == uids
    assert verdicts(whole)[6:] == ["attack"] * 42
    assert not table.parts


def test_what_is_remembered_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardian.gathered.MAX_GATHERED", 3)
    table = gathering()
    uids = feed(table, scan(12))
    table.forget(uids[:1])
    assert list(table.parts) == uids[-3:]


def rows_of(path: Path, bundle: Bundle, places: list[float]) -> Listed:
    """Return the rows of a capture whose frames are cut at these places."""
    lan = Lan()
    pipeline = Pipeline(bundle, lan, DeviceTable(lan), incidents=Gathering)
    waiting = Waiting(cast("Gathering", pipeline.incidents), bundle)
    for batch in capture.read_frames(path):
        for frames in cut(batch, [round(place * len(batch)) for place in places]):
            assert not list(waiting.add(listed(pipeline.step(frames))))
    assert not list(waiting.add(listed(pipeline.finish())))
    return Listed.concat(list(waiting.rest()))


@settings(max_examples=4)
@given(places=st.lists(st.floats(0.0, 1.0), max_size=5))
def test_where_the_input_is_cut_changes_nothing(
    homes: dict[str, Path], places: list[float]
) -> None:
    shipped = bundles.load(bundles.default_path())
    whole = rows_of(homes["telnet-scan"], shipped, [])
    parts = rows_of(homes["telnet-scan"], shipped, places)
    for name in ("uid", "device", "label", "threat", "anomaly", "verdict"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert "attack" in verdicts(whole)


def test_who_interrupts_gets_what_there_is(
    homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = source.steps

    def stopped(*given: Any) -> Iterator[Any]:
        yield from real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr("guardian.listing.steps", stopped)
    done = CliRunner().invoke(cli, ["score", str(homes["quiet"])])
    assert done.exit_code == 1
    assert done.stdout.count("\n") > 100


# --- whole captures -----------------------------------------------------------------------


def test_a_quiet_home_has_no_attack(homes: dict[str, Path]) -> None:
    rows = printed(homes["quiet"])
    assert len(rows) > 200
    assert "attack" not in {row["verdict"] for row in rows}
    assert max(float(row["threat"]) for row in rows) < TOLD


def test_nearly_all_rows_of_an_infection_are_attacks_and_hardly_another(
    homes: dict[str, Path],
) -> None:
    path = homes["infected"]
    records = Conns.concat(list(listing.records(path, Settings())))
    truth = match(records, read_labels(labels_path(path)))
    said = {row["uid"]: row for row in printed(path)}
    rows = [(said[uid.decode()], label) for uid, label in zip(records.uid, truth, strict=True)]
    bad = [row for row, label in rows if label not in ("", "benign")]
    good = [row for row, label in rows if label == "benign"]
    assert len(bad) > 200
    assert sum(row["verdict"] == "attack" for row in bad) / len(bad) > 0.95
    assert sum(row["verdict"] == "attack" for row in good) / len(good) < 0.01


@pytest.mark.parametrize("name", ["telnet-scan", "infected"])
def test_attacks_are_what_a_replay_tells(homes: dict[str, Path], name: str) -> None:
    agree(homes[name])


@pytest.mark.parametrize(
    "name",
    [
        "attack-pcaps/misc/synscan.pcapng",
        "attack-pcaps/slips/test12-icmp-portscan.pcap",
        "mqttset/malformed-train.pcap",
        "mqttset/bruteforce-train.pcapng",
        "iot23/CTU-Malware-Capture-20-1-labeled.csv",
    ],
)
def test_attacks_are_what_a_replay_tells_of_a_real_capture(data: Path, name: str) -> None:
    agree(data / name)


def agree(path: Path) -> None:
    """Hold `guardian score` to `guardian replay`: the same incidents, seen by row."""
    alerts = [alert for alert in told(path) if alert["cause"] != "unusual"]
    rows = {row["uid"]: row for row in printed(path)}
    shown = {conn["uid"] for alert in alerts for conn in alert["connections"]}
    assert shown
    assert {rows[uid]["verdict"] for uid in shown} == {"attack"}
    causes: dict[str, set[str]] = {}
    for alert in alerts:
        key = alert["device"]["mac"] or f"ip:{alert['device']['ip']}"
        causes.setdefault(key, set()).add(alert["cause"])
    attacks = [row for row in rows.values() if row["verdict"] == "attack"]
    for row in attacks:
        assert row["label"] in causes[row["device"]]
    assert all(
        (float(row["threat"]) >= TOLD) == (row["verdict"] == "attack") for row in rows.values()
    )
    # What an incident shows is a part of what it has; more has only whom it names.
    named = {peer["ip"] for alert in alerts for peer in alert["peers"]}
    others = [row for row in attacks if not {row["orig_h"], row["resp_h"]} & named]
    assert len(others) <= sum(alert["count"] for alert in alerts)
