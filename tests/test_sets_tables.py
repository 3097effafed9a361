"""Readers of tables: real samples where they are at hand, made ones in published layouts."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.errors import InputError
from tests.conftest import ROOT
from trainer.sets import cicnames, nbaiot, unsw
from trainer.sets.document import MARK, document
from trainer.sets.mapping import key_of, label_key
from trainer.sets.prepared import Prepared
from trainer.sets.registry import READERS, prepare, sniff
from trainer.sets.split import split
from trainer.sets.windows import batches, windows
from trainer.sets.writer import hashes

pytestmark = pytest.mark.train

CIC_2018 = """Dst Port,Protocol,Timestamp,Flow Duration,Tot Fwd Pkts,Tot Bwd Pkts,TotLen Fwd Pkts,
TotLen Bwd Pkts,Fwd Pkt Len Max,Fwd Pkt Len Min,Fwd Pkt Len Mean,Fwd Pkt Len Std,Bwd Pkt Len Max,
Bwd Pkt Len Min,Bwd Pkt Len Mean,Bwd Pkt Len Std,Flow Byts/s,Flow Pkts/s,Flow IAT Mean,Flow IAT Std,
Flow IAT Max,Flow IAT Min,Fwd IAT Tot,Fwd IAT Mean,Fwd IAT Std,Fwd IAT Max,Fwd IAT Min,Bwd IAT Tot,
Bwd IAT Mean,Bwd IAT Std,Bwd IAT Max,Bwd IAT Min,Fwd PSH Flags,Bwd PSH Flags,Fwd URG Flags,
Bwd URG Flags,Fwd Header Len,Bwd Header Len,Fwd Pkts/s,Bwd Pkts/s,Pkt Len Min,Pkt Len Max,
Pkt Len Mean,Pkt Len Std,Pkt Len Var,FIN Flag Cnt,SYN Flag Cnt,RST Flag Cnt,PSH Flag Cnt,
ACK Flag Cnt,URG Flag Cnt,CWE Flag Count,ECE Flag Cnt,Down/Up Ratio,Pkt Size Avg,Fwd Seg Size Avg,
Bwd Seg Size Avg,Fwd Byts/b Avg,Fwd Pkts/b Avg,Fwd Blk Rate Avg,Bwd Byts/b Avg,Bwd Pkts/b Avg,
Bwd Blk Rate Avg,Subflow Fwd Pkts,Subflow Fwd Byts,Subflow Bwd Pkts,Subflow Bwd Byts,
Init Fwd Win Byts,Init Bwd Win Byts,Fwd Act Data Pkts,Fwd Seg Size Min,Active Mean,Active Std,
Active Max,Active Min,Idle Mean,Idle Std,Idle Max,Idle Min,Label"""
CIC_2017 = """ Destination Port, Flow Duration, Total Fwd Packets, Total Backward Packets,
Total Length of Fwd Packets, Total Length of Bwd Packets, Fwd Packet Length Max,
 Fwd Packet Length Min, Fwd Packet Length Mean, Fwd Packet Length Std,Bwd Packet Length Max,
 Bwd Packet Length Min, Bwd Packet Length Mean, Bwd Packet Length Std,Flow Bytes/s, Flow Packets/s,
 Flow IAT Mean, Flow IAT Std, Flow IAT Max, Flow IAT Min,Fwd IAT Total, Fwd IAT Mean, Fwd IAT Std,
 Fwd IAT Max, Fwd IAT Min,Bwd IAT Total, Bwd IAT Mean, Bwd IAT Std, Bwd IAT Max, Bwd IAT Min,
Fwd PSH Flags, Bwd PSH Flags, Fwd URG Flags, Bwd URG Flags, Fwd Header Length, Bwd Header Length,
Fwd Packets/s, Bwd Packets/s, Min Packet Length, Max Packet Length, Packet Length Mean,
 Packet Length Std, Packet Length Variance,FIN Flag Count, SYN Flag Count, RST Flag Count,
 PSH Flag Count, ACK Flag Count, URG Flag Count, CWE Flag Count, ECE Flag Count, Down/Up Ratio,
 Average Packet Size, Avg Fwd Segment Size, Avg Bwd Segment Size, Fwd Header Length,
Fwd Avg Bytes/Bulk, Fwd Avg Packets/Bulk, Fwd Avg Bulk Rate, Bwd Avg Bytes/Bulk,
 Bwd Avg Packets/Bulk,Bwd Avg Bulk Rate,Subflow Fwd Packets, Subflow Fwd Bytes,
 Subflow Bwd Packets, Subflow Bwd Bytes,Init_Win_bytes_forward, Init_Win_bytes_backward,
 act_data_pkt_fwd, min_seg_size_forward,Active Mean, Active Std, Active Max, Active Min,Idle Mean,
 Idle Std, Idle Max, Idle Min, Label"""


UNSW_PART = """id dur proto service state spkts dpkts sbytes dbytes rate sttl dttl sload dload sloss
dloss sinpkt dinpkt sjit djit swin stcpb dtcpb dwin tcprtt synack ackdat smean dmean trans_depth
response_body_len ct_srv_src ct_state_ttl ct_dst_ltm ct_src_dport_ltm ct_dst_sport_ltm
ct_dst_src_ltm is_ftp_login ct_ftp_cmd ct_flw_http_mthd ct_src_ltm ct_srv_dst is_sm_ips_ports
attack_cat label"""


def columns(text: str) -> list[str]:
    return text.replace("\n", "").split(",")


def table(
    path: Path, head: Sequence[str], rows: Iterable[Sequence[object]], sep: str = ","
) -> Path:
    """Write a table as the published ones are written."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=sep)
        writer.writerow(head)
        writer.writerows(rows)
    return path


def classes(prepared: Prepared) -> dict[str, int]:
    found, many = np.unique(prepared.label, return_counts=True)
    return {
        prepared.classes[c] if c >= 0 else "none": int(n)
        for c, n in zip(found.tolist(), many.tolist(), strict=True)
    }


def value(prepared: Prepared, row: int, feature: str) -> float:
    return float(prepared.x[row, prepared.features.index(feature)])


# --- the real samples -----------------------------------------------------------------------


def test_nslkdd(data: Path) -> None:
    prepared = prepare("nslkdd", [data], cache=None)
    assert prepared.x.shape == (25_192, 122)  # published one-hot width
    assert classes(prepared) == {
        "benign": 13_449, "dos": 9_234, "probe": 2_289, "r2l": 209, "u2r": 11,
    }  # fmt: skip
    assert not prepared.ordered
    assert not prepared.comparable
    # udp, private, SF, 28 bytes: the row of a teardrop, not log-scaled twice.
    assert prepared.features[:3] == ("proto_tcp", "proto_udp", "proto_icmp")
    first = dict(zip(prepared.features, prepared.x[0].tolist(), strict=True))
    assert first["proto_udp"] == first["service_private"] == first["flag_sf"] == 1
    assert first["src_bytes"] == pytest.approx(np.log1p(28))
    assert first["wrong_fragment"] == pytest.approx(np.log1p(3))
    hot = [n for n in prepared.features if n.startswith(("service_", "proto_", "flag_"))]
    index = [prepared.features.index(n) for n in hot]
    assert (prepared.x[:, index].sum(axis=1) == 3).all()


def test_the_whole_of_nslkdd_is_a_published_pair(data: Path, tmp_path: Path) -> None:
    lines = gzip.decompress((data / "nslkdd/KDDTrain+_20Percent.txt.gz").read_bytes()).splitlines()
    for name, many in (("KDDTrain+.txt", 125_973), ("KDDTest+.txt", 22_544)):
        text = (lines * 6)[:many]
        numbered = [b"%d" % k + row[row.index(b",") :] for k, row in enumerate(text)]
        (tmp_path / name).write_bytes(b"\n".join(numbered) + b"\n")
    prepared = prepare("nslkdd", [tmp_path], cache=None)
    assert prepared.comparable
    dealt = split(prepared)
    assert "test is KDDTest+" in dealt.how
    assert {prepared.groups[g] for g in prepared.group[dealt.test].tolist()} == {"KDDTest+"}


def test_cicids2017(data: Path) -> None:
    prepared = prepare("cicids2017", [data], cache=None)
    assert prepared.counts["rows read"] == 30_296
    assert prepared.counts["rows kept"] + prepared.counts["dropped: repeated"] == 30_296
    assert len(np.unique(np.column_stack([prepared.x, prepared.label]), axis=0)) == len(prepared)
    assert prepared.features == tuple(f.name for f in cicnames.FEATURES)
    assert not prepared.ordered
    assert "random sample" in prepared.why
    assert {name.partition("/")[0] for name in prepared.groups} == {
        f"2017-07-0{k}" for k in range(3, 8)
    }
    assert classes(prepared)["heartbleed"] == 8
    dealt = split(prepared)
    assert "not in train" in dealt.how  # each attack has its own day


def test_nbaiot(data: Path) -> None:
    prepared = prepare("nbaiot", [data], cache=None)
    assert prepared.x.shape == (102_236, 115)
    assert classes(prepared) == {"benign": 350, "gafgyt-tcp": 101_536, "attack": 350}
    with zipfile.ZipFile(data / "nbaiot/Ennio_Doorbell.gafgyt.tcp.csv.zip") as archive:
        head = archive.open("tcp.csv").readline().decode().strip().split(",")
    assert list(prepared.features) == head
    # No jitter tells the day of the attack, which is what all of them differ in.
    jitter = [k for k, n in enumerate(head) if n.startswith("HH_jit") and n.endswith("mean")]
    assert prepared.x[:, jitter].max() <= np.log1p(86_400) * 1.000001
    ennio = prepared.take(prepared.group == prepared.groups.index("Ennio_Doorbell/gafgyt-tcp"))
    assert len(np.unique(hashes(ennio.x))) == 99
    assert prepared.ordered
    found = windows(prepared, split(prepared, by="time").test, 10)
    assert found.x.shape[1:] == (10, 115)


def test_unswnb15(data: Path) -> None:
    prepared = prepare("unswnb15", [data], cache=None)
    assert prepared.counts["rows read"] == 5_263
    assert set(classes(prepared)) == {"benign", "attack"}
    assert not {"sttl", "dttl", "ct_state_ttl", "stcpb"} & set(prepared.features)
    hot = prepare("unswnb15-10k", [data], cache=None)
    assert hot.counts["rows read"] == 3_817 + 3_733
    assert value(hot, 0, "proto_tcp") + hot.x[:, hot.features.index("proto_udp")].sum() > 0
    assert {"proto_tcp", "service_http", "state_fin", "dst_src"} <= set(hot.features)


def test_iotid20(data: Path) -> None:
    prepared = prepare("iotid20", [data], cache=None)
    assert prepared.counts["rows read"] == 4_697
    assert set(classes(prepared)) == {"benign", "attack"}
    assert prepared.counts["dropped: repeated"] > 1_000
    assert not prepared.ordered


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("nbaiot/*.zip", "nbaiot"), ("cicids2017/DDoS*", "cic"), ("unswnb15/*", "unsw"),
        ("iotid20/*", "iotid20"), ("nslkdd/*", "nslkdd"), ("iot23/*.csv", "zeek"),
        ("mqttset/*", "pcap"), ("stratosphere/001*/labeled-conn.log", "zeek"),
    ],
)  # fmt: skip
def test_a_files_kind_is_told_by_its_content(data: Path, pattern: str, name: str) -> None:
    paths = sorted(data.glob(pattern))
    assert paths
    assert {sniff(path) for path in paths} == {name}


@pytest.mark.parametrize(
    "path", ["domains/dga_domains_sample.csv", "stratosphere-slips/test3-mixed.binetflow"]
)
def test_other_tables_are_of_no_known_kind(data: Path, path: str) -> None:
    with pytest.raises(InputError, match="of no known kind"):
        sniff(data / path)


# --- CICFlowMeter's other namings --------------------------------------------------------------


def flow(head: list[str], number: float, **given: object) -> list[object]:
    """Return a row whose columns count up from a number, but for those given."""
    row: list[object] = [number + k for k in range(len(head))]
    for name, said in given.items():
        row[[key_of(c) for c in head].index(key_of(name))] = said
    return row


def test_cic_2018(tmp_path: Path) -> None:
    head = columns(CIC_2018)
    rows: list[Sequence[object]] = [
        flow(head, 1, Timestamp="14/02/2018 08:31:01", Label="Benign"),
        flow(head, 2, Timestamp="14/02/2018 10:40:13", Label="FTP-BruteForce"),
        flow(head, 3, Timestamp="14/02/2018 02:40:13", Label="SSH-Bruteforce"),  # afternoon
        head,  # as in the published files
        flow(head, 4, Timestamp="15/02/2018 09:00:00", Label="DoS attacks-Hulk",
             **{"Flow Byts/s": "Infinity", "Flow Pkts/s": "NaN"}),
        flow(head, 4, Timestamp="15/02/2018 09:00:01", Label="DoS attacks-Hulk",
             **{"Flow Byts/s": "Infinity", "Flow Pkts/s": "NaN"}),
        flow(head, 5, Timestamp="15/02/2018 08:30:00", Label="Infilteration",
             **{"Tot Fwd Pkts": "many", "Fwd Header Len": -32}),
    ]  # fmt: skip
    path = table(tmp_path / "made.csv", head, rows)
    with path.open("a", encoding="utf-8") as file:
        file.write("80,6,15/02/2018 09:0")  # cut off
        file.write("\n" + ",".join("9" for _ in range(len(head) + 3)) + "\n")
    told: list[str] = []
    assert sniff(path) == "cic"
    prepared = prepare("cic", [path], cache=None, echo=told.append)
    assert told == []  # every column is known, none is missing
    assert len(prepared.features) == 76
    assert [prepared.classes[c] for c in prepared.label.tolist()] == [
        "benign", "brute-force", "brute-force", "infiltration", "dos",
    ]  # fmt: skip
    assert prepared.groups == ("2018-02-14", "2018-02-15")
    assert prepared.counts == {
        "rows read": 9, "dropped: line of names": 1, "dropped: cut off": 1,
        "dropped: too many cells": 1, "dropped: repeated": 1, "rows repeated": 1,
        "rows kept": 5, "rows out of time order": 1, "times unreadable": 1, "values infinite": 2,
        "values no number": 1, "values filled": 5,
    }  # fmt: skip
    assert prepared.ordered
    assert not prepared.comparable
    hours = [s % 86_400 / 3_600 for s in prepared.ts.tolist()]
    assert hours == pytest.approx([8.52, 10.67, 14.67, 8.5, 9.0], abs=0.01)
    assert value(prepared, 4, "byte_rate") == 0
    assert value(prepared, 3, "fwd_header") == pytest.approx(-np.log1p(32))
    # The same flow means the same in each naming: Flow Duration is the fourth column here.
    assert value(prepared, 0, "flow_duration") == pytest.approx(np.log1p(1 + 3))


def test_cic_2017_as_published(tmp_path: Path) -> None:
    head = columns(CIC_2017)
    assert len(head) == 79
    dash = "Web Attack \x96 XSS"
    rows: list[list[object]] = [
        flow(head, 1, Label="BENIGN"), flow(head, 2, Label="DDoS"), flow(head, 3, Label=dash),
        flow(head, 4, Label="PortScan"), flow(head, 5, Label="Bot"),
    ]  # fmt: skip
    path = tmp_path / "Friday.pcap_ISCX.csv"
    text = "\n".join(",".join(map(str, row)) for row in [list[object](head), *rows])
    path.write_bytes(text.encode("latin-1"))
    prepared = prepare("cic", [path], cache=None)
    assert classes(prepared) == {"benign": 1, "ddos": 1, "web": 1, "scan": 1, "bot": 1}
    assert len(prepared.features) == 76
    assert not prepared.ordered
    assert "without a Timestamp" in prepared.why
    assert value(prepared, 0, "flow_duration") == pytest.approx(np.log1p(2))
    assert value(prepared, 0, "fwd_header") == pytest.approx(np.log1p(1 + 34))


def test_the_three_namings_have_the_same_features() -> None:
    corrected = {f.name for f in cicnames.FEATURES}
    for head in (CIC_2017, CIC_2018):
        keys = {key_of(c) for c in columns(head)}
        found = {f.name for f in cicnames.FEATURES if {key_of(n) for n in f.columns} & keys}
        assert found == corrected


def test_an_attack_without_effect_is_dropped_and_a_new_label_refused(tmp_path: Path) -> None:
    head = columns(CIC_2018)
    stamp = "14/02/2018 08:31:01"
    path = table(tmp_path / "a.csv", head, [
        flow(head, 1, Timestamp=stamp, Label="BENIGN"),
        flow(head, 2, Timestamp=stamp, Label="DoS Hulk - Attempted"),
    ])  # fmt: skip
    counts = prepare("cic", [path], cache=None).counts
    assert counts["dropped: label dos hulk - attempted"] == 1
    table(path, head, [flow(head, 1, Timestamp=stamp, Label="Meteor")])
    with pytest.raises(InputError, match=r"a\.csv: the label 'Meteor' has no class"):
        prepare("cic", [path], cache=None)
    assert label_key("Web Attack \u2013 XSS") == label_key("Web Attack \ufffd XSS")


# --- layouts of other sets that are not at hand ---------------------------------------------------


def test_unsw_raw_files_and_parts(tmp_path: Path) -> None:
    names = list(unsw.RAW)
    row = dict.fromkeys(names, "1") | {"proto": "tcp", "state": "FIN", "service": "-"}
    lines = []
    for k, (kind, said) in enumerate([("", "0"), (" Fuzzers ", "1"), ("Backdoors", "1")]):
        row |= {"Stime": str(1_421_927_417 - k), "attack_cat": kind, "Label": said, "dur": f"0.{k}"}
        lines.append(",".join(row[n] for n in names))
    raw = tmp_path / "UNSW-NB15_1.csv"
    raw.write_text("\n".join(lines), encoding="ascii")
    assert sniff(raw) == "unsw"
    prepared = prepare("unsw", [raw], cache=None)
    assert [prepared.classes[c] for c in prepared.label.tolist()] == [
        "backdoor", "fuzzers", "benign",
    ]  # fmt: skip
    assert prepared.counts["rows out of time order"] == 2
    part = table(
        tmp_path / "UNSW_NB15_training-set.csv",
        UNSW_PART.split(),
        [[1, 0.1, "udp", "dns", "INT", *range(38), "Normal", 0],
         [2, 0.1, "tcp", "http", "FIN", *range(38), "Exploits", 1]],
    )  # fmt: skip
    told: list[str] = []
    published = prepare("unsw", [part], cache=None, echo=told.append)
    assert told == []
    assert classes(published) == {"benign": 1, "exploits": 1}
    assert value(published, 0, "service_dns") == value(published, 1, "service_http") == 1


def test_iotid20_as_published(tmp_path: Path) -> None:
    head = [c.replace(" ", "_") for c in columns(CIC_2018)] + ["Cat", "Sub_Cat"]
    stamp = "25/07/2019 03:25:53 AM"
    path = table(tmp_path / "IoT Network Intrusion Dataset.csv", head, [
        flow(head, 1, Timestamp=stamp, Label="Anomaly", Cat="Mirai", Sub_Cat="Mirai-Ackflooding"),
        flow(head, 2, Timestamp=stamp, Label="Normal", Cat="Normal", Sub_Cat="Normal"),
        flow(head, 3, Timestamp=stamp, Label="Anomaly", Cat="MITM ARP Spoofing", Sub_Cat="MITM"),
    ])  # fmt: skip
    assert sniff(path) == "iotid20"
    prepared = prepare("iotid20", [path], cache=None)
    assert classes(prepared) == {"benign": 1, "mirai": 1, "mitm": 1}
    assert prepared.ts[0] % 86_400 == 3 * 3_600 + 25 * 60 + 53


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("Danmini_Doorbell/gafgyt_attacks/combo.csv", ("Danmini_Doorbell", "gafgyt-combo")),
        ("Danmini_Doorbell/mirai_attacks/udpplain.csv", ("Danmini_Doorbell", "mirai-udpplain")),
        ("Danmini_Doorbell/benign_traffic.csv", ("Danmini_Doorbell", "benign")),
        ("data/1.mirai.udp.csv", ("1", "mirai-udp")),
        ("data/1.benign.csv", ("1", "benign")),
        ("data/Ennio_Doorbell.gafgyt.tcp.csv.zip", ("Ennio_Doorbell", "gafgyt-tcp")),
        ("data/sample.attack.rows1-350.csv", ("sample", "attack")),
    ],
)
def test_nbaiots_files_are_its_labels(path: str, told: tuple[str, str]) -> None:
    assert nbaiot.told_by(Path("/x") / path) == told


@pytest.mark.parametrize("name", ["traffic.csv", "mirai.junk.csv"])
def test_a_file_of_nbaiot_that_does_not_say_what_it_holds_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        nbaiot.told_by(Path("/x/data") / name)


SENSORS = ["P1_B2004", "P1_B2016", "P2_CO_rpm", "P4_ST_TT01"]


def hai(path: Path, label: str, stamp: str, sep: str, attacks: Sequence[int]) -> Path:
    rows: list[list[object]] = []
    for k, said in enumerate(attacks):
        row: list[object] = [f"2019-09-11 20:00:{k:02d}", 0.1 * k, 1.5, 54_000 + k, 30.0]
        rows.append([*row, said, *([said, 0, 0] if label == "attack" else [])] if label else row)
    beside = [label, *(["attack_P1", "attack_P2", "attack_P3"] if label == "attack" else [])]
    return table(path, [stamp, *SENSORS, *(beside if label else [])], rows, sep)


@pytest.mark.parametrize(
    ("label", "stamp", "sep"),
    [("attack", "time", ";"), ("attack", "time", ","), ("Attack", "timestamp", ",")],
)
def test_hai_in_its_layouts(tmp_path: Path, label: str, stamp: str, sep: str) -> None:
    hai(tmp_path / "train1.csv", label, stamp, sep, [0] * 20)
    path = hai(tmp_path / "test1.csv", label, stamp, sep, [0] * 5 + [1] * 5 + [0] * 10)
    with path.open("a", encoding="ascii") as file:
        file.write(
            sep.join(
                [
                    "2019-09-11 20:00:20",
                    "",
                    "1.5",
                    "bad",
                    "30.0",
                    "0",
                    *("000" if label == "attack" else ""),
                ]
            )
            + "\n"
        )
    assert sniff(path) == "hai"
    prepared = prepare("hai", [tmp_path], cache=None)
    assert prepared.features == tuple(SENSORS)
    assert prepared.groups == ("test1", "train1")
    assert classes(prepared) == {"benign": 36, "attack": 5}
    assert prepared.ordered
    last = np.flatnonzero(prepared.group == 0)[-1]
    assert value(prepared, last, "P1_B2004") == pytest.approx(1.9)  # the sensor's last one
    assert value(prepared, last, "P2_CO_rpm") == 54_019
    assert prepared.counts["values filled"] == 2
    assert prepared.counts["values no number"] == 1
    assert np.diff(prepared.ts[prepared.group == 0]).tolist() == [1.0] * 20
    assert len(windows(prepared, np.arange(len(prepared)), 10)) == 12 + 11


def test_hai_with_labels_in_another_file(tmp_path: Path) -> None:
    hai(tmp_path / "hai-train1.csv", "", "timestamp", ",", [0] * 8)
    hai(tmp_path / "hai-test1.csv", "", "timestamp", ",", [0] * 8)
    labels: list[list[object]] = [[f"2019-09-11 20:00:{k:02d}", int(k > 5)] for k in range(8)]
    aside = table(tmp_path / "label-test1.csv", ["timestamp", "label"], labels)
    prepared = prepare("hai", [tmp_path], cache=None)
    assert classes(prepared) == {"benign": 14, "attack": 2}
    assert prepared.counts["rows read"] == 16
    labels[0][1] = ""  # nobody says what it is
    labels[1][1] = 1
    table(aside, ["timestamp", "label"], labels)
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    changed = prepare("hai", [tmp_path], cache=cache)
    assert classes(changed) == {"benign": 12, "attack": 3}
    assert changed.counts["dropped: label missing"] == 1
    table(aside, ["timestamp", "label"], labels[:5])
    with pytest.raises(InputError, match="fewer rows"):
        prepare("hai", [tmp_path], cache=cache)


@pytest.mark.parametrize("wide", [False, True])
def test_hai_as_npz(tmp_path: Path, wide: bool) -> None:
    stamps = np.array([f"2019-09-11 20:00:{k:02d}" for k in range(10)])
    x = np.arange(40.0).reshape(10, 4)
    attack = np.array([0] * 7 + [1] * 3)
    path = tmp_path / "test1.npz"
    if wide:
        np.savez(path, x=x, columns=np.array(SENSORS), timestamp=stamps, attack=attack)
    else:
        sensors: dict[str, Any] = dict(zip(SENSORS, x.T, strict=True))
        np.savez_compressed(path, time=stamps, attack=attack, **sensors)
    assert sniff(path) == "hai"
    prepared = prepare("hai", [path], cache=None)
    assert prepared.x.tolist() == x.tolist()
    assert classes(prepared) == {"benign": 7, "attack": 3}


def test_an_npz_of_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, time=np.array([{"a": 1}], dtype=object), P1_A=np.zeros(1), P1_B=np.zeros(1))
    with pytest.raises(InputError, match="plain arrays"):
        prepare("hai", [path], cache=None)


def test_a_table_that_lacks_columns_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "few.csv", ["dur", "sbytes", "label"], [[1, 2, 0]])
    with pytest.raises(InputError, match="it lacks"):
        prepare("unsw", [path], cache=None)
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="ascii")
    with pytest.raises(InputError, match="is empty or no text"):
        prepare("unsw", [empty], cache=None)
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"a,b\n" * 50_000)[:60])
    with pytest.raises(InputError, match="cut or damaged"):
        prepare("unsw", [cut], cache=None)


def test_a_zip_of_several_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a,b\n")
        archive.writestr("b.csv", "a,b\n")
    with pytest.raises(InputError, match="holds 2 files"):
        prepare("nslkdd", [path], cache=None)


# --- larger than memory ---------------------------------------------------------------------

STREAM = """
import resource, sys
from pathlib import Path
import pandas
from trainer.sets import tabular
from trainer.sets.registry import prepare
tabular.CELLS = 1 << 17
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
made = prepare("nbaiot", [Path(sys.argv[1])], cache=Path(sys.argv[2]))
print(before, peak(), len(made), type(made.x).__name__)
"""


def streamed(path: Path, cache: Path) -> tuple[int, int, str]:
    """Return the bytes by which preparing a file raised a process's peak, rows and type of x."""
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(path), str(cache)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    before, after, rows, kind = done.stdout.split()
    return int(after) - int(before), int(rows), kind


def test_files_larger_than_memory_stream_through(tmp_path: Path) -> None:
    head = [f.name for f in nbaiot.MAPPING.features]
    rng = np.random.default_rng(1)
    block = b"".join(
        (",".join(f"{v:.12g}" for v in row) + "\n").encode() for row in rng.random((1_000, 115))
    )
    rises = []
    for times in (10, 40):
        path = tmp_path / f"door{times}.gafgyt.udp.csv"
        with path.open("wb") as file:
            file.write((",".join(head) + "\n").encode())
            for _ in range(times):
                file.write(block)
        rise, rows, kind = streamed(path, tmp_path / "cache")
        assert rows == times * 1_000  # 35 pieces of 1,139 rows
        assert kind == "memmap"
        rises.append(rise)
        size = path.stat().st_size
    assert rises[1] < size / 2
    # What grows is what is kept of each row beside its features, 26 bytes and their copies.
    assert rises[1] - rises[0] < 30_000 * 26 * 5


def test_batches_stream_into_tensorflow(data: Path, tmp_path: Path) -> None:
    prepared = prepare("iot23", [data], cache=tmp_path)
    assert isinstance(prepared.x, np.memmap)
    dealt = split(prepared)
    whole = windows(prepared, dealt.train, 10, stride=2)
    stream = batches(prepared, dealt.train, 10, stride=2, batch=64, seed=3)
    assert int(stream.cardinality()) == -(-len(whole) // 64)
    passes = [[(x.numpy(), y.numpy()) for x, y in stream] for _ in range(2)]
    for parts in passes:
        assert len(parts) == int(stream.cardinality())
        x = np.concatenate([x for x, _ in parts])
        assert np.sort(x.sum(axis=(1, 2))) == pytest.approx(np.sort(whole.x.sum(axis=(1, 2))))
        labels = np.concatenate([y for _, y in parts])
        assert np.bincount(labels).tolist() == np.bincount(whole.label).tolist()
    assert not (passes[0][0][0] == passes[1][0][0]).all()  # another order each time
    again = batches(prepared, dealt.train, 10, stride=2, batch=64, seed=3)
    assert (next(iter(again))[0].numpy() == passes[0][0][0]).all()  # the same in the next run


# --- the document and the table ---------------------------------------------------------------


def test_the_document_is_the_mappings() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert text.partition(MARK)[2].strip() == document().strip(), (
        "run python -m trainer.sets --markdown docs/datasets.md"
    )
    for reader in READERS.values():
        assert f"\n## {reader.name}\n" in text


@pytest.fixture
def shown(data: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trainer.sets", *words],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip

    return run


def test_one_table_shows_the_sets(
    data: Path, shown: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = shown(str(data), "--set", "nslkdd", "--set", "iotid20", "--counts",
                 "--cache", str(tmp_path / "cache"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["iotid20", "nslkdd"]
    assert "25,192" in lines[3]
    assert "    dropped: repeated: 1,149" in lines
    kept = sorted(p.name.partition("-")[0] for p in (tmp_path / "cache").glob("*-*"))
    assert kept == ["iotid20", "nslkdd"]
    facts = next((tmp_path / "cache").glob("nslkdd-*")) / "set.json"
    assert json.loads(facts.read_text(encoding="utf-8"))["digest"][:12] in lines[3]


def test_a_folder_without_sets_is_told(
    shown: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = shown(str(tmp_path))
    assert done.returncode == 1
    assert "holds none of" in done.stderr
    assert "Traceback" not in done.stderr
