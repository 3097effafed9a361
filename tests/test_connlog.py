"""Records as text: Zeek's layout, and nothing that a terminal or a spreadsheet would obey."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import connlog
from guardian.addresses import pack
from guardian.tables import CONN_STATES, Conns


def record(service: bytes = b"dns", history: bytes = b"Dd", uid: bytes = b"Cabc") -> Conns:
    r = Conns.blank(1)
    r.uid[0], r.service[0], r.history[0] = uid, service, history
    r.ts[0] = 1_700_000_000_123_456_789
    r.orig[0], r.resp[0] = pack("192.168.1.2"), pack("fe80::1")
    r.orig_p[0], r.resp_p[0], r.proto[0] = 40_000, 53, 17
    r.duration[0], r.orig_bytes[0], r.resp_bytes[0] = 0.25, 30, 60
    r.conn_state[0] = CONN_STATES.index("SF")
    r.local_orig[0] = True
    r.orig_pkts[0] = r.resp_pkts[0] = 1
    return r


def test_zeek_lines() -> None:
    head = connlog.zeek_header()
    assert head.startswith("#separator \\x09\n#set_separator\t,\n")
    fields = head.splitlines()[5].split("\t")[1:]
    assert fields[:7] == ["ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"]
    assert len(head.splitlines()[6].split("\t")) == len(fields) + 1
    line = connlog.zeek(record()).rstrip("\n").split("\t")
    row = dict(zip(fields, line, strict=True))
    assert row["ts"] == "1700000000.123456"
    assert (row["id.orig_h"], row["id.resp_h"], row["proto"]) == ("192.168.1.2", "fe80::1", "udp")
    assert (row["service"], row["duration"], row["conn_state"]) == ("dns", "0.250000", "SF")
    assert (row["local_orig"], row["local_resp"], row["tunnel_parents"]) == ("T", "F", "-")


def test_unset_is_a_dash_and_left_out_of_json() -> None:
    r = record(service=b"", history=b"")
    r.duration[0], r.orig_bytes[0], r.resp_bytes[0] = 0, -1, -1
    line = connlog.zeek(r).split("\t")
    assert line[7:11] == ["-", "-", "-", "-"]
    entry = json.loads(connlog.json_lines(r))
    assert "duration" not in entry
    assert "service" not in entry
    assert entry["id.orig_p"] == 40_000
    assert entry["ts"] == 1700000000.123456
    assert entry["local_orig"] is True


@settings(max_examples=100)
@given(st.binary(max_size=32), st.binary(max_size=24))
def test_hostile_text_stays_in_its_cell(service: bytes, uid: bytes) -> None:
    r = record(service=service, uid=uid)
    line = connlog.zeek(r)
    assert line.count("\n") == 1
    assert line.count("\t") == len(connlog.FIELDS) - 1
    assert all(32 < ord(c) < 127 or c in "\t\n" for c in line)
    row = next(iter(csv.reader(io.StringIO(connlog.csv_lines(r)))))
    assert len(row) == len(connlog.FIELDS)
    assert not any(cell[:1] in ("=", "+", "-", "@") and cell for cell in row)
    assert len(json.loads(connlog.json_lines(r))) > 5


def test_a_formula_is_quoted() -> None:
    assert connlog.guarded("=1+1") == "'=1+1"
    assert connlog.guarded("dns") == "dns"
    assert connlog.csv_header().startswith("ts,uid,id.orig_h")


def test_times_before_the_epoch_and_many_rows() -> None:
    r = Conns.blank(3)
    r.ts[:] = [-1_500_000_000, 0, 999]
    assert [row["ts"] for row in connlog.cells(r)] == ["-1.500000", "0.000000", "0.000000"]
    assert np.unique([row["proto"] for row in connlog.cells(r)]).tolist() == ["unknown_transport"]
