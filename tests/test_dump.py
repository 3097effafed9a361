"""`guardian dump`: every form read back by who shall read it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from guardian import dump, extras, zeeklog
from guardian.addresses import Lan
from guardian.cli import cli
from guardian.errors import GuardianError
from guardian.incidents import DeviceRef, IncidentEvent
from guardian.privacy import Privacy
from guardian.store import Store
from guardian.tables import Conns
from tests.test_store import MAC, NOW, conns, device, incident, rows, scored, step

FORMULA = '=HYPERLINK("http://evil.example/","camera")'


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "guardian.db"
    with Store(path) as store:
        records = conns(3)
        records.service[1] = b"=cmd|x"
        records.host[1] = b"@SUM(1)"
        records.duration[1] = 1.5
        records.history[1] = b"-bad"
        ends = {"advice": "\tx", "explanation": "+1 call\nand more"}
        whole = incident(device=DeviceRef(MAC, "192.168.1.20", FORMULA), **ends)
        step(
            store, records, scored=scored(records, 0.75, 2), devices=[device()],
            events=[IncidentEvent("opened", whole)],
        )  # fmt: skip
    return path


Out = Callable[..., str]


@pytest.fixture
def out(db: Path) -> Out:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["dump", *arguments, "--db", str(db)])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return run


def test_no_cell_is_a_formula_and_numbers_stay_numbers(out: Out) -> None:
    for what in ("incidents", "connections"):
        for row in csv.reader(io.StringIO(out(what))):
            assert not any(cell[:1] and cell[0] in "=+-@\t\r" for cell in row), row
    first = next(csv.DictReader(io.StringIO(out("incidents"))))
    assert first["name"] == "'" + FORMULA
    assert first["explanation"].startswith("'+1 call")
    second = list(csv.DictReader(io.StringIO(out("connections"))))[1]
    assert (second["service"], second["host"]) == ("'=cmd|x", "'@SUM(1)")
    assert (second["duration"], second["orig_bytes"], second["resp_bytes"]) == ("1.5", "10", "")


def test_json_is_the_row_as_it_is(out: Out, db: Path) -> None:
    for what in ("incidents", "connections"):
        found = [json.loads(line) for line in out(what, "--format", "json").splitlines()]
        assert found == [dict(row) for row in rows(db, f"SELECT * FROM {what}")]


def test_zeeks_reader_takes_the_connections_back(out: Out, tmp_path: Path) -> None:
    file = tmp_path / "conn.log"
    file.write_text(out("connections", "--format", "zeek"), encoding="utf-8")
    back = Conns.concat([batch.conns for batch in zeeklog.read(file, Lan())])
    kept = conns(3)
    for name in ("uid", "orig", "resp", "orig_p", "resp_p", "proto", "conn_state", "orig_pkts"):
        assert np.array_equal(getattr(back, name), getattr(kept, name)), name
    assert back.orig_bytes.tolist() == [10, 10, 10]
    assert back.resp_bytes.tolist() == [-1, -1, -1]
    assert back.duration.tolist() == [0.0, 1.5, 0.0]


def test_incidents_as_a_notice_log(out: Out) -> None:
    lines = out("incidents", "--format", "zeek").splitlines()
    assert "#path\tnotice" in lines
    names = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
    kinds = next(line for line in lines if line.startswith("#types")).split("\t")[1:]
    (line,) = (line for line in lines if not line.startswith("#"))
    cells = dict(zip(names, line.split("\t"), strict=True))
    assert len(names) == len(kinds)
    assert cells["ts"] == f"{NOW / 1e9:.6f}"
    assert cells["note"] == "Guardian::Scan"
    assert cells["msg"] == "+1 call and more"
    assert (cells["src"], cells["dst"], cells["p"]) == ("192.168.1.20", "10.9.9.9", "23")


def test_a_file_of_its_own(db: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    done = CliRunner().invoke(cli, ["dump", "connections", "--db", str(db), "-o", str(file)])
    assert done.exit_code == 0
    assert done.output == ""
    assert len(file.read_text().splitlines()) == 4


def test_totals(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    with Store(path, privacy=Privacy(3)) as store:
        step(store, conns(3), devices=[device()])
    done = CliRunner().invoke(cli, ["dump", "totals", "--db", str(path)])
    assert done.output.splitlines()[1].split(",")[1:4] == [MAC, "", "3"]
    with pytest.raises(GuardianError, match="Zeek has no log for totals"):
        dump.dump("totals", path, "zeek")


def test_parquet(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: the parquet extra")
    monkeypatch.setattr(dump, "BATCH", 2)
    for what in ("connections", "incidents"):
        file = tmp_path / f"{what}.parquet"
        done = CliRunner().invoke(
            cli, ["dump", what, "--db", str(db), "--format", "parquet", "-o", str(file)]
        )
        assert done.exit_code == 0, (done.output, done.exception)
        table = parquet.read_table(file)
        kept = [dict(row) for row in rows(db, f"SELECT * FROM {what}")]
        for name in kept[0]:
            column = table.column(name)
            if name in dump.TIMES:
                assert str(column.type) == "timestamp[ns, tz=UTC]"
                column = column.cast("int64")
            assert column.to_pylist() == [row[name] for row in kept], name


def test_parquet_without_its_library_is_one_sentence(db: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from guardian.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "dump", "--db", str(db), "--format", "parquet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"guardian: Parquet needs pyarrow: {extras.command('pyarrow')}, or give --format csv\n"
    )
