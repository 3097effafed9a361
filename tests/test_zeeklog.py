"""Connection logs in every form that people have."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import zeeklog
from guardian.addresses import Lan, pack
from guardian.const import BATCH_ROWS, MAX_LINE_BYTES
from guardian.errors import InputError
from guardian.tables import CONN_STATES, Conns

ROWS: list[dict[str, str]] = [
    {
        "ts": "1547150789.067208", "uid": "CzsY0D4B96NTr8m7ld", "id.orig_h": "192.168.1.199",
        "id.orig_p": "59222", "id.resp_h": "46.101.251.172", "id.resp_p": "80", "proto": "tcp",
        "service": "http", "duration": "1.686784", "orig_bytes": "149", "resp_bytes": "171750",
        "conn_state": "SF", "missed_bytes": "11584", "history": "ShADadttfF", "orig_pkts": "122",
        "orig_ip_bytes": "7741", "resp_pkts": "122", "resp_ip_bytes": "178102",
        "label": "Malicious", "detailed-label": "C&C-FileDownload",
    },
    {
        "ts": "1547150797.954878", "uid": "CVMYDw4wnZfqWrOfd", "id.orig_h": "fe80::1",
        "id.orig_p": "133", "id.resp_h": "ff02::2", "id.resp_p": "134", "proto": "icmp",
        "conn_state": "OTH", "orig_pkts": "1", "orig_ip_bytes": "60", "resp_pkts": "0",
        "resp_ip_bytes": "0", "label": "Benign",
    },
    {
        "ts": "1547150798.000000001", "uid": "CBjcNy4pOh8Xg1H4S", "id.orig_h": "8.8.8.8",
        "id.orig_p": "0", "id.resp_h": "192.168.1.199", "id.resp_p": "65535", "proto": "udp",
        "duration": "0", "conn_state": "S0", "local_orig": "F", "local_resp": "F",
        "orig_pkts": "1", "orig_ip_bytes": "60", "resp_pkts": "0", "resp_ip_bytes": "0",
    },
]  # fmt: skip
NAMES = [
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service",
    "duration", "orig_bytes", "resp_bytes", "conn_state", "local_orig", "local_resp",
    "missed_bytes", "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
    "tunnel_parents", "label", "detailed-label",
]  # fmt: skip


def tsv(rows: list[dict[str, str]], names: list[str] = NAMES) -> str:
    lines = [
        "#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-",
        "#path\tconn", "#open\t2019-03-15-14-50-49", "\t".join(["#fields", *names]),
        "\t".join(["#types", *["string"] * len(names)]),
    ]  # fmt: skip
    lines += ["\t".join(row.get(name, "-") for name in names) for row in rows]
    return "\n".join([*lines, "#close\t2019-03-15-15-00-00", ""])


def iot23(rows: list[dict[str, str]]) -> str:
    """The layout of IoT-23 as published: three blanks between the last three columns."""
    text = tsv(rows)
    for name in ("label", "detailed-label"):
        text = text.replace(f"\t{name}", f"   {name}")
    out = []
    for line in text.split("\n"):
        *cells, parents, label, detailed = line.split("\t") if line[:1].isdigit() else (line,) * 4
        packed = "   ".join((parents, label, detailed))
        out.append("\t".join([*cells, packed]) if line[:1].isdigit() else line)
    return "\n".join(out)


def with_node(rows: list[dict[str, str]]) -> str:
    return tsv([{**row, "_node_name": "worker-1"} for row in rows], ["_node_name", *NAMES])


def typed(name: str, value: str) -> Any:
    if name.endswith(("_p", "_bytes", "_pkts")):
        return int(value)
    return {"T": True, "F": False}.get(value, value)


def jsonl(rows: list[dict[str, str]]) -> str:
    """JSON lines as Zeek writes them: numbers as numbers, unset fields left out."""
    lines = []
    for row in rows:
        fields = {name: typed(name, value) for name, value in row.items()}
        fields["tunnel_parents"] = []
        numbers = {name: fields.pop(name) for name in ("ts", "duration") if name in fields}
        body = json.dumps(fields)
        head = ", ".join(f'"{name}": {value}' for name, value in numbers.items())
        lines.append("{" + head + ", " + body[1:])
    return "\n".join(lines) + "\n"


def jsonl_flat(rows: list[dict[str, str]]) -> str:
    """JSON with underscores in the names and ISO times, as log shippers write it."""
    out = []
    for row in rows:
        fields: dict[str, Any] = {k.replace("id.", "id_"): v for k, v in row.items()}
        whole, _, part = row["ts"].partition(".")
        stamp = np.datetime64(int(whole), "s").item().isoformat()
        fields["ts"] = f"{stamp}.{part}Z"
        out.append(json.dumps(fields))
    return "\n".join(out)


def comma(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, NAMES, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


FORMS = {
    "tsv": tsv, "iot23": iot23, "node": with_node, "json": jsonl, "json-flat": jsonl_flat,
    "csv": comma,
}  # fmt: skip


def load(path: Path, lan: Lan | None = None) -> tuple[Conns, list[str], list[str], int]:
    batches = list(zeeklog.read(path, lan))
    return (
        Conns.concat([b.conns for b in batches]),
        [x for b in batches for x in b.label],
        [x for b in batches for x in b.detailed],
        sum(b.skipped for b in batches),
    )


def save(folder: Path, text: str | bytes) -> Path:
    path = folder / "something.dat"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_records(form: str, tmp_path: Path) -> None:
    conns, label, detailed, skipped = load(save(tmp_path, FORMS[form](ROWS)))
    assert skipped == 0
    assert label == ["Malicious", "Benign", ""]
    assert detailed == ["C&C-FileDownload", "", ""]
    assert conns.uid.tolist() == [row["uid"].encode() for row in ROWS]
    assert conns.ts.tolist() == [
        1547150789_067208000, 1547150797_954878000, 1547150798_000000001,
    ]  # fmt: skip
    assert conns.orig.tolist() == [list(pack(row["id.orig_h"])) for row in ROWS]
    assert conns.resp.tolist() == [list(pack(row["id.resp_h"])) for row in ROWS]
    assert conns.orig_p.tolist() == [59222, 133, 0]
    assert conns.resp_p.tolist() == [80, 134, 65535]
    assert conns.proto.tolist() == [6, 58, 17]
    assert conns.service.tolist() == [b"http", b"", b""]
    assert conns.duration.tolist() == [1.686784, 0, 0]
    assert conns.orig_bytes.tolist() == [149, -1, -1]
    assert conns.resp_bytes.tolist() == [171750, -1, -1]
    assert [CONN_STATES[s] for s in conns.conn_state] == ["SF", "OTH", "S0"]
    # The third row says that its responder is not local, and is believed.
    assert conns.local_orig.tolist() == [True, True, False]
    assert conns.local_resp.tolist() == [False, False, False]
    assert conns.missed_bytes.tolist() == [11584, 0, 0]
    assert conns.history.tolist() == [b"ShADadttfF", b"", b""]
    assert conns.orig_pkts.tolist() == [122, 1, 1]
    assert conns.orig_ip_bytes.tolist() == [7741, 60, 60]
    assert conns.resp_pkts.tolist() == [122, 0, 0]
    assert conns.resp_ip_bytes.tolist() == [178102, 0, 0]
    assert conns.final.all()
    assert not conns.piece.any()
    assert conns.age.tolist() == conns.duration.tolist()
    assert conns.told.tolist() == [1547150790_753992000, *conns.ts.tolist()[1:]]


@pytest.mark.parametrize("form", FORMS)
def test_gzip_and_standard_input_are_told_by_content(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(FORMS[form](ROWS).encode())
    expected = load(save(tmp_path, FORMS[form](ROWS)))
    for source in (packed, FORMS[form](ROWS).encode()):
        path = save(tmp_path, source)
        with path.open("rb") as stream:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
            from_pipe = load(Path("-"))
        for conns, *rest in (load(path), from_pipe):
            assert rest == list(expected[1:])
            for name in ("uid", "ts", "orig", "resp", "duration", "history"):
                assert np.array_equal(getattr(conns, name), getattr(expected[0], name))


def test_broken_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    lines = tsv(ROWS).split("\n")
    good = lines[8]
    broken = [
        good[: len(good) // 2],  # cut
        good.replace("1547150789.067208", "XXXXXXXXXX.XXXXXX"),
        good.replace("192.168.1.199", "192.168.1.999"),
        good.replace("59222", "70000"),
        good.replace("59222", "-1"),
        good.replace("171750", "many"),
        good.replace("1.686784", "nan"),
        good.replace("1.686784", "-1"),
        good.replace("1.686784", "2e9"),
        good.replace("122", "99999999999999999999"),
        good + "\tone more",
        "\x00\x01\x02",
        "x" * (MAX_LINE_BYTES + 10),
        good.replace("1547150789.067208", "99999999999.0"),
    ]
    text = "\n".join([*lines[:9], *broken, *lines[9:]])
    conns, label, _, skipped = load(save(tmp_path, text))
    assert skipped == len(broken)
    assert len(conns) == len(label) == 3


def test_broken_json_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    broken = ['{"ts": 1.0', "[1, 2]", '"text"', '{"ts": 5}', "[" * 100_000, '{"ts": 1e400}']
    text = jsonl(ROWS) + "\n".join(broken) + "\n"
    conns, _, _, skipped = load(save(tmp_path, text))
    assert (len(conns), skipped) == (3, len(broken))


@pytest.mark.parametrize("form", ["tsv", "json", "csv"])
def test_missing_essential_columns_are_named(form: str, tmp_path: Path) -> None:
    names = [n for n in NAMES if n not in ("id.resp_h", "proto")]
    rows = [{k: v for k, v in row.items() if k in names} for row in ROWS]
    text = tsv(rows, names) if form == "tsv" else FORMS[form](rows)
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
        text = out.getvalue()
    with pytest.raises(InputError, match=r"lacks the columns id\.resp_h, proto"):
        load(save(tmp_path, text))


@pytest.mark.parametrize("form", ["tsv", "json", "csv"])
def test_the_essential_columns_are_enough(form: str, tmp_path: Path) -> None:
    names = list(zeeklog.ESSENTIAL)
    rows = [{k: v for k, v in row.items() if k in names} for row in ROWS]
    if form == "csv":
        text = ",".join(names) + "\n" + "\n".join(",".join(r[n] for n in names) for r in rows)
    else:
        text = tsv(rows, names) if form == "tsv" else jsonl(rows)
    conns, label, detailed, skipped = load(save(tmp_path, text))
    assert (len(conns), skipped) == (3, 0)
    assert label == detailed == ["", "", ""]
    assert len(set(conns.uid.tolist())) == 3
    assert [CONN_STATES[s] for s in conns.conn_state] == ["OTH"] * 3
    assert conns.orig_bytes.tolist() == [-1, -1, -1]
    assert conns.orig_pkts.tolist() == [1, 1, 1]
    assert conns.local_resp.tolist() == [False, False, True]


def test_local_follows_the_lan_where_the_log_is_silent(tmp_path: Path) -> None:
    path = save(tmp_path, tsv(ROWS))
    conns, *_ = load(path, Lan(["46.101.0.0/16", "8.0.0.0/8"]))
    assert conns.local_orig.tolist() == [False, True, False]
    assert conns.local_resp.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00" + bytes(100), "is no connection log"),
        (b"Dear diary,\ntoday nothing happened\n", "is no connection log"),
        (tsv(ROWS).replace("#path\tconn", "#path\tdns").encode(), "Zeek's dns log"),
        (
            b'{"ts":1,"uid":"C1","id.orig_h":"10.0.0.2","id.orig_p":9,"id.resp_h":"10.0.0.1",'
            b'"id.resp_p":53,"proto":"udp","trans_id":7,"query":"a.example","rcode":3}\n',
            "nothing of its connections but query, rcode, trans_id.* give its conn.log",
        ),
        (b"#separator \\x09\n#path\tconn\n1\t2\n", "no #fields line"),
        (b"#separator \\x09\n#path\tconn\n", "no #fields line"),
        (tsv([{**ROWS[0], "ts": "never"}]).encode(), "none can be read"),
        (gzip.compress(b""), "is empty"),
        (b"\x1f\x8b\x08 nothing that unpacks", "cut or damaged"),
    ],
)
def test_what_is_no_log_is_refused_in_a_sentence(
    content: bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        load(save(tmp_path, content))


def test_a_log_without_rows_is_a_quiet_log(tmp_path: Path) -> None:
    conns, label, _, skipped = load(save(tmp_path, tsv([])))
    assert (len(conns), label, skipped) == (0, [], 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.log", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load(path)


@pytest.mark.parametrize("rows", [200, 40_000])
def test_what_was_read_before_damage_is_kept(rows: int, tmp_path: Path) -> None:
    chance = random.Random(1)  # numbers that do not pack away to nothing
    many = [{**ROWS[0], "orig_p": "1", "uid": f"C{chance.random()}"} for _ in range(rows)]
    packed = gzip.compress(tsv(many).encode())
    path = save(tmp_path, packed[: len(packed) * 3 // 4])
    kept: list[int] = []
    with pytest.raises(InputError, match="cut or damaged"):
        kept.extend(len(batch.conns) for batch in zeeklog.read(path))
    assert rows // 3 <= sum(kept) < rows


def test_batches_are_bounded(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "uid": f"C{i}"} for i in range(BATCH_ROWS + 5)]
    batches = list(zeeklog.read(save(tmp_path, comma(rows))))
    assert [len(b.conns) for b in batches] == [BATCH_ROWS, 5]
    assert batches[1].conns.uid[-1] == f"C{BATCH_ROWS + 4}".encode()


def test_rotated_logs_glued_together_follow_their_own_headers(tmp_path: Path) -> None:
    turned = [*NAMES[3:], *NAMES[:3]]
    conns, *_, skipped = load(save(tmp_path, tsv(ROWS) + tsv(ROWS, turned)))
    assert skipped == 0
    assert conns.uid.tolist() == [row["uid"].encode() for row in ROWS] * 2


def test_text_from_the_network_is_made_printable(tmp_path: Path) -> None:
    row = {**ROWS[0], "service": "ssl\x1b[31m,é", "history": "Sh\x07", "uid": "C" + "x" * 60}
    conns, *_ = load(save(tmp_path, tsv([row])))
    assert conns.service[0] == b"ssl?[31m,?"
    assert conns.history[0] == b"Sh?"
    assert len(conns.uid[0]) == 24


@given(st.data())
@settings(max_examples=150)
def test_damaged_logs_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(sorted(FORMS)))
    raw = bytearray(FORMS[form](ROWS).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4))
    path = save(tmp_path_factory.mktemp("fuzz", numbered=True), bytes(raw))
    try:
        conns, label, detailed, skipped = load(path)
    except InputError:
        return
    assert len(conns) == len(label) == len(detailed)
    assert skipped >= 0
    assert (conns.orig_pkts >= 0).all()


# --- real logs ----------------------------------------------------------------


def test_iot23_as_csv(data: Path) -> None:
    for path in sorted((data / "iot23").glob("*.csv")):
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        conns, label, detailed, skipped = load(path)
        assert skipped == 0
        assert conns.uid.tolist() == [row["uid"].encode() for row in rows]
        assert conns.orig_ip_bytes.sum() == sum(int(r["orig_ip_bytes"]) for r in rows)
        assert conns.resp_bytes.sum() == sum(int(r["resp_bytes"] or -1) for r in rows)
        assert Counter(label) == Counter(row["label"] for row in rows)
        assert Counter(detailed) == Counter(row["detailed-label"].strip("-") for row in rows)


def test_iot23_original_layout_equals_its_csv(data: Path) -> None:
    original = load(next((data / "iot23" / "format-example").iterdir()))
    table = load(data / "iot23" / "CTU-Malware-Capture-44-1-labeled.csv")
    assert original[1:] == table[1:]
    for name in ("uid", "ts", "orig", "resp", "duration", "resp_bytes", "history", "conn_state"):
        assert np.array_equal(getattr(original[0], name), getattr(table[0], name))


def count_lines(path: Path) -> int:
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    return sum(1 for line in raw.splitlines() if line.strip() and line.strip()[:1] != b"#")


def test_every_connection_log_is_read_whole(data: Path) -> None:
    paths = [
        *data.glob("stratosphere*/**/conn.log*"),
        *data.glob("stratosphere*/**/labeled-conn.log"),
        *data.glob("zeek-internet-facing/*/conn.*.gz"),
    ]
    assert len(paths) > 30
    for path in paths:
        conns, label, _, skipped = load(path)
        assert (len(conns) + skipped, skipped) == (count_lines(path), 0), path
        assert len(label) == len(conns)


def test_other_zeek_logs_are_refused_by_name(data: Path) -> None:
    path = next(data.glob("zeek-internet-facing/*/dns.*.gz"))
    with pytest.raises(InputError, match="Zeek's dns log"):
        load(path)


def test_masked_times_of_the_parity_logs_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="none can be read"):
        load(next(data.glob("zeek-parity/*/conn.log")))
