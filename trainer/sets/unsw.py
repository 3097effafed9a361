"""UNSW-NB15: flows of Argus and Bro with 49 columns, as raw files, as the published parts for
training and testing, and one-hot as some copies have it.

Repeated rows are dropped. Rows make sequences only where all of the raw files are at hand, since
other copies are samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guardian.errors import InputError
from trainer.sets.mapping import Feature, Form, Mapping, one_of
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.rows import add_frame
from trainer.sets.tabular import column_of, pieces, present, table_of, texts
from trainer.sets.times import seconds
from trainer.sets.writer import Nature, Writer

_RAW = """
    srcip sport dstip dsport proto state dur sbytes dbytes sttl dttl sloss dloss service Sload
    Dload Spkts Dpkts swin dwin stcpb dtcpb smeansz dmeansz trans_depth res_bdy_len Sjit Djit Stime
    Ltime Sintpkt Dintpkt tcprtt synack ackdat is_sm_ips_ports ct_state_ttl ct_flw_http_mthd
    is_ftp_login ct_ftp_cmd ct_srv_src ct_srv_dst ct_dst_ltm ct_src_ltm ct_src_dport_ltm
    ct_dst_sport_ltm ct_dst_src_ltm attack_cat Label
"""
RAW = tuple(_RAW.split())
"""Columns of the four raw files, which have no line of names."""

_AMOUNTS = """
dur         seconds   | dur
sbytes      bytes     | sbytes
dbytes      bytes     | dbytes
rate        packets/s | rate
sload       bits/s    | sload
dload       bits/s    | dload
spkts       packets   | spkts
dpkts       packets   | dpkts
sloss       packets   | sloss
dloss       packets   | dloss
swin        number    | swin
dwin        number    | dwin
smean       bytes     | smeansz | smean
dmean       bytes     | dmeansz | dmean
trans_depth count     | trans_depth
body        bytes     | res_bdy_len | response_body_len
sjit        ms        | sjit
djit        ms        | djit
sgap        ms        | sintpkt | sinpkt
dgap        ms        | dintpkt | dinpkt
tcprtt      seconds   | tcprtt
synack      seconds   | synack
ackdat      seconds   | ackdat
same_ends   flag      | is_sm_ips_ports
ftp_login   flag      | is_ftp_login
ftp_cmd     count     | ct_ftp_cmd
http_mthd   count     | ct_flw_http_mthd
srv_src     count     | ct_srv_src
srv_dst     count     | ct_srv_dst
dst_ltm     count     | ct_dst_ltm
src_ltm     count     | ct_src_ltm
src_dport   count     | ct_src_dport_ltm
dst_sport   count     | ct_dst_sport_ltm
dst_src     count     | ct_dst_src_ltm
"""


def _amount(line: str) -> Feature:
    words, *names = (part.strip() for part in line.split("|"))
    name, unit = words.split()
    form: Form = "raw" if unit == "flag" else "log"
    return Feature(name, tuple(names), unit, form)


def _word(column: str, value: str) -> Feature:
    """Return the flag of a value, from its own column where the copy is one-hot."""
    return one_of(f"{column}_{value}", (column, f"{column}={value}"), value, "1")


_KINDS = (
    "analysis", "backdoor", "dos", "exploits", "fuzzers", "generic", "reconnaissance",
    "shellcode", "worms",
)  # fmt: skip

MAPPING = Mapping(
    version=1,
    features=(
        *(_word("proto", p) for p in ("tcp", "udp")),
        *(_word("service", s) for s in ("dns", "http", "ftp", "ftp-data", "smtp", "ssh", "pop3")),
        *(_word("state", s) for s in ("fin", "con", "int", "req", "rst")),
        *(_amount(line) for line in _AMOUNTS.strip().splitlines()),
    ),
    classes=("benign", *_KINDS, "attack"),
    labels={"normal": "benign", "benign": "benign", "0": "benign", "backdoors": "backdoor"}
    | {kind: kind for kind in _KINDS}
    | {"malicious": "attack", "1": "attack"},
    label_columns=("attack_cat", "label"),
    dropped={
        "id": "a row's number",
        "srcip": "an address: attacks come from four hosts of the laboratory",
        "dstip": "an address",
        "sport": "chosen by chance",
        "dsport": "tells the service, which is a feature",
        "sttl": "attacks came through a generator of traffic with another TTL: it tells the label",
        "dttl": "the same",
        "ct_state_ttl": "made of both TTLs",
        "stcpb": "a random number of TCP's",
        "dtcpb": "a random number of TCP's",
        "Stime": "attacks have their hours: it tells the label; it orders the rows",
        "Ltime": "the same",
        "proto=other": "said by the others",
        "service=-": "said by the others",
        "service=other": "said by the others",
        "state=other": "said by the others",
    },
    order="Stime, whole seconds",
    groups="the file",
    notes=(
        "Published figures use the TTL columns, which alone tell most attacks from the rest;"
        " figures here do not.",
        "`attack` is an attack of which the copy does not say the kind.",
    ),
    least=0.4,
)

_PARTS = (175_341, 82_332)
"""Rows of the published parts for training and testing."""
_WHOLE = 2_540_047
"""Rows of the four raw files."""


def _sniff(path: Path) -> bool:
    try:
        columns = set(table_of(path, {49: RAW}).columns)
    except InputError:
        return False
    return {"dur", "sbytes", "ct srv src", "ct dst ltm"} <= columns


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    tables = [table_of(path, {49: RAW}) for path in paths]
    features = present(MAPPING, tables, writer, echo)
    writer.begin([f.name for f in features])
    for table, name in zip(tables, group_names(paths), strict=True):
        kind = column_of(("attack_cat",), table.columns)
        for frame in pieces(table, limit, writer):
            label = texts(frame["label"])
            if kind:
                both = zip(texts(frame[kind]), label, strict=True)
                label = [cat if cat.strip(" -") else said for cat, said in both]
            ts = seconds(frame["stime"], writer) if "stime" in table.columns else None
            add_frame(
                writer, MAPPING, features, frame, table, writer.group(name), ts=ts,
                label=[text.removesuffix(".0") for text in label],
            )  # fmt: skip
    read = writer.counts.get("rows read", 0)
    whole = read == _WHOLE and all("stime" in table.columns for table in tables)
    if whole or read == sum(_PARTS):
        why = "TTLs are left out, since they tell the laboratory's hosts; published figures use"
        more = "" if whole else ", and the parts are no sequences"
        return Nature(whole, False, f"{why} them{more}.")
    return Nature(
        False, False, "Only sampled rows of the set are at hand, and published figures use TTLs,"
        " which are left out here."
    )  # fmt: skip


READER = Reader("unsw", "UNSW-NB15", MAPPING, _read, _sniff, "Moustafa, Slay 2015")
