"""A bundle laid ready: tried in a child process, rehearsed, swapped in, taken back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from guardian import bundle, commands, scoring, trial
from guardian.addresses import Lan
from guardian.bundle import Bundle
from guardian.bundlehome import TRIAL, BundleHome
from guardian.bundleready import ReadyBundle, summary
from guardian.cli import cli
from guardian.devices import DeviceTable
from guardian.errors import BundleError
from guardian.features import NAMES
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.simulate import SCENARIOS, simulate
from guardian.store import Store
from tests import bundles
from tests.broker import until
from tests.conftest import ROOT
from trainer import sign


class Judging:
    """A pipeline, as far as bundles are concerned."""

    def __init__(self) -> None:
        self.bundle = bundle.load(bundle.default_path())
        self.fallen = ""


@pytest.fixture
def home(tmp_path: Path) -> BundleHome:
    return BundleHome.beside(tmp_path / "guardian.db")


def laid(home: BundleHome, version: str, **changes: Any) -> Bundle:
    """Lay a sound bundle ready; it answers always the same."""
    shutil.rmtree(home.ready, ignore_errors=True)
    bundles.write_constant(home.ready, changes={"version": version, **changes})
    return bundle.load(home.ready)


def stepped(ready: ReadyBundle, judging: Judging) -> Bundle | None:
    """Step until the trial is over."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        fresh = ready.step(judging)
        if fresh is not None or not ready.busy:
            return fresh
        time.sleep(0.02)
    pytest.fail("the trial did not end")


def installed(ready: ReadyBundle, judging: Judging) -> Bundle | None:
    ready.install({"anyway": True}, time.time_ns())
    assert ready.busy
    fresh = stepped(ready, judging)
    if fresh is not None:
        judging.bundle = fresh
        assert ready.step(judging) is None
    return fresh


def test_what_lies_ready_is_seen_tried_and_installed(home: BundleHome, tmp_path: Path) -> None:
    judging = Judging()
    ready = ReadyBundle(home, tmp_path / "guardian.db")
    shipped = judging.bundle.digest
    assert ready.look() is None
    with pytest.raises(KeyError, match="no new bundle"):
        ready.install({}, 0)
    one = laid(home, "1")
    seen = ready.look()
    assert seen is not None
    assert (seen.version, seen.digest, seen.fault) == ("1", one.digest, "")
    assert len(seen.summary) <= 255
    ready.install({"anyway": True}, 0)
    with pytest.raises(KeyError, match="being tried already"):
        ready.install({}, 0)
    fresh = stepped(ready, judging)
    assert fresh is not None
    assert fresh.digest == one.digest
    judging.bundle = fresh
    assert ready.step(judging) is None
    assert ready.look() is None, "what is in use is nothing new"
    assert home.on_trial
    assert home.last()["what"] == "installed"

    two = laid(home, "2")
    assert installed(ready, judging).digest == two.digest  # type: ignore[union-attr]
    assert bundle.load(home.previous).digest == one.digest
    ready.rollback({}, 0)
    back = ready.step(judging)
    assert back is not None
    assert back.digest == one.digest
    judging.bundle = back
    ready.rollback({}, 0)
    assert ready.step(judging).digest == two.digest  # type: ignore[union-attr]
    shutil.rmtree(home.previous)
    judging.bundle = two
    ready.rollback({}, 0)
    assert ready.step(judging).digest == shipped  # type: ignore[union-attr]
    ready.close()
    assert not home.on_trial
    assert not [p.name for p in home.folder.iterdir() if p.name.startswith(".")]


def test_a_broken_one_leaves_the_old_one(home: BundleHome, tmp_path: Path) -> None:
    judging, db = Judging(), tmp_path / "guardian.db"
    ready = ReadyBundle(home, db)
    good = laid(home, "1")
    assert installed(ready, judging) is not None
    # A model that is what the manifest says and does not answer as it must.
    laid(home, "2")
    content = bundles.linear_autoencoder((12, len(NAMES)), 3.0)
    rewrite(home.ready, "autoencoder.tflite", content)
    assert installed(ready, judging) is None
    assert "golden outputs" in home.last()["why"]
    assert bundle.load(home.current).digest == good.digest
    seen = ready.look()
    assert seen is not None
    assert "golden outputs" in seen.fault
    # One whose file is not what the manifest says is told of before anybody asks.
    (home.ready / "classifier.tflite").write_bytes(b"other")
    (home.ready / bundle.MANIFEST).touch()
    seen = ready.look()
    assert seen is not None
    assert "sha256" in seen.fault
    assert ready.step(judging) is None
    # Changed between the trial and the installation.
    tried = laid(home, "3").digest
    laid(home, "4")
    with pytest.raises(BundleError, match="was changed since"):
        home.install(tried)
    assert bundle.load(home.current).digest == good.digest
    ready.close()


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file and let the manifest agree, as whoever made it could."""
    import hashlib  # noqa: PLC0415

    (folder / name).write_bytes(content)
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def test_signatures_are_asked_for_where_there_is_a_key(tmp_path: Path) -> None:
    key = sign.make(tmp_path / "key")
    home = BundleHome.beside(tmp_path / "guardian.db", key.line)
    ready, judging = ReadyBundle(home, tmp_path / "guardian.db"), Judging()
    bundles.write_constant(home.ready)
    seen = ready.look()
    assert seen is not None
    assert "is not signed" in seen.fault
    assert installed(ready, judging) is None
    assert not home.current.exists()
    sign.sign(home.ready, tmp_path / "key")
    assert installed(ready, judging) is not None
    assert (home.current / bundle.SIGNATURE).is_file()
    assert home.chosen().digest == judging.bundle.digest
    # The settings' key changed since: what is installed is not believed any more.
    other = sign.make(tmp_path / "other")
    strict = BundleHome(home.folder, other.line)
    assert strict.chosen().digest == Judging().bundle.digest


def test_a_named_bundle_is_left_alone(home: BundleHome, tmp_path: Path) -> None:
    laid(home, "1")
    ready = ReadyBundle(home, tmp_path / "guardian.db", fixed=True)
    for command in (ready.install, ready.rollback):
        with pytest.raises(KeyError, match="settings name a bundle"):
            command({}, 0)


def test_one_that_makes_the_daemon_fall_twice_is_taken_back(
    home: BundleHome, tmp_path: Path
) -> None:
    judging, ready = Judging(), ReadyBundle(home, tmp_path / "guardian.db")
    shipped = judging.bundle.digest
    one = laid(home, "1")
    installed(ready, judging)
    assert (home.folder / TRIAL).exists()
    assert home.begin().digest == one.digest  # it fell once
    assert home.begin().digest == shipped  # and once more
    assert home.last()["why"] == "it made the daemon fall"
    assert home.begin().digest == shipped
    # A clean end, or ten minutes, end the trial.
    ready = ReadyBundle(home, tmp_path / "guardian.db")
    installed(ready, Judging())
    ready.close()
    assert [home.begin().digest for _ in range(3)] == [one.digest] * 3
    # An installed one that rots on the disk: the one before it, or the shipped one.
    (home.current / "classifier.tflite").write_bytes(b"rot")
    assert home.begin().digest == shipped


def test_models_that_fail_while_they_run_are_left(tmp_path: Path) -> None:
    old = bundle.load(bundles.write_constant(tmp_path / "old"))
    new = bundle.load(bundles.write_constant(tmp_path / "new", changes={"version": "new"}))
    lan = Lan()
    pipeline = Pipeline(old, lan, DeviceTable(lan))
    scorer = scoring.Scorer(new)
    pipeline.swap(scorer)
    assert pipeline.bundle is new
    sequences = pipeline._sequences
    rng = np.random.default_rng(0)

    def fail(_: object) -> None:
        raise BundleError("it failed")

    x = rng.normal(size=(3, 12, len(NAMES))).astype(np.float32)
    from guardian.tables import Sequences  # noqa: PLC0415

    blank = Sequences.blank(3)
    given = Sequences(x, np.full(3, 12, np.int32), blank.device, blank.row, blank.outbound)
    assert not pipeline.fallen
    scorer.score = fail  # type: ignore[method-assign, assignment]
    assert len(pipeline._scored(given).threat) == 3
    assert (pipeline.bundle.digest, pipeline.fallen) == (old.digest, "it failed")
    assert pipeline._sequences is sequences, "sequences of as many steps go on"
    shorter = bundles.write_constant(tmp_path / "shorter", window=4)
    pipeline.swap(scoring.Scorer(bundle.load(shorter)))
    assert pipeline._sequences.window == 4
    assert pipeline._spare is None


def test_a_failing_one_is_taken_back_on_the_disk_too(home: BundleHome, tmp_path: Path) -> None:
    judging, ready = Judging(), ReadyBundle(home, tmp_path / "guardian.db")
    shipped = judging.bundle
    laid(home, "1")
    fresh = installed(ready, judging)
    assert fresh is not None
    judging.bundle, judging.fallen = shipped, "the classifier failed while it ran"
    assert ready.step(judging) is None
    assert not home.current.exists()
    assert home.last()["what"] == "refused"
    assert home.chosen().digest == shipped.digest
    laid(home, "2")
    fresh = installed(ready, judging)
    assert fresh is not None
    ready.failed(fresh, "no room")
    assert not home.current.exists()
    seen = ready.look()
    assert seen is None or seen.fault == "no room"


# --- the child ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status", "says"),
    [
        (b"", -11, "signal 11"),
        (b"", 1, "status 1"),
        (b"", 0, "gave no answer"),
        (b"[1]", 0, "gave no answer"),
        (b'{"ok": true, "digest": 3}', 0, "gave no answer"),
        (b'{"ok": "yes"}', 0, "could not be loaded"),
        (b'{"ok": false, "error": "why"}', 0, "why"),
        (b"[" * 60_000, 0, "gave no answer"),
    ],
)
def test_no_answer_of_the_child_is_believed_blindly(raw: bytes, status: int, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        trial.understood(raw, status)


def test_a_child_that_hangs_is_ended(home: BundleHome, monkeypatch: pytest.MonkeyPatch) -> None:
    laid(home, "1")
    monkeypatch.setattr(trial, "LOAD_S", 0.0)
    one = trial.Trial(home.ready)
    with pytest.raises(BundleError, match="hung"):
        one.wait()
    assert one._child.poll() is not None


# --- the command line, the rehearsal ---------------------------------------------------------


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose database knows an infected day."""
    folder = tmp_path_factory.mktemp("lived")
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.25), folder / "a.pcap")
    given = ["replay", str(folder / "a.pcap"), "--db", str(folder / "guardian.db")]
    assert CliRunner().invoke(cli, given, catch_exceptions=False).exit_code == 0
    return folder


def test_a_rehearsal_refuses_one_that_misses_what_was_bad(lived: Path, tmp_path: Path) -> None:
    for name in ("guardian.db", "guardian.db-wal"):
        if (lived / name).exists():
            shutil.copy(lived / name, tmp_path / name)
    db = tmp_path / "guardian.db"
    with Store(db) as store:
        found = store.open_incidents()
        ids = [one.id for one in found if one.cause == "scan"]
        assert ids, "the day has a scan"
        store.set_feedback(ids[0], "bad")
    home = BundleHome.beside(db)
    laid(home, "deaf")
    ready, judging = ReadyBundle(home, db, counters=False), Judging()
    ready.install({}, found[0].opened)
    assert stepped(ready, judging) is None
    last = home.last()
    assert last["what"] == "refused"
    assert "would miss what you called bad" in last["why"]
    assert last["rehearsal"]["gone"]
    seen = ready.look()
    assert seen is not None
    assert "would miss" in seen.fault
    shown = CliRunner().invoke(cli, ["bundle", "status", "--db", str(db)])
    assert "by-hand deaf was refused" in shown.output
    # Who wants it, gets it.
    assert installed(ready, judging) is not None


def test_the_commands_reach_the_daemon(lived: Path, home: BundleHome, tmp_path: Path) -> None:
    shutil.copy(lived / "guardian.db", tmp_path / "guardian.db")
    db = str(tmp_path / "guardian.db")
    run: Callable[..., Any] = CliRunner().invoke
    folder = bundles.write_constant(tmp_path / "new", changes={"version": "7"})
    assert run(cli, ["bundle", "install", "--db", db]).exit_code == 1
    done = run(cli, ["bundle", "install", str(folder), "--anyway", "--db", db])
    assert done.exit_code == 0, done.output
    assert "by-hand 7 shall take over" in done.output
    shown = json.loads(run(cli, ["bundle", "status", "--db", db, "--json"]).output)
    assert (shown["ready"]["version"], shown["before"], shown["fixed"]) == ("7", None, False)
    assert "none" in run(cli, ["bundle", "status", "--db", db]).output
    assert shown["used"]["name"] == "default"
    lan = Lan()
    with Store(tmp_path / "guardian.db") as store:
        pipeline = Pipeline(bundle.load(bundle.default_path()), lan, DeviceTable(lan))
        polling, ready = Polling(store, pipeline), ReadyBundle(home, tmp_path / "guardian.db")
        ready.attach(polling)
        polling.poll(time.time_ns())
        fresh = stepped(ready, pipeline)  # type: ignore[arg-type]
        assert fresh is not None
        pipeline.swap(scoring.Scorer(fresh))
        polling.resume(time.time_ns())
        assert ready.step(pipeline) is None
        assert commands.check("rollback", {}) is None
        assert run(cli, ["bundle", "rollback", "--db", db]).exit_code == 0
        polling.poll(time.time_ns())
        back = ready.step(pipeline)
        assert back is not None
        assert back.name == "default"
        ready.close()
    broken = run(cli, ["bundle", "install", str(tmp_path), "--db", db])
    assert broken.exit_code == 1
    assert "lacks" in str(broken.exception)


def test_a_summary_is_short_and_does_nothing_to_a_terminal(home: BundleHome) -> None:
    said = summary(laid(home, "1", summary="new\x1b[2J\nday " * 90))
    assert len(said) == 255
    assert said.isprintable()
    assert "calibrated" not in summary(laid(home, "1", summary=7))
    assert summary(laid(home, "1")).startswith("Made 1970-01-01 with Guardian 0, float32")


@pytest.mark.net
@pytest.mark.slow
def test_a_running_daemon_takes_it_and_goes_back(tmp_path: Path) -> None:
    config, log = tmp_path / "guardian.toml", tmp_path / "log"
    db = tmp_path / "guardian.db"
    config.write_text(f'[capture]\ninterface = "lo"\n[store]\npath = "{db}"\n')
    words = [sys.executable, "-m", "guardian.cli"]
    with log.open("w") as file:
        daemon = subprocess.Popen([*words, "run", "-c", str(config)], stderr=file, cwd=ROOT)
    try:
        until(lambda: "watching lo" in log.read_text(), "the daemon runs")
        new = bundles.write_constant(tmp_path / "new", changes={"version": "7"})
        given = ["-c", str(config)]
        run = CliRunner().invoke
        assert run(cli, ["bundle", "install", str(new), *given]).exit_code == 0
        until(lambda: "bundle by-hand 7 judges from now on" in log.read_text(), "it takes over", 60)
        shown = run(cli, ["bundle", "status", *given]).output
        assert "used    by-hand 7" in shown
        assert "Last: by-hand 7 was installed." in shown
        assert "before  default" in shown
        assert run(cli, ["bundle", "rollback", *given]).exit_code == 0
        until(lambda: "bundle default" in log.read_text().split("takes over")[1], "it goes back")
        assert "Last: back to default" in run(cli, ["bundle", "status", *given]).output
    finally:
        daemon.terminate()
        assert daemon.wait(20) == 0
    assert not (tmp_path / "bundles" / TRIAL).exists()
