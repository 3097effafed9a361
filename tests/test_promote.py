"""A bundle takes another's place only where it is not worse, at once; and what would change."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped,unused-ignore]
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from guardian import bundle as bundles
from guardian.config import Settings
from guardian.errors import BundleError, ConfigError, InputError
from guardian.place import put
from guardian.replay import replay
from guardian.simulate import SCENARIOS, simulate
from tests.bundles import write_constant
from trainer import catalogue
from trainer import promote as promotion
from trainer import rehearse as rehearsal
from trainer.catalogue import Source
from trainer.evaluate import pair_of
from trainer.promote import Attacked, Worth, promote, worse
from trainer.rehearse import differences, matched, rehearse

SOURCES = (
    Source("infected", "infected.pcap", "evaluate", "one"),
    Source("quiet", "quiet.pcap", "evaluate", "two"),
)


def silent(_text: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an infected and a quiet home, and the database of a daemon in the first."""
    folder = tmp_path_factory.mktemp("homes")
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.25), folder / "infected.pcap")
    simulate(SCENARIOS["quiet"](profile="test", hours=0.15), folder / "quiet.pcap")
    replay([folder / "infected.pcap"], Settings(), db=folder / "guardian.db", as_json=True)
    return folder


def shuffled(folder: Path) -> Path:
    """Write the shipped bundle with the classifier's weights in another order."""
    shutil.copytree(bundles.default_path(), folder)
    path = folder / "classifier.tflite"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    rng = np.random.default_rng(0)
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > 500:
            buffer.data = rng.permutation(buffer.data)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    signed(folder)
    # What it answers now is right by its own golden outputs, or it would be refused unjudged.
    found = bundles.load(folder)
    golden = found.golden
    told = [p for _, p, _, _ in pair_of(found).infer(golden.x, golden.length)]
    np.savez_compressed(
        folder / bundles.GOLDEN, x=golden.x, length=golden.length,
        probability=np.concatenate(told), error=golden.error,
    )  # fmt: skip
    return signed(folder)


def signed(folder: Path, **changes: Any) -> Path:
    """Write the manifest anew, with the files as they are."""
    path = folder / bundles.MANIFEST
    about = json.loads(path.read_text())
    about["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in about["files"]
    }
    path.write_text(json.dumps(about | changes))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the shipped bundle in a folder of its own, to be replaced."""
    shutil.copytree(bundles.default_path(), tmp_path / "models" / "default")
    return tmp_path / "models" / "default"


def test_a_bundle_with_shuffled_weights_is_refused(
    homes: Path, place: Path, tmp_path: Path
) -> None:
    before = bundles.load(place).digest
    candidate = shuffled(tmp_path / "worse")
    decision = promote(candidate, place, data=homes, sources=SOURCES, echo=silent)
    assert not decision.promoted
    assert decision.candidate.auc < decision.present.auc - promotion.AUC_MARGIN
    told = promotion.text(decision)
    assert "Refused, nothing was changed" in told
    assert "infected" in " ".join(decision.worse)
    assert f"{decision.candidate.auc:.3f}, not {decision.present.auc:.3f}" in told
    assert bundles.load(place).digest == before
    assert sorted(p.name for p in place.parent.iterdir()) == ["default"]
    json.dumps(decision.as_json())


def test_an_equal_bundle_takes_the_place_and_the_old_one_is_kept(
    homes: Path, place: Path, tmp_path: Path
) -> None:
    before = bundles.load(place).digest
    shutil.copytree(place, tmp_path / "next")
    (tmp_path / "next" / "notes.txt").write_text("not part of the bundle")
    candidate = signed(tmp_path / "next", version="next")
    decision = promote(candidate, place, data=homes, sources=SOURCES, echo=silent)
    assert decision.promoted
    assert decision.previous == place.parent / "previous"
    assert bundles.load(place).version == "next"
    assert bundles.load(place.parent / "previous").digest == before
    assert sorted(p.name for p in place.parent.iterdir()) == ["default", "previous"]
    assert not (place / "notes.txt").exists()
    assert "Promoted: it is not worse" in promotion.text(decision)
    assert decision.present.attacked == decision.candidate.attacked


def worth(auc: float = 0.9, recall: float = 0.5, opened: int = 1, false: int = 1) -> Worth:
    return Worth("a", {"big": Attacked(200, auc, recall, opened)}, {"calm": false})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""), ({"auc": 0.896}, ""), ({"auc": 0.89}, "the mean AUC is 0.890, not 0.900"),
        ({"recall": 0.485}, ""), ({"recall": 0.47}, "recall at 0.1 %"),
        ({"opened": 0}, "big: no incident, where there were 1"), ({"opened": 3}, ""),
        ({"false": 2}, "2 false incidents, not 1: calm (2, not 1)"), ({"false": 0}, ""),
        ({"auc": 0.99, "recall": 0.99, "false": 2}, "2 false incidents"),
    ],
)  # fmt: skip
def test_the_rule_is_the_one_that_is_written_down(changes: dict[str, Any], said: str) -> None:
    found = worse(worth(**changes), worth())
    assert bool(found) == bool(said)
    assert said in " ".join(found)


def test_one_capture_may_not_pay_for_the_others() -> None:
    then, now = worth(), worth()
    for one, auc in ((then, 0.80), (now, 0.97)):
        one.attacked["other"] = Attacked(200, auc, 0.5, 0)
    now.attacked["big"] = replace(now.attacked["big"], auc=0.84)
    assert now.auc > then.auc
    assert worse(now, then) == ["big: AUC 0.840, not 0.900"]
    now.attacked["big"] = replace(now.attacked["big"], records=20)
    then.attacked["big"] = replace(then.attacked["big"], records=20)
    assert worse(now, then) == []


def test_whoever_loads_meanwhile_gets_one_of_the_two(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "next")
    signed(tmp_path / "next", version="next")
    versions: set[str] = set()
    faults: list[BundleError] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                versions.add(json.loads((place / bundles.MANIFEST).read_text())["version"])
            except OSError as error:
                faults.append(BundleError(str(error)))

    reader = threading.Thread(target=read)
    old = tmp_path / "old"
    shutil.copytree(place, old)
    both = {bundles.load(old).version, "next"}
    reader.start()
    for candidate in (tmp_path / "next", old, tmp_path / "next"):
        put(candidate, place)
    deadline = time.monotonic() + 60  # a busy machine may not have let it read at all
    while versions != both and not faults and time.monotonic() < deadline:
        for candidate in (old, tmp_path / "next"):
            put(candidate, place)
    done.set()
    reader.join()
    assert not faults
    assert versions == both
    assert sorted(p.name for p in place.parent.iterdir()) == ["default", "previous"]


def test_what_is_no_bundle_changes_nothing(homes: Path, place: Path, tmp_path: Path) -> None:
    before = bundles.load(place).digest
    broken = tmp_path / "broken"
    shutil.copytree(place, broken)
    (broken / "classifier.tflite").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="sha256"):
        promote(broken, place, data=homes, sources=SOURCES, echo=silent)
    with pytest.raises(ConfigError, match="in place already"):
        promote(place, place, data=homes, echo=silent)
    with pytest.raises(InputError, match="name both kinds"):
        promote(write_constant(tmp_path / "other"), place, data=homes, sources=SOURCES[1:],
                echo=silent)  # fmt: skip
    assert bundles.load(place).digest == before


# --- rehearsal ----------------------------------------------------------------------------


def test_a_rehearsal_shows_the_incident_that_would_be_missed(homes: Path, tmp_path: Path) -> None:
    deaf = write_constant(tmp_path / "deaf")
    found = rehearse(deaf, homes / "infected.pcap", counters=False, echo=silent)
    assert [one.cause for one in found.gone] == ["scan"]
    assert not found.opened
    told = rehearsal.text(found)
    assert "1 would no longer be opened" in told
    assert found.gone[0].device.name in told
    back = rehearse(bundles.default_path(), homes / "infected.pcap", deaf, counters=False,
                    echo=silent)  # fmt: skip
    assert [one.cause for one in back.opened] == ["scan"]
    assert not back.gone
    same = rehearse(bundles.default_path(), homes / "infected.pcap", echo=silent)
    assert (same.opened, same.gone, same.changed) == ((), (), ())
    assert len(same.both) == 1
    assert not same.notes
    json.dumps(back.as_json())


def test_a_rehearsal_over_a_database_says_how_far_it_can_be_believed(
    homes: Path, tmp_path: Path
) -> None:
    deaf = write_constant(tmp_path / "deaf")
    found = rehearse(deaf, homes / "guardian.db", counters=False, echo=silent)
    assert [one.cause for one in found.gone] == ["scan"]
    assert found.gone[0].device.mac  # the devices are those of the database
    said = " ".join(found.notes)
    assert "own incidents 1 began then" in said
    assert "opens 1 of them and 0 more" in said
    assert "cut into slices evenly" in said
    assert "What cannot be known from this" in rehearsal.text(found)
    with pytest.raises(InputError, match="no file"):
        rehearse(deaf, tmp_path / "none.db", echo=silent)


def test_both_are_commands(homes: Path, place: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    deaf = str(write_constant(tmp_path / "deaf"))
    done = run(rehearsal.main, [deaf, str(homes / "infected.pcap"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["candidate"].startswith("by-hand")
    done = run(rehearsal.main, [deaf, str(tmp_path / "none")])
    assert (done.exit_code, done.output) == (
        1, f"Error: there is no file {tmp_path / 'none'}: give a capture, a log or a database\n"
    )  # fmt: skip
    given = [deaf, "--in", str(place), "--data", str(homes)]
    done = run(promotion.main, [*given, "--capture", "no such"])
    assert done.exit_code == 1
    assert "no capture for evaluation is called no such" in done.output


def test_a_refusal_is_told_by_the_exit_status(
    homes: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "of", lambda _use: SOURCES)
    given = [str(write_constant(tmp_path / "deaf")), "--in", str(place), "--data", str(homes)]
    done = CliRunner().invoke(promotion.main, given)
    assert done.exit_code == 1
    assert "Refused, nothing was changed" in done.stdout


def test_stories_are_matched_by_device_cause_and_time(homes: Path) -> None:
    deaf = rehearse(bundles.default_path(), homes / "infected.pcap", echo=silent)
    one = deaf.both[0][0]
    day = 86_400 * 10**9
    later = replace(one, opened=one.opened + day, updated=one.updated + day, closed=None)
    other = replace(one, cause="c2", opened=one.opened + 600 * 10**9, severity="low")
    assert matched([one], [later]) == ([], [one], [later])
    pairs, gone, opened = matched([one, later], [other])
    assert (pairs, gone, opened) == ([(one, other)], [later], [])
    said = differences(one, other)
    assert said[0] == f"called c2, not {one.cause}"
    assert "opened 10 minutes later" in said
    # The same cause is the same story, even where another one is nearer in time.
    assert matched([one], [other, one])[0] == [(one, one)]
