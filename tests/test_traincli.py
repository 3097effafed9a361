"""`guardian train --model`: from what a person types to a run, its report and its export."""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from guardian.cli import cli
from guardian.config import Settings
from guardian.errors import GuardianError
from guardian.replay import replay
from guardian.simulate import SCENARIOS, simulate
from guardian.store import Store
from tests.conftest import ROOT

pytestmark = [pytest.mark.timeout(240)]


def guardian(*words: object) -> Result:
    """Run the command line here; a mistake is raised as the sentence that a person would read."""
    found = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if found.exception is not None and not isinstance(found.exception, GuardianError):
        raise found.exception
    return found


def plant(folder: Path, rows: int = 150) -> Path:
    """Write five files of a process: an attack moves one sensor and breaks two apart."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(5):
        t = np.arange(rows) / 9 + k
        attack = np.zeros(rows, int)
        attack[rows // 3 : rows // 2] = 1
        values = [np.sin(t) + 3 * attack, np.cos(t), np.cos(t) * (1 - 2 * attack)]
        values = [v + rng.normal(0, 0.1, rows) for v in values]
        with (folder / f"test{k}.csv").open("w", encoding="ascii") as file:
            file.write("timestamp,P1_B2004,P1_B2016,P1_FT01,attack\n")
            for r in range(rows):
                cells = ",".join(f"{v[r]:.4f}" for v in values)
                file.write(
                    f"2021-01-{k + 1:02d} 00:{r // 60:02d}:{r % 60:02d},{cells},{attack[r]}\n"
                )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small network's run, and what was printed."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("cli")
    config = folder / "mine.toml"
    config.write_text("dropout = 0.1\npatience = 0\n[augment]\nnoise = 0.01\n", encoding="ascii")
    done = guardian(
        "train", plant(folder / "data"), "-o", folder / "run", "--model", "lstm-classifier",
        "--seq-length", 4, "--hidden-size", "8,4", "--epochs", 8, "--rate", 0.02, "--batch", 32,
        "--config", config, "--cache", folder / "cache", "--threshold", "1 % false positives",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    return folder / "run", done.stdout


@pytest.mark.train
def test_one_command_trains_judges_and_exports(run: tuple[Path, str]) -> None:
    folder, said = run
    about = json.loads((folder / "config.json").read_text())
    assert about["config"]["window"] == 4
    assert about["config"]["hidden"] == [8, 4]
    assert about["config"]["dropout"] == 0.1
    assert about["how"]["epochs"] == 8
    assert about["how"]["patience"] == 0
    assert about["how"]["augment"]["noise"] == 0.01
    assert about["data"]["kind"] == "hai"
    result = json.loads((folder / "result.json").read_text())
    figures = result["metrics"]["test"]
    assert figures["auc"] > 0.9
    for text in (f"{figures['auc']:.4f}", "always attack", "pca of", "best geometric mean",
                 "* 1 % false positives", "ai_edge_litert", "us at 64", "guardian export",
                 str(folder)):  # fmt: skip
        assert text in said, said
    line = json.loads((folder / "export" / "line.json").read_text())
    (row,) = (r for r in result["thresholds"]
              if r["method"] == "1 % false positives" and r["scope"] == "global")  # fmt: skip
    assert line["value"] == row["threshold"]


@pytest.mark.train
def test_what_was_exported_scores_on_the_gateway_as_the_run_did(run: tuple[Path, str]) -> None:
    from trainer.zoo.family import REGISTRY
    from trainer.zoo.runner import Runner

    folder, _ = run
    out = folder / "export"
    forms = json.loads((out / "forms.json").read_text())
    assert {form["form"] for form in forms["forms"]} == {"float32", "dynamic", "int8"}
    with np.load(folder / "rows.npz") as kept:
        x, label = kept["x"], kept["label"]
    runner = Runner((out / "model.tflite").read_bytes())
    score = REGISTRY["lstm-classifier"].score(runner(x), x)
    with np.load(folder / "scores.npz") as scores:
        valid = scores["valid"]
    assert len(score) == len(valid) == len(label)
    np.testing.assert_allclose(score, valid, atol=0.1)


@pytest.mark.train
def test_a_form_is_exported_again_and_the_report_told_again(
    run: tuple[Path, str], tmp_path: Path
) -> None:
    folder, said = run
    done = guardian("export", folder, "-o", tmp_path / "out", "--form", "float32")
    assert done.exit_code == 0, done.exception
    assert "* float32" in done.stdout
    assert "int8" not in done.stdout
    forms = json.loads((tmp_path / "out" / "forms.json").read_text())
    assert forms["chosen"] == "float32"
    assert max(forms["forms"][0]["difference"].values()) < 1e-4
    assert {"model.tflite", "scaler.npz", "line.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    again = guardian("evaluate", folder, "-o", tmp_path / "page")
    assert again.exit_code == 0, again.exception
    head = said.partition("run  ")[0]
    assert again.stdout.startswith(head)


@pytest.mark.train
@pytest.mark.slow
def test_a_run_is_not_written_over_but_gone_on_with_or_repeated(
    run: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = run
    wrong = guardian("train", tmp_path, "-o", folder, "--model", "lstm-classifier")
    assert "--resume goes on with it" in str(wrong.exception)
    cache = folder.parent / "cache"
    before = json.loads((folder / "result.json").read_text())["metrics"]
    for words in (("-o", folder, "--resume"), ("-o", tmp_path / "two", "--from", folder)):
        done = guardian("train", *words, "--cache", cache)
        assert done.exit_code == 0, done.exception
        after = json.loads((Path(str(words[1])) / "result.json").read_text())["metrics"]
        assert after == before
    about = json.loads((tmp_path / "two" / "config.json").read_text())
    assert about["data"]["kind"] == "hai"  # and can be repeated from there


@pytest.mark.train
def test_trees_and_searches_need_no_more_words(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    data = plant(tmp_path / "data")
    done = guardian(
        "train", "--set", "hai", data, "-o", tmp_path / "run", "--model", "boosted", "--search", 2,
        "--option", "trees=5", "--seq-length", 3, "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "run" / "search" / "best.json").exists()
    assert (tmp_path / "run" / "export" / "trees.npz").exists()
    assert "numpy" in done.stdout
    wrong = guardian("export", tmp_path / "run", "-o", tmp_path / "x", "--onnx")
    assert "trees have no ONNX form" in str(wrong.exception)


@pytest.mark.train
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "lstm-clasifier"], "did you mean lstm-classifier"),
        (["--model", "forest", "--preset", "fats"], "did you mean fast"),
        (["--model", "forest", "--set", "nbaoit"], "did you mean nbaiot"),
        (["--model", "forest", "--threshold", "best F2"], "did you mean 'best F1'"),
        (["--model", "forest", "--heads", "2"], "forest has no heads"),
        (["--model", "forest", "--option", "tree=3"], "did you mean trees"),
        (["--model", "forest", "--option", "trees"], "KEY=VALUE"),
        (["--model", "forest"], "give files or a folder"),
        (["--model", "forest", "--quick"], "--quick is of the shipped recipe"),
        (["--resume"], "has no run to go on with"),
        (["--heads", "2"], "--heads is of a model by name"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words: list[str], told: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    done = guardian("train", "-o", tmp_path / "out", *words)
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.train
def test_a_folder_of_two_kinds_asks_which(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    data = plant(tmp_path / "data")
    (data / "conn.log").write_text(
        "#separator \\x09\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\t"
        "id.resp_p\tproto\n1.0\tC1\t192.168.1.2\t1\t1.1.1.1\t53\tudp\n",
        encoding="ascii",
    )
    done = guardian("train", data, "-o", tmp_path / "out", "--model", "forest")
    assert "several kinds of files" in str(done.exception)
    assert "zeek (conn.log)" in str(done.exception)


@pytest.mark.train
@pytest.mark.slow
def test_the_list_names_every_model_set_and_preset() -> None:
    pytest.importorskip("tensorflow")
    from trainer.sets.athand import SETS
    from trainer.zoo.config import PRESETS
    from trainer.zoo.family import REGISTRY

    said = guardian("train", "--list").stdout
    for name in (*REGISTRY, *SETS, *PRESETS):
        assert name in said


def test_the_options_are_there_without_the_workstation() -> None:
    program = (
        "import sys; from guardian.cli import cli; cli(['train', '--help'], standalone_mode=False);"
        "print([n for n in sys.modules if n.partition('.')[0] in ('trainer', 'tensorflow')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--model NAME" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.train
@pytest.mark.parametrize("answer", [None, "bad"])
def test_the_daemons_database_enters_the_recipe_with_the_users_answers(
    tmp_path: Path, answer: str | None
) -> None:
    pytest.importorskip("tensorflow")
    from trainer.labels import CLASSES
    from trainer.recipe import Recipe, _Builder

    pcap, db = tmp_path / "home.pcap", tmp_path / "guardian.db"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.5), pcap)
    replay([pcap], Settings(), db=db, as_json=True)
    if answer:
        with Store(db) as store:
            (incident,) = store.open_incidents()
            assert store.set_feedback(incident.id, answer)
    said: list[str] = []
    builder = _Builder(Recipe(), said.append)
    builder.own(db, ())
    assert not any("taken for quiet days" in line for line in said)
    labels = np.concatenate([rows.label for rows in builder._parts["train"]])
    scan = CLASSES.index("scan")
    assert ((labels == scan).sum() > 100) == (answer == "bad")
    assert (labels == 0).sum() > 20
    assert len(builder._parts["calibrate"]) == (answer is None)  # quiet: its last third


def test_a_bundle_is_rehearsed(tmp_path: Path) -> None:
    """What another bundle would change is told; the shipped one beside itself changes nothing."""
    pytest.importorskip("tensorflow")
    capture = tmp_path / "home.pcap"
    simulate(SCENARIOS["infected"](hours=0.5), capture)
    other = tmp_path / "bundle"
    shutil.copytree(ROOT / "models" / "default", other)
    told = guardian("evaluate", "--bundle", other, "--rehearse", capture).output
    assert "0 would be opened" in told
    assert "0 would no longer be opened" in told
    for option in (("--rehearse", capture), ("--promote",)):
        missing = guardian("evaluate", *option).exception
        assert "--bundle" in str(missing)
