"""IoTID20: flows of a smart home by CICFlowMeter, its 2018 naming with underscores.

Copies differ: the published file has 86 columns with text, others have some columns with codes
for addresses and times. Repeated rows are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.sets.cicnames import DROPPED, FEATURES
from trainer.sets.mapping import Mapping
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.rows import add_frame
from trainer.sets.tabular import column_of, head_of, pieces, present, table_of, texts
from trainer.sets.times import seconds
from trainer.sets.writer import Nature, Writer

MAPPING = Mapping(
    version=1,
    features=FEATURES,
    classes=("benign", "dos", "mirai", "mitm", "scan", "attack"),
    labels={
        "normal": "benign", "0": "benign", "dos": "dos", "mirai": "mirai",
        "mitm arp spoofing": "mitm", "scan": "scan", "anomaly": "attack", "1": "attack",
    },
    label_columns=("Cat", "Label"),
    dropped=DROPPED | {"Sub_Cat": "finer than the class", "Label": "coarser than Cat"},
    order="Timestamp where it is text; some copies have a code for it, which orders nothing",
    groups="the file",
    notes=("`attack` is an attack of which the copy does not say the kind.",),
    least=0.25,
)  # fmt: skip

_WHOLE = 625_783


def _sniff(path: Path) -> bool:
    lines = head_of(path)
    names = {name.strip() for name in lines[0].split(",")} if lines else set()
    return {"Flow_Duration", "Flow_IAT_Mean", "Idle_Mean", "Label"} <= names


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    tables = [table_of(path) for path in paths]
    features = present(MAPPING, tables, writer, echo)
    writer.begin([f.name for f in features])
    timed = True
    for table, name in zip(tables, group_names(paths), strict=True):
        column = column_of(MAPPING.label_columns, table.columns) or "label"
        for frame in pieces(table, limit, writer):
            stamps = frame["timestamp"] if "timestamp" in table.columns else None
            timed &= stamps is not None and stamps.dtype.kind not in "iuf"
            add_frame(
                writer, MAPPING, features, frame, table, writer.group(name),
                ts=seconds(stamps, writer) if timed else None,
                label=[text.removesuffix(".0") for text in texts(frame[column])],
            )  # fmt: skip
    if writer.counts.get("rows read", 0) == _WHOLE:
        return Nature(timed, True, "" if timed else "Times are codes, so rows make no sequences.")
    return Nature(
        False, False, "Only a sample of the rows is at hand, in no order that is known."
    )  # fmt: skip


READER = Reader("iotid20", "IoTID20", MAPPING, _read, _sniff, "Ullah, Mahmoud 2020")
