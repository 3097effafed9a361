"""NSL-KDD: 41 features of connections of 1998, the attack's name and a difficulty.

The table has no names and no times: rows are in no order that is known. Repeated rows are
dropped. `num_outbound_cmds` is 0 everywhere and stays, so that models have the published columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.sets.mapping import Feature, Mapping, one_of
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.rows import add_frame
from trainer.sets.tabular import head_of, pieces, present, table_of
from trainer.sets.writer import Nature, Writer

COLUMNS = (
    "duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land",
    "wrong_fragment", "urgent", "hot", "num_failed_logins", "logged_in", "num_compromised",
    "root_shell", "su_attempted", "num_root", "num_file_creations", "num_shells",
    "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login", "count",
    "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate",
    "same_srv_rate", "diff_srv_rate", "srv_diff_host_rate", "dst_host_count",
    "dst_host_srv_count", "dst_host_same_srv_rate", "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate", "dst_host_serror_rate",
    "dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate",
    "label", "difficulty",
)  # fmt: skip
"""In the order of the file."""

_SERVICES = (
    "aol auth bgp courier csnet_ns ctf daytime discard domain domain_u echo eco_i ecr_i efs "
    "exec finger ftp ftp_data gopher harvest hostnames http http_2784 http_443 http_8001 "
    "imap4 irc iso_tsap klogin kshell ldap link login mtp name netbios_dgm netbios_ns "
    "netbios_ssn netstat nnsp nntp ntp_u other pm_dump pop_2 pop_3 printer private red_i "
    "remote_job rje shell smtp sql_net ssh sunrpc supdup systat telnet tftp_u tim_i time "
    "urh_i urp_i uucp uucp_path vmnet whois x11 z39_50"
)
"""All 70 that the set knows."""
_FLAGS = ("sf", "s0", "rej", "rstr", "rsto", "s1", "s2", "s3", "sh", "oth", "rstos0")
_AMOUNTS = {"duration": "seconds", "src_bytes": "bytes", "dst_bytes": "bytes"}
_FLAGGED = {"land", "logged_in", "root_shell", "is_host_login", "is_guest_login"}


def _plain(name: str) -> Feature:
    if name in _AMOUNTS:
        return Feature(name, (name,), _AMOUNTS[name], "log")
    if name.endswith("_rate"):
        return Feature(name, (name,), "share")
    if name in _FLAGGED:
        return Feature(name, (name,), "flag")
    return Feature(name, (name,), "count", "log")


_KINDS = {
    "dos": "neptune smurf back teardrop pod land apache2 mailbomb processtable udpstorm worm",
    "probe": "ipsweep satan portsweep nmap mscan saint",
    "r2l": "warezclient warezmaster guess_passwd ftp_write imap multihop phf spy httptunnel named"
    " sendmail snmpgetattack snmpguess xlock xsnoop",
    "u2r": "buffer_overflow rootkit loadmodule perl ps sqlattack xterm",
}
LABELS = {"normal": "benign"} | {
    name: kind for kind, names in _KINDS.items() for name in names.split()
}

MAPPING = Mapping(
    version=1,
    features=(
        *(one_of(f"proto_{p}", "protocol_type", p) for p in ("tcp", "udp", "icmp")),
        *(one_of(f"service_{s}", "service", s) for s in _SERVICES.split()),
        *(one_of(f"flag_{f}", "flag", f) for f in _FLAGS),
        *(_plain(c) for c in COLUMNS[:-2] if c not in ("protocol_type", "service", "flag")),
    ),
    classes=("benign", "dos", "probe", "r2l", "u2r"),
    labels=LABELS,
    label_columns=("label",),
    dropped={
        "difficulty": "how many of 21 classifiers were right about the row: it tells the label"
    },
    order="none: the rows of the published files are in no known order",
    groups="the file",
    notes=("Attacks are put into the four families of the data set's authors.",),
)

_WHOLE = (125_973, 22_544)
"""Rows of KDDTrain+ and KDDTest+."""


def _sniff(path: Path) -> bool:
    lines = head_of(path, 4096)
    return bool(lines) and lines[0].count(",") in (41, 42) and lines[0].split(",")[1] in (
        "tcp", "udp", "icmp", " protocol_type", "protocol_type",
    )  # fmt: skip


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    tables = [table_of(path, {43: COLUMNS, 42: COLUMNS[:-1]}) for path in paths]
    features = present(MAPPING, tables, writer, echo)
    writer.begin([f.name for f in features])
    for table, name in zip(tables, group_names(paths), strict=True):
        for frame in pieces(table, limit, writer):
            add_frame(writer, MAPPING, features, frame, table, writer.group(name))
    why = "the file has no times, so its rows make no sequences"
    if writer.counts.get("rows read", 0) == sum(_WHOLE):
        return Nature(False, True, f"{why[0].upper()}{why[1:]}.")
    return Nature(
        False, False, f"Only a part of KDDTrain+ and KDDTest+ is at hand, and {why}."
    )  # fmt: skip


READER = Reader(
    "nslkdd", "NSL-KDD", MAPPING, _read, _sniff,
    "Tavallaee, Bagheri, Lu, Ghorbani 2009",
)  # fmt: skip
