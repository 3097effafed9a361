"""The benchmark's captures are what they say: whole connections, right sums, the same by seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.tables import CONN_STATES, Conns
from tests.bench_captures import grown, mixed, synscan
from tests.bench_guardian import digest
from tests.bench_pcap import Plan, write


def read(path: Path, table: ConnTable) -> tuple[list[Conns], int]:
    """Return records told before the end of a file, and its packets; none of them is faulty."""
    decoder, told, packets = Decoder(), [], 0
    for frames in read_frames(path):
        decoded = decoder.decode(frames)
        assert not decoded.packets.bad_csum.any()
        assert decoded.malformed == 0
        assert not decoded.not_understood
        packets += len(decoded.packets)
        told.append(table.step(decoded).records)
    return told, packets


def states(records: Conns) -> dict[str, int]:
    names, counts = np.unique(records.conn_state, return_counts=True)
    return {CONN_STATES[k]: n for k, n in zip(names.tolist(), counts.tolist(), strict=True)}


def test_mixed_has_whole_connections_of_many_kinds(tmp_path: Path) -> None:
    plan = mixed(packets=30_000, conns=600, seconds=100)
    path, again = tmp_path / "a.pcap", tmp_path / "b.pcap"
    write(path, plan)
    write(again, mixed(packets=30_000, conns=600, seconds=100))
    assert path.read_bytes() == again.read_bytes()
    table = ConnTable(Lan())
    told, packets = read(path, table)
    records = Conns.concat([*told, table.finish().records])
    assert packets == len(plan) == 30_000
    assert 600 <= len(records) <= 606  # a pause of a minute cuts a QUIC connection in two
    assert not records.missed_bytes.any()
    assert records.local_orig[records.proto == 6].all()
    found = states(records)
    assert found.keys() >= {"SF", "S0", "REJ", "RSTO", "RSTR", "S1", "OTH"}
    assert found["SF"] > 400
    services = set(records.service.tolist())
    assert services >= {b"ssl", b"http", b"dns", b"ntp"}
    assert any(history.count(b"t") for history in records.history.tolist())  # sent again
    assert len(np.unique(records.proto)) == 4
    order = np.random.default_rng(1).permutation(len(records))
    assert digest([records]) == digest([records.take(order)])
    assert digest([records]) != digest([records.take(slice(1, None))])


def test_a_scan_is_one_packet_a_connection(tmp_path: Path) -> None:
    plan = synscan(conns=5_000, seconds=20)
    write(tmp_path / "a.pcap", plan)
    table = ConnTable(Lan())
    told, packets = read(tmp_path / "a.pcap", table)
    records = Conns.concat([*told, table.finish().records])
    assert len(records) == packets == 5_000
    assert states(records) == {"S0": 5_000}
    assert len(np.unique(records.resp[:, 1])) == 5_000


def test_a_grown_table_lives_while_the_data_flow(tmp_path: Path) -> None:
    live = 2_000
    plan, parts = grown(live, packets=4_000)
    assert [len(range(len(plan))[part]) for part in parts] == [5 * live + 1, 4_000, 4_000]
    table = ConnTable(Lan())
    told = []
    for part in parts:
        write(tmp_path / "a.pcap", plan, part)
        some, _ = read(tmp_path / "a.pcap", table)
        told += some
        assert table.live == live + 1
    assert sum(map(len, told)) == 0
    records = table.finish().records
    tcp = records.take(records.proto == 6)
    assert states(tcp) == {"S1": live}
    assert set(tcp.service.tolist()) == {b"ssl"}
    assert (tcp.orig_pkts + tcp.resp_pkts).sum() == 5 * live + 8_000
    assert len(ends_of_few(plan, parts[2])) <= 1_000


def ends_of_few(plan: Plan, part: slice) -> set[int]:
    return set(plan.conn[part].tolist())
