"""The command line as its user meets it: results on stdout, mistakes in one sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guardian.simulate import SCENARIOS, labels_path, read_labels, simulate
from guardian.store import Store
from tests import wire
from tests.conftest import ROOT

pytestmark = pytest.mark.slow  # each test starts processes

SCORE = (
    "ts,uid,device,orig_h,orig_p,resp_h,resp_p,proto,service,conn_state,"
    "anomaly,threat,label,verdict"
)


def guardian(*words: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a user does, in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GUARDIAN_")}
    return subprocess.run(
        [sys.executable, "-m", "guardian.cli", *map(str, words)],
        capture_output=True,
        input=stdin,
        check=False,
        cwd=ROOT,
        env=clean,
        timeout=100,
    )


def sentence(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line on stderr of a command that failed with 1."""
    text = done.stderr.decode()
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert text.count("\n") == 1, text
    assert text.startswith("guardian: ")
    return text


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour of the tests' home with a scan."""
    path = tmp_path_factory.mktemp("cli") / "home.pcap"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.5), path)
    return path


def test_replay_ends_with_one_object(home: Path, tmp_path: Path) -> None:
    db = tmp_path / "guardian.db"
    done = guardian("replay", home, "--json", "--db", db)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {
        "packets", "connections", "devices", "sequences", "alerts", "elapsed_s", "malformed",
    }  # fmt: skip
    assert found["packets"] > 1_000
    assert found["malformed"] == 0
    for alert in found["alerts"]:
        assert set(alert) >= {
            "id", "device", "opened", "updated", "closed", "severity", "cause", "label", "score",
            "explanation", "advice", "features", "peers", "connections",
        }  # fmt: skip
        assert set(alert["device"]) == {"mac", "ip", "name"}
    listed = json.loads(guardian("alerts", "--db", db, "--json").stdout)
    assert {a["id"] for a in listed} == {a["id"] for a in found["alerts"]}
    assert len(json.loads(guardian("devices", "--db", db, "--json").stdout)) == found["devices"]


def test_replay_speaks_to_people(home: Path) -> None:
    done = guardian("replay", home)
    assert done.returncode == 0
    assert b"packets" in done.stdout
    assert b"scan" in done.stdout


def test_score_has_a_row_for_each_record_and_a_log_scores_like_its_capture(
    home: Path, tmp_path: Path
) -> None:
    scored = guardian("score", home)
    assert scored.returncode == 0, scored.stderr
    lines = scored.stdout.decode().splitlines()
    assert lines[0] == SCORE
    count = int(guardian("conns", home, "--format", "none").stdout.split()[0])
    assert len(lines) - 1 == count
    log = tmp_path / "conn.log"
    log.write_bytes(guardian("conns", home).stdout)
    again = guardian("score", log).stdout.decode().splitlines()
    assert len(again) == len(lines)
    whole = {row["uid"]: row for row in csv.DictReader(io.StringIO(scored.stdout.decode()))}
    from_log = list(csv.DictReader(again))
    assert {row["uid"] for row in from_log} == set(whole)
    same = sum(row["verdict"] == whole[row["uid"]]["verdict"] for row in from_log)
    assert same / len(from_log) > 0.9


def test_every_form_of_conns_is_read_back_the_same(home: Path, tmp_path: Path) -> None:
    rows = {}
    for form in ("zeek", "json", "csv"):
        log = tmp_path / f"conn.{form}"
        log.write_bytes(guardian("conns", home, "--format", form).stdout)
        packed = tmp_path / f"conn.{form}.gz"
        packed.write_bytes(gzip.compress(log.read_bytes()))
        rows[form] = guardian("conns", log).stdout
        assert guardian("conns", packed).stdout == rows[form]
    assert rows["zeek"] == rows["json"] == rows["csv"]
    assert rows["zeek"].count(b"\n") > 100
    piped = guardian("conns", "-", stdin=home.read_bytes())
    assert piped.stdout == guardian("conns", home).stdout


def test_labels_pass_through_score(tmp_path: Path) -> None:
    log = tmp_path / "labelled.csv"
    log.write_text(
        "ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,service,duration,orig_bytes,"
        "resp_bytes,conn_state,history,orig_pkts,orig_ip_bytes,resp_pkts,resp_ip_bytes,label,"
        "detailed-label\n"
        "1540469303,CGm6jB4dXK71ZDWUDh,192.168.1.132,58687,216.239.35.4,123,udp,,0.114184,48,48,"
        "SF,Dd,1,76,1,76,benign,-\n"
        "1540469403,CAnaDAG3n5r8eiG4su,192.168.1.132,40000,1.2.3.4,23,tcp,,,,,S0,S,1,60,0,0,"
        "Malicious,PartOfAHorizontalPortScan\n",
        encoding="ascii",
    )
    rows = list(csv.DictReader(io.StringIO(guardian("score", log).stdout.decode())))
    assert [row["uid"] for row in rows] == ["CGm6jB4dXK71ZDWUDh", "CAnaDAG3n5r8eiG4su"]
    assert [row["true_label"] for row in rows] == ["benign", "PartOfAHorizontalPortScan"]
    as_json = [
        json.loads(x) for x in guardian("score", log, "--format", "json").stdout.splitlines()
    ]
    assert as_json[1]["device"] == "ip:192.168.1.132"


def test_simulate_writes_a_capture_and_its_labels(tmp_path: Path) -> None:
    out = tmp_path / "fire-drill.pcap"
    done = guardian("simulate", "beacon", "-o", out, "--hours", "0.2", "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert {label.label for label in read_labels(labels_path(out))} >= {"benign"}
    assert int(guardian("conns", out, "--format", "none").stdout.split()[0]) > 0
    assert b"infected" in guardian("simulate").stdout
    assert "choose quiet" in sentence(guardian("simulate", "nonsense", "-o", out))


def test_dump_writes_for_other_tools(home: Path, tmp_path: Path) -> None:
    db = tmp_path / "guardian.db"
    assert guardian("replay", home, "--db", db).returncode == 0
    rows = list(
        csv.DictReader(io.StringIO(guardian("dump", "connections", "--db", db).stdout.decode()))
    )
    assert len(rows) > 100
    assert {row["verdict"] for row in rows} <= {"", "benign", "anomaly", "attack"}
    lines = guardian("dump", "incidents", "--db", db, "--format", "json").stdout.splitlines()
    assert all(json.loads(line)["explanation"] for line in lines)
    assert guardian("dump", "--db", db).stdout.count(b"\n") > len(lines)
    zeek = guardian("dump", "connections", "--db", db, "--format", "zeek").stdout
    assert zeek.count(b"\n") == len(rows) + 7


def test_an_empty_dump_still_has_its_columns(tmp_path: Path) -> None:
    db = tmp_path / "guardian.db"
    Store(db).close(0)
    assert guardian("dump", "connections", "--db", db).stdout.startswith(b"id,uid,ts,device,")


def test_all_that_read_an_input_take_the_same_options(home: Path, tmp_path: Path) -> None:
    settings = tmp_path / "guardian.toml"
    settings.write_text("version = 1\n", encoding="utf-8")
    for command in ("replay", "conns", "score"):
        options = ("-c", settings, "--lan", "192.168.0.0/16", "--bundle", ROOT / "models/default")
        assert guardian(command, home, *options).returncode == 0


@pytest.mark.parametrize("command", ["replay", "score"])
def test_what_could_hardly_be_judged_is_said_beside_the_result(
    tmp_path: Path, command: str
) -> None:
    log = tmp_path / "conn.csv"
    rows = (f"{100 + k},52.1.1.1,4000,34.1.1.{k},443,tcp\n" for k in range(30))
    head = "ts,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto\n"
    log.write_text(head + "".join(rows), encoding="ascii")
    form = ("--json",) if command == "replay" else ()
    assert guardian(command, log, *form, "--lan", "52.1.1.0/24").stderr == b""
    done = guardian(command, log, *form)
    assert done.returncode == 0
    assert done.stderr.startswith(b"warning: hardly a device of the home was seen")
    assert done.stderr.count(b"\n") == 1


# --- bad input ---------------------------------------------------------------------------------


def test_a_truncated_capture_keeps_what_came_before(home: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(home.read_bytes()[:200_000])
    done = guardian("replay", cut, "--json")
    assert "cut" in sentence(done)
    assert json.loads(done.stdout)["packets"] > 100
    rows = guardian("conns", cut)
    assert "cut" in sentence(rows)
    assert rows.stdout.count(b"\n") > 20
    scored = guardian("score", cut)
    assert "cut" in sentence(scored)
    assert scored.stdout.count(b"\n") > 20


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"hello, I am no capture\n" * 9, ""), (os.urandom(4_096), "")],
)
@pytest.mark.parametrize("command", ["replay", "conns", "score"])
def test_what_is_no_capture_is_one_sentence(
    tmp_path: Path, command: str, content: bytes, said: str
) -> None:
    file = tmp_path / "file.pcap"
    file.write_bytes(content)
    text = sentence(guardian(command, file))
    assert "file.pcap" in text
    assert said in text


def test_a_missing_file_a_folder_and_a_log_without_columns(tmp_path: Path) -> None:
    assert "none.pcap" in sentence(guardian("replay", tmp_path / "none.pcap"))
    assert str(tmp_path) in sentence(guardian("replay", tmp_path))
    log = tmp_path / "conn.csv"
    log.write_text("ts,uid,proto\n1,C1,tcp\n", encoding="ascii")
    assert "id.orig_h" in sentence(guardian("score", log))


def test_one_bad_input_does_not_lose_the_others(home: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(b"")
    done = guardian("replay", empty, home, "--json")
    assert "empty" in sentence(done)
    assert json.loads(done.stdout)["packets"] > 1_000


def test_each_bad_input_is_named_without_what_its_name_hides(home: Path, tmp_path: Path) -> None:
    said = sentence(guardian("replay", tmp_path / "a", home, tmp_path / "b\x1b[31m\nc", "--json"))
    assert "a does not exist" in said
    assert "b [31m c does not exist" in said
    assert "\x1b" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["replay", "conns", "score"])
def test_a_full_disk_is_one_sentence(home: Path, command: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "guardian.cli", command, str(home)],
            stdout=full, stderr=subprocess.PIPE, check=False, cwd=ROOT,
        )  # fmt: skip
    assert "No space left" in sentence(done)


@pytest.mark.parametrize("command", ["conns", "score", "replay"])
def test_a_reader_that_has_seen_enough_is_no_failure(home: Path, command: str) -> None:
    end, begin = os.pipe()
    os.close(end)
    with os.fdopen(begin, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "guardian.cli", command, str(home)],
            stdout=gone, stderr=subprocess.PIPE, check=False, cwd=ROOT,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupted_replay_keeps_what_it_wrote(home: Path, tmp_path: Path) -> None:
    db = tmp_path / "guardian.db"
    # A capture that is given twice is read once, so there are copies.
    many = [tmp_path / f"{k}.pcap" for k in range(60)]
    for one in many:
        shutil.copyfile(home, one)
    # A shell that runs the tests in the background has them ignore SIGINT; a person's has not.
    busy = subprocess.Popen(
        [
            "env", "--default-signal=INT", sys.executable, "-m", "guardian.cli", "replay",
            "--db", str(db), *map(str, many),
        ],
        stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    while not db.exists() and busy.poll() is None:
        time.sleep(0.05)
    time.sleep(1.0)
    busy.send_signal(signal.SIGINT)
    _, said = busy.communicate(timeout=60)
    assert busy.returncode == 1
    assert said.strip().startswith(b"guardian: interrupted")
    assert guardian("dump", "connections", "--db", db).stdout.count(b"\n") > 100


def test_broken_settings_name_the_line(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "guardian.toml"
    config.write_text("[capture]\ninterfaces = 'x'\n", encoding="ascii")
    assert "line 2" in sentence(guardian("replay", home, "-c", config))
    assert "line 2" in sentence(guardian("run", "-c", config))
    assert "no network" in sentence(guardian("replay", home, "--lan", "nonsense"))


def test_run_without_interface_rights_or_with_a_wrong_one(tmp_path: Path) -> None:
    config = tmp_path / "guardian.toml"
    config.write_text(f'[store]\npath = "{tmp_path / "g.db"}"\n', encoding="utf-8")
    assert "-i IFACE" in sentence(guardian("run", "-c", config))
    assert "nosuch0" in sentence(guardian("run", "-c", config, "-i", "nosuch0"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_run_without_the_right_to_capture_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m",
            "guardian.cli", "run", "-i", "lo",
        ],
        capture_output=True, check=False, cwd=ROOT, timeout=60,
        env={**os.environ, "GUARDIAN_STORE_PATH": str(tmp_path / "g.db")},
    )  # fmt: skip
    assert "CAP_NET_RAW" in sentence(done)


def test_a_tampered_bundle_is_refused(home: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "models" / "default", bundle)
    model = next(bundle.glob("*.tflite"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    text = sentence(guardian("replay", home, "--bundle", bundle))
    assert model.name in text
    assert "make bundle" in text


def test_usage_mistakes_exit_with_two() -> None:
    assert guardian("replay").returncode == 2
    assert guardian("nonsense").returncode == 2
    assert guardian("conns", "x", "--format", "xml").returncode == 2


def test_check_says_what_is_wrong_and_how_to_mend_it(tmp_path: Path) -> None:
    config = tmp_path / "guardian.toml"
    config.write_text(
        f'[capture]\ninterface = "nosuch0"\n[store]\npath = "{tmp_path / "g.db"}"\n'
        '[mqtt]\nhost = "127.0.0.1"\nport = 9\n',
        encoding="utf-8",
    )
    done = guardian("check", "-c", config)
    text = done.stdout.decode()
    assert done.returncode == 1
    found = [line.split()[:2] for line in text.splitlines() if line]
    assert [line for line in found if line[1] != "clock"] == [
        ["ok", "settings"],
        ["WRONG", "interface"],
        ["ok", "ring"],
        ["WRONG", "rights"],
        ["ok", "model"],
        ["ok", "database"],
        ["ok", "disk"],
        ["ok", "alerts"],
        ["ok", "metrics"],
        ["ok", "notify"],
        ["ok", "daemon"],
        ["WRONG", "broker"],
    ]
    assert "this machine has" in text


def test_a_reader_that_stops_early_is_no_fault(home: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m guardian.cli conns {home} | head -3",
        shell=True, capture_output=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.count(b"\n") == 3
    assert done.stderr == b""


def test_conns_says_that_checksums_were_left_to_the_card(tmp_path: Path) -> None:
    """Whole packets are left out for them, as in Zeek."""
    path = tmp_path / "host.pcap"
    pieces = [wire.ether(wire.ip4(wire.udp(b"a"), 17)) for _ in range(9)]
    pieces += [piece[:24] + b"\0\0" + piece[26:] for piece in pieces]
    records = b"".join(struct.pack("<IIII", 1, 0, len(p), len(p)) + p for p in pieces)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1) + records)
    done = guardian("conns", path, "--format", "json")
    assert json.loads(done.stdout)["orig_pkts"] == 9
    assert done.stderr.startswith(b"warning: 9 packets have wrong checksums")
    assert b"--ignore-checksums" in done.stderr
    done = guardian("conns", path, "--format", "json", "--ignore-checksums")
    assert (json.loads(done.stdout)["orig_pkts"], done.stderr) == (18, b"")
