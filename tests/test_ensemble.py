"""A classifier of several members: what each says, how they are averaged, what is refused."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian import bundle, scoring, trees, voting
from guardian.errors import BundleError
from guardian.members import TREES, Ensemble, ModelFile
from guardian.tables import F32, Sequences
from tests import bundles
from tests.bundles import f32
from trainer import pack

NAMES = ("gap", "size", "share")
T, F, C = 4, 3, len(bundles.CLASSES)


def stump(column: int, line: float, low: Any, high: Any, columns: int) -> trees.Trees:
    """Return a voting forest of one tree of one split."""
    value = np.array([np.full(len(low), 1 / len(low)), low, high])
    nodes = {
        "feature": np.array([column, 0, 0]), "threshold": f32([line, 0, 0]),
        "left": np.array([1, -1, -1]), "right": np.array([2, -1, -1]), "value": value,
    }  # fmt: skip
    root = np.zeros(1, np.int64)
    return trees.grown(trees.VOTING, columns, nodes, root, root, np.zeros(len(low)))


def member(found: trees.Trees, name: str, takes: str, **more: Any) -> ModelFile:
    content = io.BytesIO()
    trees.save(found, content)  # type: ignore[arg-type]
    return ModelFile(name, content.getvalue(), TREES, 0, takes=takes, **more)


def network(bias: F32, weight: float = 1.0) -> ModelFile:
    content = bundles.linear_classifier((T, F), np.zeros((C, T, F), np.float32), bias)
    return ModelFile("classifier", content, "float32", bundles.BATCH, weight)


def packed(folder: Path, ensemble: Ensemble) -> bundle.Bundle:
    rng = np.random.default_rng(0)
    scaler = bundle.Scaler(f32([1, 0, 0]), f32([2, 1, 1]), 5.0)
    parts = pack.Parts(
        name="several", version="1", features=NAMES, window=T, scaler=scaler,
        autoencoder=bundles.linear_autoencoder((T, F), 0.5), classifier=ensemble, form="float32",
        batch=bundles.BATCH, error_threshold=1.0, threat_threshold=0.9, calibrated_on="nothing",
        usual=np.zeros((3, F), np.float32), golden_x=rng.normal(size=(6, T, F)).astype(np.float32),
        golden_length=np.array([1, 2, 3, 4, 4, 4], np.int32),
    )  # fmt: skip
    return pack.write(folder, parts, "# several\n")


def score(made: bundle.Bundle, x: F32, length: Any) -> F32:
    blank = Sequences.blank(len(x))
    given = Sequences(x, np.asarray(length, np.int32), blank.device, blank.row, blank.outbound)
    return scoring.Scorer(made).score(given).probability


LOW, HIGH = [0.9, 0.1, 0, 0, 0, 0, 0], [0.2, 0, 0.8, 0, 0, 0, 0]
BIAS = f32([2, 1, 0, 0, 0, 0, 0])
SAID = np.exp(BIAS) / np.exp(BIAS).sum()


def odds(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_threats_are_averaged_in_log_odds_and_attacks_by_weight(tmp_path: Path) -> None:
    both = Ensemble((network(BIAS, 3.0), member(stump(1, 0.5, LOW, HIGH, F), "wood", "last")))
    made = packed(tmp_path / "b", both)
    assert made.classifier.form == "float32 + trees"
    assert [m.weight for m in made.classifier.members] == [3.0, 1.0]
    x = np.zeros((2, T, F), np.float32)
    x[1, -1, 1] = 1
    found = score(made, x, [T, T])
    for row, own in zip(found, (LOW, HIGH), strict=True):
        mean = 0.75 * odds(1 - SAID[0]) + 0.25 * odds(1 - own[0])
        threat = 1 / (1 + np.exp(-mean))
        assert row.sum() == pytest.approx(1, abs=1e-6)
        assert 1 - row[0] == pytest.approx(threat, abs=1e-5)
        kinds = 0.75 * SAID[1:] + 0.25 * np.array(own[1:])
        np.testing.assert_allclose(row[1:], threat * kinds / kinds.sum(), atol=1e-5)


def test_plain_probabilities_are_averaged_as_they_are(tmp_path: Path) -> None:
    wood = member(stump(0, 0.0, LOW, HIGH, F), "wood", "last", weight=1.0)
    made = packed(tmp_path / "b", Ensemble((network(BIAS), wood), "probability"))
    found = score(made, np.ones((1, T, F), np.float32), [T])
    np.testing.assert_allclose(found[0], (SAID + HIGH) / 2, atol=1e-6)


def test_one_that_knows_two_classes_moves_the_threat_alone() -> None:
    full, two = f32([[0.5, 0.4, 0.1, 0, 0, 0, 0]]), f32([[0.0, 1.0]])
    out = voting.combined([(0.5, full), (0.5, two)], True)
    edge = 0.5 * odds(1 - voting.EDGE)
    assert 1 - out[0, 0] == pytest.approx(1 / (1 + np.exp(-edge)), abs=1e-5)
    assert out[0, 1] == pytest.approx(4 * out[0, 2], rel=1e-5)
    certain = voting.combined([(1.0, f32([[1, 0, 0]]))], False)
    np.testing.assert_allclose(certain, [[1, 0, 0]])


@pytest.mark.parametrize(
    ("takes", "columns", "column"), [("last", F, 1), ("summary", 3 * F, F + 1), ("flat", T * F, 1)]
)
def test_trees_see_the_rows_that_they_ask_for(
    tmp_path: Path, takes: str, columns: int, column: int
) -> None:
    """Flat and summary know of steps before the last; padding counts as 0 whatever stands there."""
    raw = member(stump(column, 0.5, LOW, HIGH, columns), "wood", takes)
    made = packed(tmp_path / "b", Ensemble((raw,)))
    x = np.zeros((3, T, F), np.float32)
    x[0, :, 1] = 1  # all steps
    x[1, 0, 1] = 9  # the first alone
    x[2, 0, 1] = 9  # the same, but it is padding
    high = (score(made, x, [T, T, T - 1])[:, 2] > 0.5).tolist()
    assert high == {"last": [True, False, False], "summary": [True, True, False],
                    "flat": [True, True, False]}[takes]  # fmt: skip


def test_scaled_features_are_seen_where_the_manifest_says_so(tmp_path: Path) -> None:
    x = np.zeros((1, T, F), np.float32)
    x[0, -1, 0] = 1.5  # scaled: (1.5 - 1) / 2
    for scaled, found in ((False, 2), (True, 0)):
        wood = member(stump(0, 0.5, LOW, HIGH, F), "wood", "last", scaled=scaled)
        made = packed(tmp_path / str(scaled), Ensemble((wood,)))
        assert score(made, x, [T]).argmax() == found


def test_batches_change_nothing(tmp_path: Path) -> None:
    wood = member(stump(1, 0.1, LOW, HIGH, F), "wood", "last")
    made = packed(tmp_path / "b", Ensemble((network(BIAS), wood)))
    x = np.random.default_rng(1).normal(size=(300, T, F)).astype(np.float32)
    whole = score(made, x, [T] * 300)
    parts = [score(made, x[k : k + 37], [T] * len(x[k : k + 37])) for k in range(0, 300, 37)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)
    assert score(made, x[:0], []).shape == (0, C)


def test_a_single_model_is_written_as_ever(tmp_path: Path) -> None:
    made = packed(tmp_path / "b", Ensemble((network(BIAS),)))
    entry = {"file": "classifier.tflite", "form": "float32", "batch": bundles.BATCH}
    assert made.manifest["models"]["classifier"] == entry


def test_the_shipped_bundle_is_one_network_still() -> None:
    shipped = bundle.load(bundle.default_path())
    path = bundle.default_path() / bundle.MANIFEST
    assert shipped.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    for one in shipped.classifier.members:
        assert one.file in shipped.manifest["files"]


def edited(folder: Path, change: Any) -> str:
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest["models"]["classifier"])
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as caught:
        scoring.Scorer(bundle.load(folder, NAMES))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(mean="median"), "median"),
        (lambda c: c.update(members=[]), "1 to 8"),
        (lambda c: c.update(members=c["members"] * 5), "1 to 8"),
        (lambda c: c.update(members="all"), "1 to 8"),
        (lambda c: c["members"][0].update(weight=0), "above 0"),
        (lambda c: c["members"][0].update(weight=float("nan")), "above 0"),
        (lambda c: c["members"][0].update(batch=True), "whole number"),
        (lambda c: c["members"][1].update(takes="all"), "'all' is not one of"),
        (lambda c: c["members"][1].update(takes="flat"), "3 columns, not 12"),
        (lambda c: c["members"][1].update(scaled=1), "true or false"),
        (lambda c: c["members"][1].update(file="other.npz"), "not among the files"),
        (lambda c: c["members"][1].update(file="card.md"), "cannot be read"),
        (lambda c: c["members"][1].update(form="float32", batch=8), "cannot be run"),
        (lambda c: c["members"].__setitem__(0, None), "not describe"),
        (lambda c: c["members"].__setitem__(0, {}), "'file' is missing"),
        (lambda c: c["members"][1].update(weight=1e-3), "golden"),
    ],
)
def test_what_is_no_ensemble_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    wood = member(stump(1, 0.1, LOW, HIGH, F), "wood", "last")
    packed(tmp_path / "b", Ensemble((network(f32([0, 9, 0, 0, 0, 0, 0])), wood)))
    assert says in edited(tmp_path / "b", change)


def test_members_that_cannot_answer_together_are_refused(tmp_path: Path) -> None:
    two = member(stump(0, 0.0, [1, 0], [0, 1], F), "two", "last")
    with pytest.raises(BundleError, match="knows all its classes"):
        packed(tmp_path / "b", Ensemble((two,)))
    three = member(stump(0, 0.0, [1, 0, 0], [0, 1, 0], F), "three", "last")
    with pytest.raises(BundleError, match="no probability of 2 or 7"):
        packed(tmp_path / "b", Ensemble((network(BIAS), three)))
    with pytest.raises(BundleError, match="one name"):
        packed(tmp_path / "b", Ensemble((network(BIAS), network(BIAS))))
    assert not (tmp_path / "b").exists()


def test_a_leaf_whose_shares_are_none_is_refused() -> None:
    for low in ([0.5, 0.4], [1.5, -0.5], [np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"add up|no number"):
            stump(0, 0.0, low, [0, 1], F)


@pytest.mark.train
@pytest.mark.parametrize("kind", ["RandomForestClassifier", "ExtraTreesClassifier",
                                  "HistGradientBoostingClassifier"])  # fmt: skip
def test_trees_of_scikit_learn_answer_as_they_were_fitted(kind: str) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    from trainer import grove  # noqa: PLC0415

    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, F)).astype(np.float32)
    label = np.where(x[:, 0] > 0.5, 2, np.where(x[:, 1] > 0.8, 4, 0))
    how = {"max_iter": 10} if kind.startswith("Hist") else {"n_estimators": 12, "max_depth": 6}
    model = getattr(ensemble, kind)(**how, random_state=0).fit(x, label)
    make = grove.boosting if kind.startswith("Hist") else grove.voting
    made = grove.member(make(model), "wood", "last", weight=0.5)
    assert (made.file, made.form, made.weight) == ("wood.npz", TREES, 0.5)
    found = trees.read(made.content, F)
    test = rng.normal(size=(200, F)).astype(np.float32)
    wanted = np.zeros((200, C))
    wanted[:, [0, 2, 4]] = model.predict_proba(test)
    np.testing.assert_allclose(found.probability(test), wanted, atol=1e-5)
    np.testing.assert_allclose(found.score(test), 1 - wanted[:, 0], atol=1e-5)
