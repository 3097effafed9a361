"""`guardian conns` as the programs around Zeek read it: zat itself; RITA and Slips by their rules.

RITA 4 and 5 and Slips are no Python packages that could be installed here. What they ask of a
conn.log is written down below, from their importers, and asked of ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from guardian import slices, zeeklog
from guardian.cli import cli
from guardian.const import UID_BYTES
from guardian.tables import Conns
from tests.ndpipairs import records

RITA_TYPES = {
    "ts": "time", "uid": "string", "id.orig_h": "addr", "id.orig_p": "port", "id.resp_h": "addr",
    "id.resp_p": "port", "proto": "enum", "service": "string", "duration": "interval",
    "orig_bytes": "count", "resp_bytes": "count", "conn_state": "string", "local_orig": "bool",
    "local_resp": "bool", "missed_bytes": "count", "history": "string", "orig_pkts": "count",
    "orig_ip_bytes": "count", "resp_pkts": "count", "resp_ip_bytes": "count",
    "tunnel_parents": "set[string]",
}  # fmt: skip
"""What both RITAs read, and the types that RITA 4 demands to the letter."""

RITA_JSON: dict[str, type | tuple[type, ...]] = {
    "time": (int, float), "string": str, "addr": str, "enum": str, "port": int, "count": int,
    "interval": (int, float), "bool": bool, "set[string]": list,
}  # fmt: skip
"""JSON types that Go reads into RITA's columns."""

SLIPS = {
    "ts": "starttime", "uid": "uid", "id.orig_h": "saddr", "id.orig_p": "sport",
    "id.resp_h": "daddr", "id.resp_p": "dport", "proto": "proto", "service": "appproto",
    "duration": "dur", "orig_bytes": "sbytes", "resp_bytes": "dbytes", "conn_state": "state",
    "history": "history", "orig_pkts": "spkts", "resp_pkts": "dpkts",
}  # fmt: skip
"""What Slips reads, and its own names."""
SLIPS_NUMBERS = ("sbytes", "dbytes", "spkts", "dpkts", "sport", "dport")

CAPTURES = ("protocol-pcaps/ndpi/alexa-app.pcapng", "zeek-parity/core.tunnels.vxlan/input.pcap")


def written(path: Path, form: str) -> str:
    result = CliRunner().invoke(cli, ["conns", str(path), "--format", form])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # zat's own, of pandas 3
@pytest.mark.parametrize("name", CAPTURES)
def test_zat_reads_the_log(data: Path, tmp_path: Path, name: str) -> None:
    """Its reader without one conversion that fails, and its data frame, have our numbers."""
    reader = pytest.importorskip("zat.zeek_log_reader", reason="zat is not installed: [dev] has it")
    frames = pytest.importorskip("zat.log_to_dataframe")
    log = tmp_path / "conn.log"
    log.write_text(written(data / name, "zeek"))
    ours = records(data / name)
    rows = list(reader.ZeekLogReader(str(log), strict=True).readrows())
    assert [row["uid"] for row in rows] == [uid.decode() for uid in ours.uid.tolist()]
    assert [row["orig_pkts"] for row in rows] == ours.orig_pkts.tolist()
    assert [row["local_orig"] for row in rows] == ours.local_orig.tolist()
    for row, ts, duration in zip(rows, ours.ts.tolist(), ours.duration.tolist(), strict=True):
        assert abs(row["ts"].timestamp() - ts / 1e9) < 2e-6
        assert abs(row["duration"].total_seconds() - duration) < 2e-6
    frame = frames.LogToDataFrame().create_dataframe(str(log))
    assert len(frame) == len(ours)
    assert frame["resp_ip_bytes"].sum() == ours.resp_ip_bytes.sum()
    assert frame["id.resp_p"].tolist() == ours.resp_p.tolist()
    assert str(frame["duration"].dtype).startswith("timedelta64")
    assert frame["orig_bytes"].isna().sum() == (ours.orig_bytes < 0).sum()
    assert {"tcp", "udp"} & set(frame["proto"])


def tsv(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Read a log as RITA does: names and types of the head, then the rows by name."""
    names: list[str] = []
    types: list[str] = []
    rows = []
    for line in text.splitlines():
        if not line.startswith("#"):
            rows.append(dict(zip(names, line.split("\t"), strict=True)))
            continue
        words = line.split()
        assert len(words) >= 2, line  # RITA 5 takes the second without looking
        names = words[1:] if words[0] == "#fields" else names
        types = words[1:] if words[0] == "#types" else types
    return dict(zip(names, types, strict=True)), rows


@pytest.mark.parametrize("name", CAPTURES)
def test_rita_takes_the_log(data: Path, name: str) -> None:
    text = written(data / name, "zeek")
    assert text.startswith("#separator \\x09\n")
    assert "\n#path\tconn\n" in text  # RITA 5 compares it with the file's name
    types, rows = tsv(text)
    assert {column: types.get(column) for column in RITA_TYPES} == RITA_TYPES
    assert rows
    for row in rows:
        for column, kind in RITA_TYPES.items():
            cell = row[column]
            if cell == "-":
                assert column in {"service", "duration", "orig_bytes", "resp_bytes", "history",
                                  "tunnel_parents"}  # fmt: skip
            elif kind == "time":
                whole, point, part = cell.partition(".")  # it wants the point
                assert point
                assert whole.isdigit()
                assert part.isdigit()
            elif kind in {"count", "port"}:
                assert cell.isdigit()
            elif kind == "interval":
                assert float(cell) > 0
            elif kind == "bool":
                assert cell in {"T", "F"}


@pytest.mark.parametrize("name", CAPTURES)
def test_rita_takes_json(data: Path, name: str) -> None:
    seen = set()
    for line in written(data / name, "json").splitlines():
        row = json.loads(line)
        assert row["ts"] > 1e9  # seconds since 1970
        for column, value in row.items():
            seen.add(column)
            if column in RITA_TYPES:
                assert isinstance(value, RITA_JSON[RITA_TYPES[column]]), (column, value)
        assert row.keys() >= {"ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p",
                              "proto", "conn_state", "orig_pkts", "resp_pkts"}  # fmt: skip
    assert seen >= RITA_TYPES.keys() - {"tunnel_parents"}


def slips_flow(cells: dict[str, Any]) -> dict[str, Any]:
    """Turn a row into Slips' flow as its profiler does."""
    flow = {theirs: cells.get(zeek, "") for zeek, theirs in SLIPS.items()}
    flow = {key: "" if value == "-" else value for key, value in flow.items()}
    flow["dur"] = float(flow["dur"] or 0)
    for key in SLIPS_NUMBERS:
        flow[key] = int(flow[key] or 0)
    flow["starttime"] = float(flow["starttime"])
    return flow


@pytest.mark.parametrize("name", CAPTURES)
def test_slips_takes_both_forms(data: Path, name: str) -> None:
    """The same flows out of both, and our numbers in them."""
    text = written(data / name, "zeek")
    head = next(line for line in text.splitlines() if line.startswith("#fields"))
    names = head.replace("#fields", "").split("\t")[1:]
    assert names[0] == "ts"  # it takes the first column for the time
    tabs = [
        slips_flow(dict(zip(names, line.split("\t"), strict=True)))
        for line in text.splitlines()
        if not line.startswith("#")
    ]
    lines = [slips_flow(json.loads(line)) for line in written(data / name, "json").splitlines()]
    assert tabs == lines
    ours = records(data / name)
    assert [flow["spkts"] for flow in tabs] == ours.orig_pkts.tolist()
    assert [flow["dport"] for flow in tabs] == ours.resp_p.tolist()
    assert {flow["proto"] for flow in tabs} <= {"tcp", "udp", "icmp", "unknown_transport"}


@pytest.mark.parametrize("form", ["zeek", "json", "csv"])
@pytest.mark.parametrize("name", [*CAPTURES, "zeek-parity/core.tunnels.gre-in-gre/input.pcap"])
def test_we_read_what_we_write(data: Path, tmp_path: Path, name: str, form: str) -> None:
    """Every column of Zeek's comes back, the tunnels too."""
    log = tmp_path / "any"
    log.write_text(written(data / name, form))
    back, ours = Conns.concat([batch.conns for batch in zeeklog.read(log)]), records(data / name)
    for column in (
        "uid", "orig", "resp", "orig_p", "resp_p", "proto", "service", "orig_bytes", "resp_bytes",
        "conn_state", "local_orig", "local_resp", "missed_bytes", "history", "orig_pkts",
        "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "tunnel_parents",
    ):  # fmt: skip
        assert getattr(back, column).tolist() == getattr(ours, column).tolist(), column
    assert np.abs(back.ts - ours.ts).max() < 1_000
    assert np.abs(back.duration - ours.duration).max() < 2e-6
    assert ("tunnels" in name) == any(back.tunnel_parents.tolist())
    pieces, _ = slices.cut(back)
    assert not any(pieces.tunnel_parents.tolist())


def test_tunnel_parents_of_a_log_are_whole_uids(tmp_path: Path) -> None:
    """Of more than fit the first are kept; hostile bytes are made safe."""
    row = {"ts": 1.5e9, "uid": "C1", "id.orig_h": "10.0.0.1", "id.orig_p": 1, "id.resp_h": "::1",
           "id.resp_p": 2, "proto": "udp", "conn_state": "S0"}  # fmt: skip
    log = tmp_path / "conn.log"
    uids = ["C" * 18, "D" * 18, "E" * 18]
    parents: list[Any] = [uids, ",".join(uids), [], None, ["\x1b[1m", 7], 3, "F" * 4_000]
    log.write_text("".join(json.dumps({**row, "tunnel_parents": p}) + "\n" for p in parents))
    back = Conns.concat([batch.conns for batch in zeeklog.read(log)])
    two = ",".join(uids[:2]).encode()
    assert back.tunnel_parents.tolist()[:6] == [two, two, b"", b"", b"?[1m,7", b"3"]
    assert back.tunnel_parents.tolist()[6] == b"F" * UID_BYTES
