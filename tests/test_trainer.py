"""The workstation: labels, splits, weights, thresholds; models that train, export and agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian import bundle, features, scoring
from guardian.errors import InputError
from guardian.simulate import simulate, training_homes
from guardian.tables import Array, Conns
from tests import bundles
from trainer import calibrate, catalogue, evaluate, labels, metrics, rows, streams
from trainer.catalogue import Source
from trainer.rows import Rows
from trainer.streams import Stream

FORBIDDEN = (
    "one-week-2021", "nest-hue-wemo-2014", "tplink-plug-2018", "iot-sentinel", "mqttset",
    "attack-pcaps", "protocol-pcaps", "unswnb15", "nbaiot", "cicids2017", "nslkdd",
)  # fmt: skip
"""Folders that the data's README gives to evaluation alone."""

scores = st.lists(st.integers(0, 20), min_size=1, max_size=60).map(lambda v: np.array(v, float))


# --- labels and sources -----------------------------------------------------------------


def test_a_label_without_a_class_is_refused() -> None:
    assert labels.to_class("Malicious", "C&C-Torii") == "c2"
    assert labels.to_class("Benign", "Microsoft") == "benign"
    assert labels.to_class("benign", "-") == "benign"
    assert labels.to_class("Background", "(empty)") == labels.DROP
    assert labels.to_class("", "") == labels.DROP
    with pytest.raises(InputError, match=r"trainer/labels\.py"):
        labels.to_class("Malicious", "Something-New")


def test_every_mapped_class_exists() -> None:
    assert set(labels.MAPPING.values()) <= {*labels.CLASSES, labels.DROP}
    assert set(labels.RELABEL.values()) <= set(labels.CLASSES)
    assert set(rows.SHARE) == set(labels.CLASSES)


def test_what_teaches_or_calibrates_may_be_shipped() -> None:
    names = [source.name for source in catalogue.CATALOGUE]
    assert len(names) == len(set(names))
    groups: dict[str, set[str]] = {}
    for source in catalogue.CATALOGUE:
        groups.setdefault(source.use, set()).add(source.group)
        if source.use != "evaluate":
            assert not any(word in source.pattern for word in FORBIDDEN), source.name
            assert source.licence != "evaluation only"
    assert not groups["train"] & groups["evaluate"]


def test_every_catalogued_capture_is_there_and_its_labels_are_known(data: Path) -> None:
    for source in catalogue.CATALOGUE:
        assert list(data.glob(source.pattern)), source.name
    for source in (*catalogue.of("train"), *catalogue.of("calibrate")):
        if source.pattern.endswith(("csv", "log", "labeled.gz")):
            for _, stream in catalogue.streams(source, data):
                assert len(stream) == len(stream.label)
                assert (stream.label >= 0).any(), source.name


def test_the_wrong_labels_of_42_1_are_mended(data: Path) -> None:
    source = next(s for s in catalogue.CATALOGUE if s.name == "iot23 42-1")
    stream = next(catalogue.streams(source, data))[1]
    first = stream.slices.piece == 0
    count = np.bincount(stream.label[first], minlength=len(labels.CLASSES))
    assert count[labels.CLASSES.index("c2")] == 1947
    assert count[labels.CLASSES.index("download")] == 6


# --- figures ----------------------------------------------------------------------------


@given(scores, scores)
def test_auc_is_the_share_of_pairs_in_order(benign: Array, attacks: Array) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in attacks for b in benign]
    assert metrics.auc(benign, attacks) == pytest.approx(np.mean(pairs))


@given(scores, st.sampled_from([0.01, 0.1, 0.3, 0.7]))
def test_at_most_the_wished_share_reaches_a_threshold(benign: Array, share: float) -> None:
    line = calibrate.threshold(benign, share)
    assert (benign >= line).mean() <= share
    lower = benign[benign < line]
    if len(lower):  # and no lower line would do
        assert (benign >= lower.max()).mean() > share


def test_a_weighted_threshold_counts_sources_alike() -> None:
    noisy, calm = np.linspace(0.5, 1, 1000), np.zeros(10)
    weight = np.r_[np.full(1000, 1e-3), np.full(10, 0.1)]
    line = calibrate.threshold(np.r_[noisy, calm], 0.05, weight)
    assert (noisy >= line).mean() == pytest.approx(0.1, abs=0.002)


def test_weighted_quantiles_and_scales() -> None:
    x = np.repeat(np.array([[0, 5], [10, 5]], np.float32), [900, 100], axis=0)
    weight = np.repeat([1.0, 9.0], [900, 100])
    found = calibrate.usual(x, weight)
    assert found[:, 0].tolist() == [0, 0, 10]
    scaler = calibrate.scaler(x, weight)
    assert scaler.mean.tolist() == [5, 5]
    assert scaler.scale[0] == 5
    assert scaler.scale[1] == np.float32(calibrate.MIN_SCALE)


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 40), st.integers(0, 3)), max_size=40))
def test_the_plain_counters_count_the_last_minute(events: list[tuple[int, int, int]]) -> None:
    device = np.array([e[0] for e in events], np.int64)
    ts = np.cumsum([e[1] for e in events], dtype=np.int64) * 10**9
    key = np.array([e[2] for e in events], np.int64)
    conns, peers = metrics.per_minute(device, ts, key)
    for k in range(len(events)):
        near = [j for j in range(k + 1) if device[j] == device[k] and ts[j] > ts[k] - 60 * 10**9]
        wanted = (len(near), len({key[j] for j in near})) if device[k] >= 0 else (0, 0)
        assert (conns[k], peers[k]) == wanted


# --- streams and rows -------------------------------------------------------------------


def stream_of(told: Any, device: Any, label: Any, resp_device: Any = None) -> Stream:
    n = len(told)
    conns = Conns.blank(n)
    conns.told[:] = conns.ts[:] = np.array(told) * 10**9
    conns.uid[:] = [f"C{k}".encode() for k in range(n)]
    none = np.full(n, -1, np.int32)
    return Stream(
        "made", conns, np.array(device, np.int32),
        none if resp_device is None else np.array(resp_device, np.int32),
        np.array(label, np.int8),
    )  # fmt: skip


def test_a_graft_brings_one_device_in_order_and_keeps_the_host() -> None:
    host = stream_of([10, 20, 30], [0, 1, 0], [0, 0, 0])
    guest = stream_of([1, 2, 3], [4, 5, -1], [2, 2, 2], [-1, -1, 4])
    both = streams.graft(host, 1, guest, 4, 14 * 10**9)
    assert (both.slices.told // 10**9).tolist() == [10, 15, 17, 20, 30]
    assert both.label.tolist() == [0, 2, 2, 0, 0]
    assert both.orig_device.tolist() == [0, 1, -1, 1, 0]
    assert both.resp_device.tolist() == [-1, -1, 1, -1, -1]
    assert len(set(both.slices.uid.tolist())) == 5


def test_the_attacked_side_is_not_called_infected() -> None:
    stream = stream_of([1, 2], [0, 0], [1, 1], [3, -1])
    found = rows.gather([("g", "s", stream, None)], 100, 0, 4)
    assert found.label.tolist() == [1, 0, 1]  # attacker, its victim at home, attacker
    stream = stream_of([1], [-1], [1], [3])  # from outside: the victim is all there is
    assert rows.gather([("g", "s", stream, None)], 100, 0, 4).label.tolist() == [1]


def test_benign_traffic_beside_an_attack_is_known_as_such() -> None:
    told = [0, 10, 20, 30, 700, *range(701, 720), 2000]
    stream = stream_of(told, [0] * len(told), [0, 1, 0, 0] + [0] * 21)
    found = rows.gather([("g", "s", stream, None)], 10**6, 0, 12)
    assert found.clean[0]
    assert not found.clean[1:13].any()  # the attack stands in these sequences
    assert found.clean[13:].all()  # 690 s after it and twelve slices on


def test_rows_without_a_label_are_left_out_and_long_instances_are_cut() -> None:
    n = 2000
    stream = stream_of(range(n), [k % 2 for k in range(n)], [0] * (n // 2) + [-1] * (n // 2))
    found = rows.gather([("g", "s", stream, None)], 100, 0, 4)
    assert 150 < len(found) < 250
    assert set(found.label.tolist()) == {0}


def test_weights_balance_classes_and_instances() -> None:
    label = np.array([0] * 90 + [0] * 10 + [2] * 100, np.int8)
    instance = np.array([0] * 90 + [1] * 10 + [2] * 100)
    some = Rows(
        np.zeros((200, 1, 1), np.float32), np.ones(200, np.int32), label, instance,
        np.ones(200, np.bool_),
        (("a", "a"), ("b", "b"), ("c", "c")),
    )  # fmt: skip
    weight = some.weights()
    assert weight.mean() == pytest.approx(1)
    by_class = [weight[label == k].sum() for k in (0, 2)]
    assert by_class[0] / by_class[1] == pytest.approx(rows.SHARE["benign"] / rows.SHARE["c2"])
    by_instance = [weight[instance == k].sum() for k in (0, 1)]
    assert by_instance[0] / by_instance[1] == pytest.approx(3)  # the root of 90 over 10
    assert len(some.without({"a"})) == 110


@pytest.mark.slow
def test_simulated_homes_come_with_their_labels(tmp_path: Path) -> None:
    home = next(h for h in training_homes(40, 7) if h.infections and h.hours < 4)
    assert home.profile == "train"
    path = tmp_path / "home.pcap"
    told = simulate(home, path)
    stream = streams.read(path)
    seen = {labels.CLASSES[k] for k in np.unique(stream.label[stream.label >= 0])}
    assert seen == set(told.labels)
    assert (stream.label >= 0).mean() > 0.95
    assert (np.diff(stream.slices.told) >= 0).all()


# --- evaluation -------------------------------------------------------------------------


def judge_by_size(tmp_path: Path) -> evaluate.Judge:
    """A judge whose threat rises with the amount sent in the last slice, and nothing else."""
    weights = np.zeros((len(labels.CLASSES), 12, len(features.NAMES)), np.float32)
    weights[1, -1, features.NAMES.index("bytes_out")] = 1.0
    loaded = bundle.load(bundles.write(tmp_path / "by-size", weights=weights))
    pair = scoring.Pair(
        loaded.scaler, loaded.autoencoder, loaded.classifier, (12, len(features.NAMES)),
        len(labels.CLASSES),
    )  # fmt: skip
    return evaluate.Judge({"": pair}, 1.0, 12)


def test_a_record_counts_with_its_highest_slice(tmp_path: Path) -> None:
    stream = stream_of([1, 2, 3, 4], [0, 0, 0, -1], [1, 1, 0, 0])
    stream.slices.uid[:] = [b"a", b"a", b"b", b"c"]
    stream.slices.orig_ip_bytes[:] = [1000, 10, 10, 10]
    label, found = evaluate.records(stream, judge_by_size(tmp_path))
    assert label.tolist() == [1, 0]  # the third touches no device at home
    # bytes_out is log1p, so the odds of `scan` against each other class are 1 + bytes
    np.testing.assert_allclose(found["threat"], [1 - 1 / 1007, 1 - 1 / 17], rtol=1e-4)
    assert found["anomaly"].tolist() == [0, 0]


def judged(name: str, label: list[int], threat: list[float]) -> evaluate.Judged:
    found = dict.fromkeys(("threat", "anomaly"), np.array(threat))
    return evaluate.Judged(Source(name, "", "evaluate", name), np.array(label), found, 1.0)


def test_captures_pool_alike() -> None:
    noisy = judged("noisy", [0] * 400, [k / 1000 for k in range(400)])
    calm = judged("calm", [0] * 10, [0.0] * 10)
    attack = judged("attack", [2, 2, 2, 0], [0.5, 0.3975, 0.1, 0.0])
    pool = evaluate.Pool.of([noisy, calm])
    row = evaluate.attack_row(attack, pool, 0.45)
    assert row["records"] == 3
    assert row["found_at_shipped_line"] == 1
    # 1 % of the pool is 2 % of the noisy capture: its eight highest, from 0.392 on
    assert row["threat"]["found_at_1%"] == 2
    assert row["threat"]["auc"] == pytest.approx(
        (1 + 0.99875 + (0.5 + 0.5 * 0.25125)) / 3, abs=2e-3
    )
