"""Prepared sets: splits, windows, the cache, and the readers that need no pandas."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.config import Settings
from guardian.errors import InputError
from guardian.featurelist import NAMES
from guardian.replay import replay
from guardian.simulate import SCENARIOS, labels_path, simulate
from guardian.store import Store
from tests.conftest import ROOT
from trainer.labels import CLASSES
from trainer.sets.athand import SETS
from trainer.sets.cache import _PART
from trainer.sets.mapping import Mapping
from trainer.sets.prepared import FACTS, Prepared
from trainer.sets.registry import READERS, prepare, sniff
from trainer.sets.split import ROW_WARNING, Split, shared, split
from trainer.sets.windows import chunks, windows
from trainer.sets.writer import Nature, Writer, hashes


def made(
    labels: list[list[int]], names: list[str] | None = None, *, ordered: bool = True
) -> Prepared:
    """Return a set of groups with these labels; each row's only feature is its number."""
    label = np.array([c for group in labels for c in group], dtype=np.int16)
    group = np.repeat(np.arange(len(labels)), [len(g) for g in labels]).astype(np.int32)
    n = len(label)
    return Prepared(
        name="made",
        features=("number",),
        classes=("benign", "scan", "c2"),
        x=np.arange(n, dtype=np.float32)[:, None],
        label=label,
        group=group,
        groups=tuple(names or [f"capture {k}" for k in range(len(labels))]),
        ts=np.arange(n, dtype=np.float64),
        ordered=ordered,
        comparable=False,
        why="made",
        counts={},
        digest="",
    )


def parts_of(dealt: Split) -> list[set[int]]:
    return [set(rows.tolist()) for rows in (dealt.train, dealt.valid, dealt.test)]


grouped = st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=12), min_size=3, max_size=14)


# --- splits ---------------------------------------------------------------------------------


@given(labels=grouped, seed=st.integers(0, 50), houses=st.integers(3, 14))
@settings(max_examples=30)
def test_no_capture_is_in_two_parts(labels: list[list[int]], seed: int, houses: int) -> None:
    names = [f"capture {k % houses}/host {k}" for k in range(len(labels))]
    prepared = made(labels, names)
    captures = [name.partition("/")[0] for name in names]
    unit = captures if len(set(captures)) >= 3 else names
    dealt = split(prepared, seed=seed)
    parts = parts_of(dealt)
    assert sorted(row for part in parts for row in part) == list(range(len(prepared)))
    assert all(parts)
    seen = [{unit[prepared.group[row]] for row in part} for part in parts]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert dealt.warning == ""
    again = split(prepared, seed=seed)
    assert all((a == b).all() for a, b in zip(
        (dealt.train, dealt.valid, dealt.test), (again.train, again.valid, again.test),
        strict=True))  # fmt: skip


@given(repeats=st.integers(2, 6), seed=st.integers(0, 20))
@settings(max_examples=20)
def test_each_class_comes_into_train_and_test_where_groups_allow(repeats: int, seed: int) -> None:
    dealt = split(made([[0] * 5 + [1] * 3, [0] * 5 + [2] * 4, [0] * 7] * repeats), seed=seed)
    prepared = made([[0] * 5 + [1] * 3, [0] * 5 + [2] * 4, [0] * 7] * repeats)
    for part in (dealt.train, dealt.test):
        assert set(prepared.label[part].tolist()) == {0, 1, 2}
    assert 0 in prepared.label[dealt.valid]
    assert "not in train" not in dealt.how
    assert "not in test" not in dealt.how


def test_many_groups_are_dealt_out_in_the_shares() -> None:
    rng = np.random.default_rng(1)
    labels = [rng.integers(0, 3, rng.integers(5, 60)).tolist() for _ in range(300)]
    prepared = made(labels)
    dealt = split(prepared, shares=(0.7, 0.1, 0.2))
    shares = [len(p) / len(prepared) for p in (dealt.train, dealt.valid, dealt.test)]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.02)


def test_what_the_groups_do_not_allow_is_said() -> None:
    dealt = split(made([[0, 0, 1], [0, 0], [0, 0, 0]]))
    assert "not in test: scan" in dealt.how or "not in train: scan" in dealt.how


def test_two_captures_are_a_published_pair_only_where_both_have_both() -> None:
    dealt = split(made([[0, 1] * 10, [0, 1] * 3], ordered=False))
    assert dealt.test.tolist() == list(range(20, 26))
    assert len(dealt.valid) == 5
    assert "test is capture 1" in dealt.how
    with pytest.raises(InputError, match="by time or by row"):
        split(made([[0] * 10, [1] * 10]))


def test_by_row_only_on_request_and_with_a_warning() -> None:
    prepared = made([[0, 1] * 20])
    with pytest.raises(InputError, match="1 group and three are needed"):
        split(prepared)
    dealt = split(prepared, by="row")
    assert dealt.warning == ROW_WARNING
    assert sorted(map(len, parts_of(dealt))) == [8, 8, 24]


@given(labels=grouped)
@settings(max_examples=30)
def test_by_time_the_test_rows_are_the_last_of_their_group(labels: list[list[int]]) -> None:
    prepared = made(labels)
    dealt = split(prepared, by="time")
    for group in range(len(labels)):
        first, middle, last = (
            rows[prepared.group[rows] == group] for rows in (dealt.train, dealt.valid, dealt.test)
        )
        order = np.concatenate([first, middle, last])
        assert (np.diff(order) == 1).all()
        assert len(order) == len(labels[group])
    assert "same captures" in dealt.warning


def test_rows_that_train_and_test_share_are_counted() -> None:
    prepared = made([[0, 1] * 20])
    prepared = replace(prepared, x=np.repeat(np.arange(8, dtype=np.float32), 5)[:, None])
    dealt = split(prepared, by="row")
    rows = {(float(prepared.x[r, 0]), int(prepared.label[r])) for r in dealt.train.tolist()}
    many = sum(
        (float(prepared.x[r, 0]), int(prepared.label[r])) in rows for r in dealt.test.tolist()
    )
    assert shared(prepared, dealt) == many > 0


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.0), (0.5, 0.2, 0.2), (0.9, 0.3, -0.2)])
def test_shares_that_make_no_sense_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="sum to 1"):
        split(made([[0]] * 5), shares=shares)


# --- windows --------------------------------------------------------------------------------


@given(
    labels=grouped,
    window=st.integers(1, 6),
    stride=st.integers(1, 4),
    pad=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=80)
def test_windows_cross_neither_groups_nor_gaps(
    labels: list[list[int]], window: int, stride: int, pad: bool, seed: int
) -> None:
    prepared = made(labels)
    prepared = replace(prepared, x=prepared.x + 1)  # so that 0 is padding alone
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(prepared)) < 0.8)
    found = windows(prepared, rows, window, stride, pad=pad)
    allowed = set(rows.tolist())
    assert found.x.shape == (len(found), window, 1)
    for k in range(len(found)):
        steps = found.x[k, :, 0].astype(int)
        real = steps[steps > 0] - 1
        assert (steps[: window - len(real)] == 0).all()
        assert real[-1] == found.row[k]
        assert (np.diff(real) == 1).all()
        assert set(real.tolist()) <= allowed
        assert len(set(prepared.group[real].tolist())) == 1
        assert found.label[k] == prepared.label[found.row[k]]
        assert found.group[k] == prepared.group[found.row[k]]
        if len(real) < window:  # only where what is before it may not be used
            before = int(real[0]) - 1
            assert pad
            assert before not in allowed or prepared.group[before] != found.group[k]
    if stride == 1 and pad:
        assert found.row.tolist() == rows.tolist()


def test_windows_take_scaled_features_and_refuse_nonsense() -> None:
    prepared = made([[0] * 6])
    found = windows(prepared, np.arange(6), 3, x=prepared.x * 10)
    assert found.x[0, :, 0].tolist() == [0, 10, 20]
    assert len(found) == 4
    assert len(windows(prepared, np.arange(0), 3)) == 0
    with pytest.raises(InputError, match="must be 1 or more"):
        windows(prepared, np.arange(6), 0)


@given(seed=st.one_of(st.none(), st.integers(0, 9)), batch=st.integers(1, 700))
@settings(max_examples=20)
def test_streamed_windows_are_all_windows_once(seed: int | None, batch: int) -> None:
    prepared = made([[0] * 1500, [1] * 40, [2] * 2600])
    rows = np.arange(len(prepared))
    whole = windows(prepared, rows, 4, pad=True)
    streamed = list(
        chunks(prepared, rows, 4, batch=batch, pad=True, seed=seed, pool=2048,
               scale=lambda x: x + 7)
    )  # fmt: skip
    assert all(len(x) == batch for x, _ in streamed[:-1])
    x = np.concatenate([x for x, _ in streamed])
    label = np.concatenate([label for _, label in streamed])
    order = np.argsort(x[:, -1, 0])
    if seed is not None:
        assert (order != np.arange(len(order))).any()
    real = np.minimum(whole.row - np.array([0, 1500, 1540])[whole.group] + 1, 4)
    padded = np.arange(-3, 1)[None, :] <= -real[:, None]
    expected = whole.x + 7
    expected[padded] = 0
    assert (x[order] == expected).all()
    assert (label[order] == whole.label).all()


# --- the writer -----------------------------------------------------------------------------


def written(folder: Path, parts: list[tuple[list[list[float]], list[int], list[int], list[float]]],
            fill: str = "zero", twice: str = "drop", gap: str = "") -> Prepared:  # fmt: skip
    from trainer.sets.prepared import load  # noqa: PLC0415

    folder.mkdir()
    writer = Writer(folder)
    writer.begin(("a", "b"), gap=gap)
    for k in range(3):
        writer.group(f"g{k}")
    for x, label, group, ts in parts:
        writer.add(
            np.array(x, dtype=np.float64), np.array(label), np.array(group), np.array(ts), fill
        )
    writer.finish("made", ("benign", "scan"), Nature(True, False, ""), "d", twice)
    return load(folder)


def test_rows_are_sorted_filled_and_counted(tmp_path: Path) -> None:
    prepared = written(
        tmp_path / "set",
        [
            ([[3, 1], [np.nan, np.inf], [1e300, -np.inf]], [0, 1, -1], [1, 0, 1], [9, 5, 8]),
            ([[3, 1], [3, 1]], [0, 1], [1, 0], [10, 4]),
        ],
    )
    assert prepared.x.tolist() == [[3, 1], [0, 0], [0, 0], [3, 1]]
    assert prepared.label.tolist() == [1, 1, -1, 0]
    assert prepared.group.tolist() == [0, 0, 1, 1]
    assert prepared.ts.tolist() == [4, 5, 8, 9]
    assert prepared.counts == {
        "values infinite": 3, "values filled": 4, "rows out of time order": 2, "rows repeated": 1,
        "rows alike with another label": 4, "dropped: repeated": 1, "rows kept": 4,
    }  # fmt: skip


def test_a_gap_may_take_the_value_before(tmp_path: Path) -> None:
    nan = float("nan")
    prepared = written(
        tmp_path / "set",
        [
            ([[nan, 1], [2, nan], [nan, nan]], [0, 0, 0], [0, 0, 0], [0, 1, 2]),
            ([[nan, 5], [nan, nan]], [0, 0], [0, 1], [3, 4]),
        ],
        fill="previous",
        twice="keep",
    )
    assert prepared.x.tolist() == [[0, 1], [2, 1], [2, 1], [2, 5], [0, 0]]


def test_the_gap_feature_counts_from_the_row_before_of_the_group(tmp_path: Path) -> None:
    prepared = written(
        tmp_path / "set",
        [([[1, 0], [1, 0], [1, 0]], [0, 0, 0], [0, 1, 0], [10, 11, 6])],
        twice="keep", gap="b",
    )  # fmt: skip
    assert prepared.x[:, 1] == pytest.approx([0, np.log1p(4), 0])


def test_hashes_differ_where_rows_do() -> None:
    x = np.random.default_rng(1).integers(0, 3, (4000, 6)).astype(np.float32)
    assert len(np.unique(hashes(x))) == len(np.unique(x, axis=0)) < 4000
    assert len(np.unique(hashes(np.eye(50, dtype=np.float32)))) == 50


# --- the cache ------------------------------------------------------------------------------

ROWS = [
    "ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,duration,orig_bytes,resp_bytes,"
    "conn_state,history,orig_pkts,orig_ip_bytes,resp_pkts,resp_ip_bytes,label,detailed-label",
    *(
        f"{1_600_000_000 + k},C{k},192.168.1.{2 + k % 3},40000,34.1.2.3,443,tcp,1.5,100,{k},SF,"
        "ShADadFf,5,300,5,900,benign,-"
        for k in range(12)
    ),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "home.csv"
    path.write_text("\n".join(ROWS) + "\n", encoding="ascii")
    return path


def test_a_set_is_made_once_and_again_when_its_file_changes(log: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepare("zeek", [log], cache=cache)
    (folder,) = cache.glob("zeek-*")
    made_at = (folder / FACTS).stat().st_mtime_ns
    again = prepare("zeek", [log], cache=cache)
    assert (folder / FACTS).stat().st_mtime_ns == made_at
    assert again.digest == first.digest
    assert (again.x == first.x).all()
    assert isinstance(again.x, np.memmap)
    log.touch()  # another time, the same content
    assert prepare("zeek", [log], cache=cache).digest == first.digest
    assert (folder / FACTS).stat().st_mtime_ns == made_at
    log.write_text("\n".join(ROWS[:-3]) + "\n", encoding="ascii")
    shorter = prepare("zeek", [log], cache=cache)
    assert len(shorter) == 9
    assert shorter.digest != first.digest
    assert len(list(cache.glob("zeek-*"))) == 1
    assert len(first.x) == 12  # what was mapped stays, though its folder went
    assert float(first.x.sum()) == float(again.x.sum())


def test_another_mapping_or_limit_makes_another_set(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = prepare("zeek", [log], cache=cache)
    part = prepare("zeek", [log], cache=cache, limit=5)
    assert len(part) == 5
    assert not part.comparable
    assert "first 5 rows" in part.why
    reader = READERS["zeek"]
    newer = replace(reader, mapping=replace(reader.mapping, version=reader.mapping.version + 1))
    monkeypatch.setitem(READERS, "zeek", newer)
    assert prepare("zeek", [log], cache=cache).digest not in (first.digest, part.digest)
    assert len(list(cache.glob("zeek-*"))) == 2


def test_a_damaged_book_of_digests_is_made_anew(log: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "files.json").write_text("{", encoding="ascii")
    assert len(prepare("zeek", [log], cache=cache)) == 12
    assert json.loads((cache / "files.json").read_text(encoding="ascii"))


def test_a_killed_preparation_leaves_no_set_and_its_rest_goes(log: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from trainer.sets import writer\n"
        "from trainer.sets.registry import prepare\n"
        "whole = writer.Writer._store\n"
        "def slow(self, *words):\n"
        "    whole(self, *words); print('half', flush=True); time.sleep(60)\n"
        "writer.Writer._store = slow\n"
        "prepare('zeek', [Path(sys.argv[1])], cache=Path(sys.argv[2]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(log), str(cache)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert list(cache.glob(f"{_PART}*-*"))
    assert not list(cache.glob("zeek-*"))
    assert len(prepare("zeek", [log], cache=cache)) == 12
    assert not list(cache.glob(f"{_PART}*"))


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "home.csv"
    path.write_text("\n".join([*ROWS, ROWS[1].replace("benign,-", "Odd,Odd")]), encoding="ascii")
    with pytest.raises(InputError, match=r"'Odd' has no class"):
        prepare("zeek", [path], cache=tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["files.json"]


def test_a_half_set_beside_a_running_owner_stays(log: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / f"{_PART}{os.getpid()}-x").mkdir(parents=True)
    prepare("zeek", [log], cache=cache)
    assert (cache / f"{_PART}{os.getpid()}-x").exists()


# --- readers --------------------------------------------------------------------------------


def test_every_reader_maps_onto_its_own_classes() -> None:
    for reader in READERS.values():
        mapping: Mapping = reader.mapping
        assert mapping.classes[0] == "benign"
        assert set(mapping.labels.values()) <= {*mapping.classes, "drop"}
        names = [f.name for f in mapping.features]
        assert len(names) == len(set(names))
        assert all(text == text.lower() for text in mapping.labels)
    assert {entry.reader for entry in SETS.values()} <= set(READERS)


def test_zeek_labels_groups_and_times(data: Path) -> None:
    prepared = prepare("iot23", [data], cache=None)
    assert prepared.ordered
    assert not prepared.comparable
    assert np.isfinite(prepared.x).all()
    # 8-1: 8,222 and 20-1: 16 and 44-1: 14 that are labelled so, 1,947 of 42-1 that are not.
    assert (prepared.label == CLASSES.index("c2")).sum() == 8_222 + 16 + 14 + 1_947
    assert prepared.counts["rows read"] == 452 + 1_374 + 3_209 + 4_426 + 237 + 10_403
    pi = prepared.groups.index("CTU-Malware-Capture-8-1-labeled/192.168.100.113")
    rows = np.flatnonzero(prepared.group == pi)
    assert (np.diff(rows) == 1).all()
    assert (np.diff(prepared.ts[rows]) >= 0).all()
    gap = prepared.x[rows, prepared.features.index("gap")]
    assert gap[1:] == pytest.approx(np.log1p(np.diff(prepared.ts[rows])), rel=1e-5)
    dealt = split(prepared)
    assert "by captures" in dealt.how


def test_the_three_forms_of_one_capture_agree(data: Path) -> None:
    table = prepare("zeek", [data / "iot23" / "CTU-Malware-Capture-44-1-labeled.csv"], cache=None)
    written_back = data / "iot23/format-example/CTU-IoT-Malware-Capture-44-1.conn.log.labeled"
    as_log = prepare("zeek", [written_back], cache=None)
    assert (table.x == as_log.x).all()
    assert (table.label == as_log.label).all()
    assert sniff(written_back) == "zeek"


def test_logs_of_the_catalogue_get_its_labels(data: Path) -> None:
    prepared = prepare("stratosphere", [data], cache=None)
    scans = [g for g, name in enumerate(prepared.groups) if "002-zeek" in name]
    assert set(prepared.label[np.isin(prepared.group, scans)].tolist()) <= {
        CLASSES.index("scan"), -1,
    }  # fmt: skip
    assert prepared.counts["rows unlabelled"] == int((prepared.label < 0).sum()) > 0


def test_cut_logs_are_read_to_the_cut_and_counted(data: Path, tmp_path: Path) -> None:
    packed = data / "stratosphere/002-zeek-scenario-port-scanning/conn.log.gz"
    whole = prepare("zeek", [packed], cache=None)
    cut = tmp_path / "conn.log.gz"
    cut.write_bytes(packed.read_bytes()[:60_000])
    told: list[str] = []
    part = prepare("zeek", [cut], cache=None, echo=told.append)
    assert 0 < len(part) < len(whole)
    assert part.counts["files cut"] == 1
    assert "cut or damaged" in told[0]
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join([*ROWS, ROWS[3][:40]]), encoding="ascii")
    assert prepare("zeek", [broken], cache=None).counts["dropped: cut or no sense"] == 1


def test_a_log_in_the_middle_of_a_flood_has_bounded_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.sets.writer.MAX_GROUPS", 5)
    path = tmp_path / "flood.csv"
    rows = [ROWS[1].replace("192.168.1.2", f"192.168.1.{k}") for k in range(2, 40)]
    path.write_text("\n".join([ROWS[0], *rows]), encoding="ascii")
    prepared = prepare("zeek", [path], cache=None)
    assert len(prepared.groups) == 6
    assert prepared.groups[-1] == "flood/others"
    assert prepared.counts["rows kept"] == 38


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Half an hour of a simulated home with a scan: the capture, and the daemon's database."""
    folder = tmp_path_factory.mktemp("home")
    pcap, db = folder / "home.pcap", folder / "guardian.db"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.5), pcap)
    replay([pcap], Settings(), db=db, as_json=True)
    return pcap, db


def test_captures_have_the_gateways_features_and_their_labels(home: tuple[Path, Path]) -> None:
    assert sniff(home[0]) == "pcap"
    prepared = prepare("pcap", [home[0]], cache=None)
    assert prepared.features == NAMES
    assert prepared.ordered
    counts = np.bincount(prepared.label + 1, minlength=len(CLASSES) + 1)
    assert counts[0] == 0
    assert counts[1 + CLASSES.index("scan")] > 200
    assert len(prepared.groups) > 5
    assert all((np.diff(prepared.ts[prepared.group == g]) >= 0).all()
               for g in range(len(prepared.groups)))  # fmt: skip
    unlabelled = prepare("pcap", [home[0]], cache=None, limit=50)
    assert len(unlabelled) == 50


def test_a_change_of_the_labels_beside_a_capture_makes_the_set_anew(
    home: tuple[Path, Path], tmp_path: Path
) -> None:
    pcap = tmp_path / "home.pcap"
    pcap.write_bytes(home[0].read_bytes())
    without = prepare("pcap", [pcap], cache=tmp_path / "cache")
    assert (without.label == -1).all()
    labels_path(pcap).write_bytes(labels_path(home[0]).read_bytes())
    with_labels = prepare("pcap", [pcap], cache=tmp_path / "cache")
    assert (with_labels.label > 0).any()
    assert with_labels.digest != without.digest


@pytest.mark.parametrize(
    ("answer", "scan", "unlabelled"), [(None, False, True), ("bad", True, True),
                                       ("this-was-me", False, False)],
)  # fmt: skip
def test_the_database_has_the_users_labels(
    home: tuple[Path, Path], tmp_path: Path, answer: str | None, scan: bool, unlabelled: bool
) -> None:
    path = tmp_path / "guardian.db"
    path.write_bytes(home[1].read_bytes())
    if answer:
        with Store(path) as store:
            (incident,) = store.open_incidents()
            assert store.set_feedback(incident.id, answer)
    assert sniff(path) == "guardian-db"
    prepared = prepare("guardian-db", [path], cache=None)
    assert prepared.features == NAMES
    found = set(prepared.label.tolist())
    assert 0 in found
    assert (CLASSES.index("scan") in found) == scan
    assert (-1 in found) == unlabelled
    infected = max(range(len(prepared.groups)), key=lambda g: (prepared.group == g).sum())
    others = prepared.label[prepared.group != infected]
    assert not (others > 0).any()
    assert (others == 0).mean() > 0.9
    if scan:
        scans = prepared.label == CLASSES.index("scan")
        assert set(prepared.group[scans].tolist()) == {infected}
        assert scans.sum() > 200  # the evidence names twenty peers, the rows know more
    assert prepared.counts[f"incidents {answer or 'without an answer'}"] == 1
    # As the capture: the same devices, nearly the same rows.
    assert abs(len(prepared) - len(prepare("pcap", [home[0]], cache=None))) < 20


def test_sums_of_a_flood_are_no_connections(home: tuple[Path, Path], tmp_path: Path) -> None:
    import sqlite3  # noqa: PLC0415
    from contextlib import closing  # noqa: PLC0415

    path = tmp_path / "guardian.db"
    path.write_bytes(home[1].read_bytes())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE connections SET count = 700 WHERE id <= 3")
    prepared = prepare("guardian-db", [path], cache=None)
    assert prepared.counts["dropped: sums of a flood"] == 3
    assert prepared.counts["rows read"] == prepared.counts["rows kept"] + 3


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    for name, paths, words in (
        ("zeek", [tmp_path / "none"], "there is no"),
        ("zeek", [tmp_path], "holds no file of the kind zeek"),
        ("iot23", [tmp_path], "lacks iot23"),
        ("weather", [tmp_path], "no data set or reader weather"),
    ):
        with pytest.raises(InputError, match=words):
            prepare(name, paths, cache=None)
    odd = tmp_path / "odd.txt"
    odd.write_text("hello\n", encoding="ascii")
    with pytest.raises(InputError, match="of no known kind"):
        sniff(odd)
    with pytest.raises(InputError, match="there is no file"):
        sniff(tmp_path)
    with pytest.raises(InputError, match="a limit of 0"):
        prepare("zeek", [odd], cache=None, limit=0)


def test_a_prepared_set_is_taken_apart_by_rows(log: Path) -> None:
    prepared = prepare("zeek", [log], cache=None)
    some = prepared.take(prepared.group == 0)
    assert len(some) == 4
    assert some.groups == prepared.groups
    assert prepared.families() == ("home",) * 3


def test_nothing_heavy_is_loaded_by_the_package() -> None:
    program = (
        "import sys, trainer.sets.registry, trainer.sets.windows, trainer.sets.split\n"
        "print([m for m in ('tensorflow', 'pandas', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True, cwd=ROOT)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_gzipped_and_plain_are_the_same_rows(log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert (prepare("zeek", [packed], cache=None).x == prepare("zeek", [log], cache=None).x).all()
