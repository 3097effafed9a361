"""The protocol of docs/detection.md in small: what counts as found, as false, and as other's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from guardian import bundle, features
from guardian.addresses import Lan, texts
from guardian.const import NS
from guardian.devices import DeviceTable
from guardian.errors import InputError
from guardian.gathered import TOLD, Gathering
from guardian.hindsight import Listed, Waiting, listed
from guardian.pipeline import Pipeline
from guardian.simulate import simulate
from guardian.simulate.scenario import home
from guardian.source import silent, steps
from guardian.tables import CONN_STATES, Conns, Sequences
from guardian.verdicts import VERDICTS
from tests import bundles
from trainer import catalogue, joy, metrics
from trainer.labels import CLASSES
from trainer.recipe import Material
from trainer.rows import Rows
from trainer.streams import Stream, benign
from trainer.trial import counters, figures, grafts, page, report, rivals
from trainer.trial.bench import GATEWAY, MODELS, Bench, Opened, Played, Rivals
from trainer.trial.course import GRAFTED, HOMES, IN_PLACE, SIMULATED, Course, alike, insert, walk
from trainer.trial.figures import Case, Pools
from trainer.trial.kitsune import Kitsune
from trainer.trial.subjects import ATTACK, HOME, PHONE, SETUP, Subject, of_source, subjects
from trainer.trial.tables import short
from trainer.trial.taken import take

MINUTE = 60 * NS


# --- captures and a bundle made by hand ---------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three quiet homes and one in which a camera scans."""
    out = tmp_path_factory.mktemp("captures")
    for name, kind, seed, hours in (
        ("quiet", "", 5, 1.0), ("calm", "", 6, 1.0), ("still", "", 8, 0.5),
        ("scan", "telnet-scan", 7, 1.0),
    ):  # fmt: skip
        scenario = home(kind, profile="test", hours=hours, seed=seed, at_share=0.7)
        few = tuple(d for d in scenario.devices if d.kind in ("camera", "phone"))
        simulate(replace(scenario, devices=few), out / f"{name}.pcap")
    return out


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bundle that calls every failed connection a scan, and nothing else."""
    weights = np.zeros((len(CLASSES), 12, len(features.NAMES)), np.float32)
    weights[0, -1, features.NAMES.index("failed")] = -6.0
    weights[1, -1, features.NAMES.index("failed")] = 6.0
    written = bundles.write(
        tmp_path_factory.mktemp("bundle") / "b", weights=weights, bias=(3.0, *(0.0,) * 6)
    )
    return Bench.of(bundle.load(written), Rivals({}, dict(counters.COUNTERS)))


def those() -> list[Subject]:
    return [
        Subject("quiet", ("quiet.pcap",), "one", HOME, benign),
        Subject("calm", ("calm.pcap",), "two", HOME, benign),
        Subject("still", ("still.pcap",), "four", HOME, benign),
        Subject("a scan", ("scan.pcap",), "three", ATTACK),
    ]


def through_the_pipeline(path: Path, bench: Bench, *, with_counters: bool) -> list[tuple[str, int]]:
    lan = Lan()
    pipeline = Pipeline(
        bench.bundle, lan, DeviceTable(lan), ignore_checksums=True, counters=with_counters
    )
    events = [e for step in steps(path, pipeline, lan, silent) for e in step.events]
    events += pipeline.finish().events
    return [(e.incident.device.mac, e.incident.opened) for e in events if e.change == "opened"]


# --- tests --------------------------------------------------------------------------------


def test_the_bench_opens_what_the_pipeline_opens(folder: Path, bench: Bench) -> None:
    one = take(folder / "scan.pcap")
    played = bench.play(one.stream, one.devices)
    for whose, with_counters in ((GATEWAY, True), (MODELS, False)):
        told = [(o.device, o.at) for o in played.opened[whose]]
        assert told == through_the_pipeline(
            folder / "scan.pcap", bench, with_counters=with_counters
        )
        assert told


def test_a_records_evidence_is_that_of_its_incident(folder: Path, bench: Bench) -> None:
    one = take(folder / "scan.pcap")
    played = bench.play(one.stream, one.devices)
    evidence, threat = played.scores["evidence"], played.scores["threat"]
    (incident,) = played.opened[GATEWAY]
    told = np.isin(played.uid, [uid.encode() for uid in incident.uids])
    assert told.any()
    assert (evidence[told] >= TOLD).all()
    assert len(np.unique(evidence[played.label > 0])) > 10  # it rises while the scan goes on
    assert evidence[played.label > 0].max() > 0.98
    # The low ones share no incident: a failed call now and then adds up to nothing.
    quiet = played.label == 0
    assert (evidence[quiet & (threat < bench.ruler.threat_line)] < TOLD).all()


def test_guardian_score_prints_the_evidence_that_is_measured(folder: Path, bench: Bench) -> None:
    path = folder / "scan.pcap"
    one = take(path)
    played = bench.play(one.stream, one.devices)
    lan = Lan()
    pipeline = Pipeline(
        bench.bundle, lan, DeviceTable(lan), ignore_checksums=True, incidents=Gathering
    )
    waiting = Waiting(cast("Gathering", pipeline.incidents), bench.bundle)
    for step in (*steps(path, pipeline, lan, silent), pipeline.finish()):
        assert not list(waiting.add(listed(step)))
    printed = Listed.concat(list(waiting.rest()))
    place = {uid: k for k, uid in enumerate(printed.uid.tolist())}
    rows = printed.take(np.array([place[uid] for uid in played.uid.tolist()]))
    told = rows.verdict == VERDICTS.index("attack")
    assert 50 < told.sum() < len(told)
    np.testing.assert_array_equal(rows.threat, played.scores["evidence"])


def test_what_a_rival_says_adds_up_in_the_same_way(folder: Path, bench: Bench) -> None:
    line, ordinary = bench.ruler.threat_line, bench.ruler.ordinary_threat
    assert ordinary is not None

    def same(sequences: Sequences) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return bench.scorer.score(sequences).threat.astype(np.float64)

    rival = replace(bench, rivals=Rivals({"same": same}, {}, {"same": (line, ordinary)}))
    one = take(folder / "scan.pcap")
    played = rival.play(one.stream, one.devices)
    np.testing.assert_array_equal(
        played.scores["same, added up"], played.scores["evidence of models"]
    )
    assert played.scores["same, added up"].max() >= TOLD


def test_the_whole_course_finds_the_scan_and_keeps_what_a_person_wrote(
    folder: Path, bench: Bench, tmp_path: Path
) -> None:
    course = Course(bench, folder, lambda _: None)
    found = walk(course, those(), (IN_PLACE, HOMES, GRAFTED))
    (row,) = found[IN_PLACE]["rows"]
    assert row[GATEWAY]["infected"] == row[GATEWAY]["found"] == 1
    assert 0 < row[GATEWAY]["seconds"] < 60
    assert 3 <= row[GATEWAY]["packets"] <= 400
    assert row["family"] == "scan"
    assert row["scorers"]["threat"]["auc"] > 0.95
    assert set(counters.COUNTERS) < set(row["scorers"])
    assert [r["capture"] for r in found[HOMES]] == ["quiet", "calm", "still"]
    assert found["rates"]["all"]["days"] > 0.05
    (put,) = found[GRAFTED]["rows"]
    assert put[GATEWAY]["before placebo"] == put[GATEWAY]["infected"] > 0
    assert found[GRAFTED]["placebo"]["placebos"] == put[GATEWAY]["infected"]
    told = {"bundle": {"name": "b", "version": "1", "digest": "d" * 64}, **found}
    assert "1 of 1" in short(told)
    path = page.write(tmp_path, told, "a try")
    text = path.read_text(encoding="utf-8").replace(
        "## What was learned", "## What was learned\n\nX"
    )
    path.write_text(text, encoding="utf-8")
    page.write(tmp_path, told)
    page.write(tmp_path, told, "a part", whole=False)
    after = path.read_text(encoding="utf-8")
    assert "## What was learned\n\nX" in after
    assert after.count("### In place") == 1
    assert after.count("| dddddddddddd |") == 3
    assert json.loads((tmp_path / page.JSON).read_text())["in place"]["total"]["found"] == 1


def test_a_simulated_infection_comes_into_a_life_at_its_moment(folder: Path, bench: Bench) -> None:
    quiet = Subject("quiet", ("quiet.pcap",), "one", HOME, benign)
    one = take(folder / "quiet.pcap", judge=benign)
    (guest,) = grafts.simulated(("telnet-scan",))
    host, *_ = grafts.hosts_of(quiet, one)
    put = grafts.mixed(host, guest, 0.5)
    came = np.char.startswith(put.stream.slices.uid, b"g")
    assert (np.diff(put.stream.slices.told) >= 0).all()
    assert put.stream.slices.ts[came].min() == put.start
    assert (put.stream.orig_device[came] == host.device).all()
    assert (put.stream.label[came] > 0).all()
    assert (put.stream.label[~came] == 0).all()
    course = Course(bench, folder, lambda _: None)
    case = course.graft(host, guest, 0.5)
    (found,) = figures.found(case, GATEWAY)
    assert found.seconds is not None
    assert 0 < found.seconds < 60
    assert found.packets is not None
    assert found.packets > 0


def test_a_benign_event_is_put_in_as_a_whole_and_counts_as_false(
    folder: Path, bench: Bench
) -> None:
    course = Course(bench, folder, lambda _: None)
    (update,) = grafts.lookalikes(("firmware-update",))
    assert update.stream.slices.orig_ip_bytes.sum() + update.stream.slices.resp_ip_bytes.sum() > 1e6
    assert not (update.stream.label > 0).any()
    hosts = grafts.hosts_of(those()[0], course.take(those()[0])[0])
    (row,) = alike(course, [update], hosts)
    assert row["lives"] == len(hosts)
    assert row[GATEWAY] == 0  # its calls are all answered


def test_a_life_whose_placebo_fires_is_not_found(folder: Path, bench: Bench) -> None:
    course = Course(bench, folder, lambda _: None)
    every = those()
    walk(course, every, (HOMES,))
    hosts = [
        h
        for s in every
        if s.kind == HOME
        for one in course.take(s)
        for h in grafts.hosts_of(s, one)
    ]
    (guest,) = grafts.simulated(("telnet-scan",))
    pools = Pools([case for s in every if s.kind == HOME for case in course.cases[s.name]])
    # Here the placebo is the scan itself, as if benign devices did so.
    attack = course.graft(hosts[0], guest, 0.5)
    row = report.graft_row("scan", "scan", [(attack, attack)], pools)
    assert (row[GATEWAY]["before placebo"], row[GATEWAY]["placebos"]) == (1, 1)
    assert row[GATEWAY]["found"] == 0
    quiet = insert(course, SIMULATED, [guest], hosts, pools, 2)[SIMULATED]
    assert quiet["total"]["found"] == quiet["total"]["infected"] == 2
    assert quiet["placebo"][GATEWAY] == 0
    assert quiet["placebo"]["records"] > 0


def played(
    label: list[int], opened: tuple[Opened, ...] = (), device: list[int] | None = None
) -> Played:
    n = len(label)
    at = np.arange(n, dtype=np.int64) * MINUTE
    return Played(
        np.array(label), np.array([f"C{k}".encode() for k in range(n)]),
        np.array(device or [0] * n, dtype=np.int32), at, at + 5 * NS,
        {"threat": np.arange(n, dtype=np.float64)}, {GATEWAY: opened, MODELS: ()},
        {"a": (0, 86_400 * NS), "b": (0, 43_200 * NS)},
    )  # fmt: skip


def opened(device: str, minute: float, *uids: str) -> Opened:
    return Opened(device, int(minute * MINUTE), "scan", "model", 0.9, uids)


def test_only_what_comes_after_the_first_malicious_packet_is_found() -> None:
    some = played([0, 0, 1, 1], (opened("a", 1.0), opened("b", 2.5), opened("a", 2.2)))
    packets = np.array([2.0, 2.1, 2.15, 3.0]) * MINUTE
    case = Case("x", frozenset({"x"}), some, {"a": 2 * MINUTE}, packets.astype(np.int64))
    (found,) = figures.found(case, GATEWAY)
    assert found.seconds == pytest.approx(12.0)
    assert (found.packets, found.connections) == (3, 1)
    assert [o.at for o in figures.false(case, GATEWAY)] == [MINUTE, int(2.5 * MINUTE)]
    assert figures.device_days(case) == pytest.approx({"thing": 0.5 + 2 / 1_440})
    early = replace(case, played=replace(some, opened={GATEWAY: (opened("a", 1.0),), MODELS: ()}))
    assert figures.found(early, GATEWAY)[0].seconds is None


def test_a_strangers_knock_is_no_false_incident() -> None:
    told = (opened("a", 1, "C0"), opened("a", 2, "C0", "C1"), opened("b", 3))
    case = Case("x", frozenset(), played([-1, 0, 0], told), {})
    assert figures.false(case, GATEWAY) == list(told[1:])


def test_the_bound_is_that_of_a_poisson_mean() -> None:
    # chi-square quantiles over 2, from tables
    for count, bound in ((0, 2.9957), (1, 4.7439), (5, 10.5130), (100, 118.0793)):
        assert figures.poisson_bound(count) == pytest.approx(bound, abs=2e-3)


def test_average_precision_of_a_ranking_worked_out_by_hand() -> None:
    attacks, quiet = np.array([4.0, 2.0]), np.array([3.0, 1.0])
    assert figures.average_precision(quiet, attacks, np.ones(2)) == pytest.approx((1 + 2 / 3) / 2)
    assert figures.average_precision(quiet, attacks, np.array([0.5, 9])) == pytest.approx(
        (1 + 2 / 2.5) / 2
    )
    same = figures.average_precision(np.ones(3), np.ones(1), np.ones(3))
    assert same == pytest.approx(0.25)  # equal scores fall together


def test_no_line_rests_on_the_network_that_is_judged() -> None:
    own = Case("own", frozenset({"one"}), played([0] * 50), {})
    other = Case("other", frozenset({"two"}), played([0] * 10), {})
    pools = Pools([own, other])
    assert len(pools.without(frozenset({"one"})).weight) == 10
    assert len(pools.without(frozenset({"three"})).weight) == 60
    with pytest.raises(ValueError, match="no benign records"):
        pools.without(frozenset({"one", "two"}))


def test_counters_count_a_minute() -> None:
    for name, counter in counters.COUNTERS.items():
        found = counter(quick_stream())
        assert len(found) == 8, name
    peers = counters.peers_a_minute(quick_stream())
    assert peers.tolist() == [1, 2, 3, 4, 5, 6, 7, 1]


def quick_stream() -> Stream:
    """Seven calls of seven hosts within a minute, and one an hour later."""
    slices = Conns.blank(8)
    slices.uid[:] = [f"C{k}".encode() for k in range(8)]
    slices.ts[:] = np.array([*range(7), 3_600]) * NS
    slices.told[:] = slices.ts + 5 * NS
    slices.resp[:, 1] = np.arange(8)
    slices.orig_ip_bytes[:] = 100
    zero = np.zeros(8, np.int32)
    return Stream("s", slices, zero, zero - 1, np.zeros(8, np.int8))


def test_the_online_detector_knows_what_it_learned(folder: Path) -> None:
    quiet = take(folder / "quiet.pcap", judge=benign).stream
    scan = take(folder / "scan.pcap").stream
    detector = Kitsune()
    assert detector.learn([quiet]) > 50
    error = detector(scan)
    assert np.median(error[scan.label > 0]) > np.median(error[scan.label == 0])


def patterns(kinds: tuple[str, ...]) -> Iterator[str]:
    for source in catalogue.CATALOGUE:
        if source.use in kinds:
            yield source.pattern


def test_nothing_that_teaches_is_judged(data: Path) -> None:
    taught = {p for pattern in patterns(("train", "calibrate")) for p in data.glob(pattern)}
    judged: list[Path] = []
    for subject in subjects():
        found = subject.paths(data)
        assert found, subject.name
        judged += found
    assert len(judged) == len(set(judged))
    assert taught
    assert not taught & set(judged)


def test_homes_and_set_ups_and_attacks_are_told_apart() -> None:
    kinds: dict[str, list[str]] = {}
    for subject in map(of_source, catalogue.of("evaluate")):
        kinds.setdefault(subject.kind, []).append(subject.name)
    assert "iot-sentinel set-ups" in kinds[SETUP]
    assert {"blink-cam-01", "hue 2014", "mqttset benign"} <= set(kinds[HOME])
    assert {"syn scan", "slips beacon", "mqttset slowite"} <= set(kinds[ATTACK])
    (plug,) = [s for s in subjects() if s.name == "tplink-plug"]
    assert plug.class_of("64:89:9a:86:a9:7d") == PHONE
    assert plug.class_of("50:c7:bf:33:1f:09") == "thing"


def test_the_rivals_learn_from_the_material_alone() -> None:
    rng = np.random.default_rng(1)
    n, columns = 600, len(features.NAMES)
    label = np.repeat([0, 1], n // 2).astype(np.int8)
    x = rng.normal(size=(n, 12, columns)).astype(np.float32)
    x[label > 0, -1, :5] += 4.0
    some = Rows(
        x, np.full(n, 12, np.int32), label, np.arange(n) % 6, np.ones(n, np.bool_),
        tuple((f"g{k}", "s") for k in range(6)),
    )  # fmt: skip
    found = rivals.of(Material(some, some, ()), [quick_stream()])
    assert set(found.by_slice) == {*counters.COUNTERS, rivals.KITSUNE}
    zero = np.zeros(n, np.int64)
    seqs = Sequences(x, some.length, zero.astype(np.int32), zero, zero > 0)
    for name, rival in found.by_sequence.items():
        scores = rival(seqs)
        assert metrics.auc(scores[label == 0], scores[label > 0]) > 0.9, name


def test_joys_flows_become_records_again(tmp_path: Path) -> None:
    def flow(sa: str, sp: int, da: str, dp: int, pr: int, at: float, **more: object) -> str:
        row = {"sa": sa, "sp": sp, "da": da, "dp": dp, "pr": pr, "time_start": at,
               "time_end": at + 10, "bytes_out": 100, "num_pkts_out": 2, **more}  # fmt: skip
        return json.dumps(row)

    def ppi(*packets: tuple[str, str]) -> list[dict[str, str]]:
        return [{"dir": way, "flags": flags} for way, flags in packets]

    back = {"bytes_in": 50, "num_pkts_in": 1}
    camera, cloud = "192.168.5.20", "8.8.8.8"
    syn = ppi((">", "S"), ("<", "SA"), (">", "A"))
    lines = [
        json.dumps({"version": "joy"}),
        flow(camera, 40_000, cloud, 443, 6, 100.0, ppi=syn, **back),
        flow(camera, 40_000, cloud, 443, 6, 200.0, ppi=ppi((">", "FA"), ("<", "FA")), **back),
        flow(camera, 40_000, cloud, 443, 6, 400.0, ppi=ppi((">", "S"))),  # the port once more
        flow("192.168.5.1", 53, camera, 5_353, 17, 150.0, **back),
        flow(camera, 0, "224.0.0.251", 0, 2, 160.0),
    ]
    path = tmp_path / "joy.json.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    stream, _ = joy.read(path, judge=benign)
    slices = stream.slices
    first = slices.take(slices.piece == 0)
    told = [
        (CONN_STATES[s], p, o)
        for s, p, o in zip(first.conn_state, first.resp_p, texts(first.orig), strict=True)
    ]
    # a minute of silence does not end TCP; the DNS answer is the asker's connection
    assert sorted(told) == [("S0", 443, camera), ("S1", 443, camera), ("SF", 53, camera)]
    whole = slices.take(slices.uid == first.uid[first.conn_state == CONN_STATES.index("S1")])
    assert whole.orig_bytes.sum() == 200
    assert CONN_STATES[whole.conn_state[-1]] == "SF"
    assert (stream.label == 0).all()
    path.write_bytes(b"no gzip")
    with pytest.raises(InputError, match="Joy"):
        joy.read(path)
