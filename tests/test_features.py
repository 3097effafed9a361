"""Features: equal to their slow twin, however the slices are cut into steps."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import capture, decode, slices, zeeklog
from guardian.addresses import Lan, pack_all
from guardian.conns import ConnTable
from guardian.const import CAP_WINDOW_COUNT, MAX_PAIRS_PER_DEVICE, NS
from guardian.context import Contexts
from guardian.featurelist import FEATURES, markdown
from guardian.features import GROUPS, NAMES, TEXTS, FeatureExtractor, describe, natural
from guardian.tables import CONN_STATES, I32, Conns, FeatureRows
from tests.conftest import ROOT
from tests.twins import features as twin

T0 = 1_600_000_200 * NS
HOME = ["192.168.1.10", "192.168.1.11"]
PEERS = ["8.8.8.8", "46.101.251.172", "2a00::1", "192.168.1.20", "fe80::9", "239.255.255.250",
         "192.168.1.255"]  # fmt: skip


def code(name: str) -> int:
    return CONN_STATES.index(name)


def conns(**columns: Any) -> Conns:
    """Slices with the given columns (lists of one length); the others as a quiet UDP call's."""
    n = max(len(v) for v in columns.values())
    table = Conns.blank(n)
    table.uid[:] = [f"C{i:06d}" for i in range(n)]
    table.orig[:] = pack_all([HOME[0]])
    table.resp[:] = pack_all([PEERS[0]])
    table.proto[:] = 17
    table.resp_p[:] = 53
    table.conn_state[:] = code("SF")
    table.orig_pkts[:] = table.resp_pkts[:] = 1
    table.orig_ip_bytes[:], table.resp_ip_bytes[:] = 60, 120
    table.ts[:] = T0
    for name, values in columns.items():
        wide = pack_all(values) if name in ("orig", "resp") else values
        getattr(table, name)[:] = wide
    if "told" not in columns:
        table.told[:] = table.ts
    table.local_orig[:] = Lan().local(table.orig)
    table.local_resp[:] = Lan().local(table.resp)
    return table


def sides(table: Conns) -> tuple[I32, I32]:
    """The devices of HOME by address, others none."""
    index = {tuple(a): k for k, a in enumerate(pack_all(HOME).tolist())}
    return (
        np.array([index.get(tuple(a), -1) for a in table.orig.tolist()], dtype=np.int32),
        np.array([index.get(tuple(a), -1) for a in table.resp.tolist()], dtype=np.int32),
    )


def extract(table: Conns, extractor: FeatureExtractor | None = None) -> FeatureRows:
    extractor = FeatureExtractor(Lan()) if extractor is None else extractor
    return extractor.step(table, *sides(table))


def column(rows: FeatureRows, name: str) -> list[float]:
    values: list[float] = rows.x[:, NAMES.index(name)].tolist()
    return values


@st.composite
def lives(draw: st.DrawFn, most: int = 40) -> Conns:
    """The slices of two devices: few peers, ports and sizes, so that they meet again."""
    n = draw(st.integers(1, most))

    def many(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    waits = st.sampled_from([0, 0, 1, NS // 100, NS, 30 * NS, 60 * NS - 1, 60 * NS, 600 * NS,
                             1_800 * NS, 4_000 * NS, 90_000 * NS])  # fmt: skip
    told = T0 + np.cumsum(many(waits))
    ends = many(st.tuples(st.sampled_from(HOME), st.sampled_from(PEERS + HOME), st.booleans()))
    return conns(
        told=told,
        ts=told - np.array(many(st.sampled_from([0, 0, NS // 10, 5 * NS]))),
        orig=[b if turn else a for a, b, turn in ends],
        resp=[a if turn else b for a, b, turn in ends],
        orig_p=many(st.sampled_from([8, 3, 40_000])),
        resp_p=many(st.sampled_from([53, 80, 23, 40_000])),
        proto=many(st.sampled_from([6, 6, 17, 1])),
        conn_state=many(st.sampled_from([code(s) for s in ("SF", "S0", "REJ", "S1", "OTH")])),
        orig_bytes=many(st.sampled_from([-1, 0, 48, 900])),
        orig_ip_bytes=many(st.sampled_from([40, 76, 1_500_000])),
        resp_ip_bytes=many(st.sampled_from([0, 76, 1_000])),
        resp_pkts=many(st.sampled_from([0, 1])),
        piece=many(st.sampled_from([0, 0, 0, 1])),
    )


def assert_twin(table: Conns) -> None:
    rows = extract(table)
    expected = twin.table(table, *sides(table))
    assert len(rows) == len(expected)
    for k, columns in enumerate(expected):
        for name, value in columns.items():
            got = float(rows.x[k, NAMES.index(name)])
            assert got == pytest.approx(value, rel=1e-5, abs=1e-5), (k, name)


# --- the twin and the cut into steps --------------------------------------------


@given(lives())
@settings(max_examples=120)
def test_equal_to_the_twin(table: Conns) -> None:
    assert_twin(table)


def test_the_twin_computes_every_feature_with_a_memory() -> None:
    names = twin.table(conns(ts=[T0]), *sides(conns(ts=[T0])))[0]
    with_memory = {n for n, g in GROUPS.items() if g in ("gaps", "pair", "context", "relative")}
    assert set(names) == with_memory


def test_equal_to_the_twin_beyond_the_caps() -> None:
    rng = np.random.default_rng(5)
    n = 4 * CAP_WINDOW_COUNT
    told = T0 + np.cumsum(rng.choice([0, NS // 5, 2 * NS], n))
    assert_twin(
        conns(
            told=told, ts=told, resp=[PEERS[k] for k in rng.choice(7, n)],
            resp_p=rng.choice([53, 80, 123], n), piece=rng.choice([0, 0, 0, 2], n),
            conn_state=rng.choice([code("SF"), code("S0")], n),
            orig_ip_bytes=rng.integers(40, 9_000, n),
        )
    )  # fmt: skip


@given(lives(), st.data())
@settings(max_examples=60)
def test_the_cut_into_steps_changes_nothing(table: Conns, data: st.DataObject) -> None:
    whole = extract(table)
    cuts = data.draw(st.lists(st.integers(0, len(table)), max_size=5).map(sorted))
    extractor = FeatureExtractor(Lan())
    at = 0
    parts = []
    for begin, end in zip([0, *cuts], [*cuts, len(table)], strict=True):
        rows = extract(table.take(slice(begin, end)), extractor)
        parts.append((rows, begin))
    for rows, begin in parts:
        part = slice(at, at + len(rows))
        assert np.array_equal(rows.x, whole.x[part])
        assert np.array_equal(rows.row + begin, whole.row[part])
        assert np.array_equal(rows.device, whole.device[part])
        at += len(rows)
    assert at == len(whole)


@given(lives())
@settings(max_examples=40)
def test_addresses_and_absolute_times_are_no_features(table: Conns) -> None:
    week = 7 * 86_400 * NS
    names = {**dict(zip(PEERS, PEERS, strict=True)), "8.8.8.8": "203.0.113.77",
             "46.101.251.172": "2001:db8::5", "2a00::1": "99.1.2.3", "192.168.1.20": "10.7.7.7",
             "fe80::9": "fd00::77", "239.255.255.250": "ff02::fb"}  # fmt: skip
    old, new = pack_all(names.keys()), pack_all(names.values())
    moved = conns(ts=table.ts + week, told=table.told + week)
    for name in ("orig_p", "resp_p", "proto", "conn_state", "orig_bytes", "orig_ip_bytes",
                 "resp_ip_bytes", "resp_pkts", "piece"):  # fmt: skip
        getattr(moved, name)[:] = getattr(table, name)
    for name in ("orig", "resp"):
        before, after = getattr(table, name), getattr(moved, name)
        after[:] = before
        for a, b in zip(old, new, strict=True):
            after[(before == a).all(axis=1)] = b
        getattr(moved, f"local_{name}")[:] = Lan().local(after)
    assert np.array_equal(extract(moved).x, extract(table).x)


# --- what single columns say ------------------------------------------------------


def test_out_and_in_are_the_devices_own() -> None:
    table = conns(
        orig=[HOME[0], PEERS[0], HOME[0]], resp=[PEERS[0], HOME[0], HOME[1]],
        ts=[T0, T0, T0], orig_ip_bytes=[100, 200, 300], resp_ip_bytes=[1, 2, 3],
    )  # fmt: skip
    rows = extract(table)
    assert rows.row.tolist() == [0, 1, 2, 2]
    assert rows.device.tolist() == [0, 0, 0, 1]
    assert rows.outbound.tolist() == [True, False, True, False]
    assert np.expm1(column(rows, "bytes_out")) == pytest.approx([100, 2, 300, 3], rel=1e-5)
    assert np.expm1(column(rows, "bytes_in")) == pytest.approx([1, 200, 3, 300], rel=1e-5)
    assert column(rows, "inbound") == [0, 1, 0, 1]
    assert column(rows, "peer_local") == [0, 0, 1, 1]


def test_a_strangers_connections_have_no_rows() -> None:
    table = conns(orig=["8.8.4.4"], resp=["8.8.8.8"])
    assert len(extract(table)) == 0
    assert extract(Conns.empty()).x.shape == (0, len(NAMES))


def test_one_class_each_of_state_protocol_port_and_peer() -> None:
    states = list(range(len(CONN_STATES)))
    rows = extract(conns(conn_state=states, proto=[6] * len(states)))
    groups = ["done", "open", "unanswered", "refused", "reset"]
    found = {CONN_STATES[s]: [g for g in groups if column(rows, f"state_{g}")[s]] for s in states}
    assert found == {
        "OTH": [], "S0": ["unanswered"], "S1": ["open"], "SF": ["done"], "REJ": ["refused"],
        "S2": ["open"], "S3": ["open"], "RSTO": ["reset"], "RSTR": ["reset"],
        "RSTOS0": ["refused"], "RSTRH": ["refused"], "SH": ["unanswered"], "SHR": [],
    }  # fmt: skip
    ports = [443, 53, 123, 25, 23, 1883, 1900, 50_000, 700, 8]
    rows = extract(conns(resp_p=ports, proto=[6, 17, 17, 6, 6, 6, 17, 6, 17, 1]))
    classes = ["web", "dns", "ntp", "mail", "admin", "iot", "infra", "high"]
    named = [[c for c in classes if column(rows, f"port_{c}")[k]] for k in range(len(ports))]
    assert named == [[c] for c in classes] + [[], []]
    rows = extract(conns(resp=PEERS))
    assert column(rows, "peer_local") == [0, 0, 0, 1, 1, 0, 0]
    assert column(rows, "peer_multicast") == [0, 0, 0, 0, 0, 1, 1]


def test_services_are_those_of_zeek() -> None:
    names = [b"", b"dns", b"http", b"ssl,http", b"ssh", b"ntp", b"mqtt", b"ssdp", b"quic"]
    rows = extract(conns(service=names))
    assert column(rows, "service_dns") == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert column(rows, "service_http") == [0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert column(rows, "service_tls") == [0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert column(rows, "service_other") == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_what_fails() -> None:
    table = conns(
        proto=[6, 6, 17, 17, 17, 1, 1, 1],
        conn_state=[code(s) for s in ("S0", "SF", "S0", "S0", "S0", "OTH", "OTH", "OTH")],
        resp=[PEERS[0], PEERS[0], PEERS[0], PEERS[5], HOME[0], PEERS[0], PEERS[0], PEERS[0]],
        orig=[HOME[0], HOME[0], HOME[0], HOME[0], PEERS[0], HOME[0], HOME[0], HOME[0]],
        orig_p=[1, 1, 1, 1, 1, 8, 8, 3], resp_pkts=[0, 1, 0, 0, 0, 0, 1, 0],
    )  # fmt: skip
    assert column(extract(table), "failed") == [1, 0, 1, 0, 0, 1, 0, 0]


def test_history_flags() -> None:
    table = conns(history=[b"ShADadtFf", b"DdA", b"^hADa", b"", b"Dd"], proto=[6, 6, 6, 6, 17])
    assert column(extract(table), "retransmitted") == [1, 0, 0, 0, 0]
    assert column(extract(table), "midstream") == [0, 1, 0, 0, 0]


def test_unset_bytes_look_like_none() -> None:
    unset, none = conns(orig_bytes=[-1], resp_bytes=[-1]), conns(orig_bytes=[0], resp_bytes=[0])
    assert np.array_equal(extract(unset).x, extract(none).x)


def test_a_beacon_keeps_its_time_and_size() -> None:
    ts = T0 + 300 * NS * np.arange(8)
    rows = extract(conns(ts=ts))
    assert column(rows, "pair_regular") == [0, 0, 0, 1, 1, 1, 1, 1]
    assert column(rows, "pair_equal") == [0, 1, 1, 1, 1, 1, 1, 1]
    assert column(rows, "pair_new") == [1] + [0] * 7
    late = extract(conns(ts=[*ts.tolist(), int(ts[-1]) + 330 * NS]))
    assert column(late, "pair_regular")[-1] == pytest.approx(300 / 330)


def test_updates_count_bytes_but_no_connection() -> None:
    rows = extract(
        conns(ts=[T0] * 3, told=[T0, T0 + 20 * NS, T0 + 40 * NS], piece=[0, 1, 2],
              age=[5, 65, 125])
    )  # fmt: skip
    assert np.expm1(column(rows, "minute_conns")) == pytest.approx([1, 1, 1])
    assert np.expm1(column(rows, "pair_count")) == pytest.approx([1, 1, 1])
    assert np.expm1(column(rows, "minute_bytes_out")) == pytest.approx([60, 120, 180], rel=1e-5)
    assert column(rows, "update") == [0, 1, 1]
    assert column(rows, "gap_device")[1:] == [0, 0]
    assert column(rows, "pair_new") == [1, 0, 0]


class Summertime(tzinfo):
    """An hour ahead of UTC, two from June to August: a zone that needs no zone files."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1) + self.dst(moment)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=int(moment is not None and 6 <= moment.month <= 8))

    def tzname(self, moment: datetime | None) -> str:
        return f"summertime {moment}"


def test_hours_are_local() -> None:
    noon = 1_700_049_600  # 12:00 UTC on 15 November 2023
    summer = 1_689_422_400  # 12:00 UTC on 15 July 2023
    table = conns(ts=[noon * NS, summer * NS])

    def hours(**zone: Any) -> list[float]:
        rows = extract(table, FeatureExtractor(Lan(), **zone))
        angle = np.arctan2(column(rows, "hour_sin"), column(rows, "hour_cos"))
        return [round(float(h), 3) for h in angle / (2 * np.pi) * 24 % 24]

    assert hours() == [12, 12]
    assert hours(utc_offset_s=-5 * 3_600) == [7, 7]
    assert hours(zone=timezone.utc) == [12, 12]
    assert hours(zone=Summertime()) == [13, 14]


# --- bounds ------------------------------------------------------------------------


def test_absurd_values_stay_finite_and_in_range() -> None:
    top = np.iinfo(np.int64).max
    extremes: dict[str, list[Any]] = {
        "duration": [0, 1e300, np.inf, np.nan, -5],
        "age": [0, 1e9, 0, 0, -5],
        "conn_state": [0, 255, 3, 4, 5],
        "proto": [0, 6, 17, 1, 255],
        "history": [b"", b"T" * 48, b"^", b"\xff", b"S"],
        "service": [b"", b"," * 32, b"\xff\xfe", b"dns,ssl", b"x"],
    }
    for name in ("orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts", "orig_ip_bytes",
                 "resp_ip_bytes"):  # fmt: skip
        extremes[name] = [0, top, -1, 1 << 40, 1]
    table = conns(**extremes, ts=[T0, 0, T0 - NS, T0 + 4 * 3_600 * NS, T0],
                  told=[0, T0, T0 - NS, T0 + 4 * 3_600 * NS, T0])  # fmt: skip
    rows = extract(Conns.concat([table] * 3))
    assert np.isfinite(rows.x).all()
    for k, feature in enumerate(FEATURES):
        values = rows.x[:, k]
        assert values.min() >= feature.low - 1e-6, feature.name
        # The bytes of a minute are a sum, and are cut as one.
        assert values.max() <= feature.high + 1e-5, feature.name


def test_a_device_that_calls_everybody_stays_small() -> None:
    n = 3 * MAX_PAIRS_PER_DEVICE
    contexts = Contexts(8)
    extractor = FeatureExtractor(Lan())
    extractor._contexts = contexts
    peers = [f"9.9.{k // 250}.{k % 250 + 1}" for k in range(n)]
    ts = T0 + NS * np.arange(n)
    assert column(extract(conns(ts=ts, resp=peers), extractor), "pair_new") == [1] * n
    assert contexts.pairs == MAX_PAIRS_PER_DEVICE
    # The latest are remembered, the first are forgotten.
    again = conns(ts=[int(ts[-1])] * 2, resp=[peers[-1], peers[0]])
    assert column(extract(again, extractor), "pair_new") == [0, 1]


def test_devices_and_pairs_are_capped_for_all_together() -> None:
    lan = Lan()
    extractor = FeatureExtractor(lan, max_devices=3)
    table = conns(ts=[T0 + k for k in range(5)])
    none = np.full(5, -1, dtype=np.int32)
    extractor.step(table, np.arange(5, dtype=np.int32), none)
    assert extractor.devices == 3
    extractor._contexts = contexts = Contexts(100, max_pairs=4)
    rows = extractor.step(table, np.arange(5, dtype=np.int32), none)
    assert contexts.pairs == len(contexts) == 4
    assert column(rows, "pair_new") == [1] * 5
    back = extractor.step(table, np.array([4, 3, 0, -1, -1], dtype=np.int32), none)
    assert column(back, "pair_new") == [0, 0, 1]


def test_an_evicted_device_is_new_again() -> None:
    extractor = FeatureExtractor(Lan())
    table = conns(ts=[T0])
    first = extract(table, extractor)
    assert column(extract(table, extractor), "pair_new") == [0]
    extractor.evict(0)
    extractor.evict(77)
    assert extractor.devices == 0
    assert np.array_equal(extract(table, extractor).x, first.x)


# --- words --------------------------------------------------------------------------


def test_every_feature_has_a_name_a_group_and_words() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(TEXTS) == len(GROUPS)
    assert set(GROUPS.values()) == {"raw", "hour", "gaps", "pair", "context", "relative"}
    assert len(set(TEXTS.values())) == len(NAMES)
    for feature in FEATURES:
        for value in (feature.low, feature.high, -1e9, 1e9):
            assert describe(feature.name, value)
    with pytest.raises(KeyError):
        describe("ttl", 1.0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("minute_new_peers", np.log1p(78), "78"),
        ("minute_new_peers", np.log1p(100), "100 or more"),
        ("bytes_out", np.log1p(1_430), "1.4 kB"),
        ("bytes_in", np.log1p(12_345_678), "12 MB"),
        ("duration", np.log1p(10 * 3.2), "3.2 s"),
        ("gap_pair", np.log1p(100 * 0.25), "250 ms"),
        ("gap_pair", np.log1p(100 * 1_800), "30 min"),
        ("gap_pair", np.log1p(100 * 3_600), "1 h or more, or never before"),
        ("age", np.log1p(10 * 3_600), "1 h or more"),
        ("failed", 1.0, "yes"),
        ("minute_failed", 0.634, "63 %"),
        ("packet_rate", np.log1p(2.5), "2.5 a second"),
        ("byte_rate_out", np.log1p(2_500), "2.5 kB/s"),
        ("relative_peers", np.log(12), "12 times"),
        ("pair_spread", 0.0, "by a factor of 1.0"),
    ],
)
def test_values_in_words(name: str, value: float, words: str) -> None:
    assert describe(name, float(np.float32(value))) == words


def test_natural_units() -> None:
    table = conns(duration=[3.25], age=[12.5], orig_ip_bytes=[4_321])
    rows = extract(table)
    assert natural("duration", column(rows, "duration")[0]) == pytest.approx(3.25, rel=1e-4)
    assert natural("age", column(rows, "age")[0]) == pytest.approx(12.5, rel=1e-4)
    assert natural("bytes_out", column(rows, "bytes_out")[0]) == pytest.approx(4_321, rel=1e-4)


def test_the_document_has_the_table() -> None:
    assert markdown() in (ROOT / "docs" / "features.md").read_text()


# --- real logs ------------------------------------------------------------------------


def test_real_logs_give_features_that_vary_within_their_ranges(data: Path) -> None:
    parts = []
    for path in sorted((data / "iot23").glob("*.csv")):
        records = Conns.concat([batch.conns for batch in zeeklog.read(path)])
        pieces, _ = slices.cut(records)
        local = np.where(Lan().local(pieces.orig), 0, -1).astype(np.int32)
        rows = FeatureExtractor(Lan()).step(pieces, local, np.full_like(local, -1))
        parts.append(rows.x)
    x = np.concatenate(parts)
    assert np.isfinite(x).all()
    for k, feature in enumerate(FEATURES):
        assert feature.low - 1e-5 <= x[:, k].min() <= x[:, k].max() <= feature.high + 1e-5
    constant = {name for k, name in enumerate(NAMES) if np.ptp(x[:, k]) == 0}
    # These captures are of the devices' own calls: nothing inbound, no SSH, mail or MQTT.
    assert constant <= {"inbound", "service_other", "port_mail", "port_iot"}


def told_of(path: Path) -> tuple[Conns, Conns]:
    """The records and the slices of a capture."""
    table = ConnTable(Lan())
    steps = [
        table.step(decode.decode(frames, ignore_checksums=True))
        for frames in capture.read_frames(path)
    ]
    steps.append(table.finish())
    return Conns.concat([s.records for s in steps]), Conns.concat([s.slices for s in steps])


@pytest.mark.parametrize(
    "name", ["blink-hub-idle-2019/2019-04-25_idle.pcap", "one-week-2021/blink-cam-01.pcap"]
)
def test_a_log_and_a_capture_of_the_same_traffic_agree(name: str, data: Path) -> None:
    """What a short connection is does not depend on whether a log or packets told of it."""
    records, live = told_of(data / "smart-home-pcaps" / name)
    cut, _ = slices.cut(records)
    assert len(cut) == pytest.approx(len(live), rel=0.03)
    tables = []
    for pieces in (live, cut):
        local = np.where(Lan().local(pieces.orig) & Lan().unicast(pieces.orig), 0, -1)
        rows = FeatureExtractor(Lan()).step(
            pieces, local.astype(np.int32), np.full(len(pieces), -1, dtype=np.int32)
        )
        keys = zip(pieces.uid[rows.row], pieces.piece[rows.row], strict=True)
        tables.append({(uid, int(piece)): x for (uid, piece), x in zip(keys, rows.x, strict=True)})
    # What the device did, and how it called others before. Sizes kept from before also hold
    # those of long connections, which a log can only spread; ends of a capture are told at once.
    sizes = ("minute_bytes", "pair_spread", "pair_equal", "relative")
    kept = [k for k, n in enumerate(NAMES) if not n.startswith(sizes)]
    end = int(live.told.max())
    short = (records.duration <= 5) & (records.ts < end - 60 * NS)
    mine = [uid for uid in records.uid[short].tolist() if (uid, 0) in tables[0]]
    assert len(mine) > 50
    same = [np.allclose(tables[0][u, 0][kept], tables[1][u, 0][kept], atol=1e-4) for u in mine]
    assert np.mean(same) > 0.97
