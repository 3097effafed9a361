"""What `relative_*` features are held to survives a restart, small, whatever stands in the file."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian import bundle as bundles
from guardian import capture
from guardian.addresses import Lan
from guardian.conns import ConnTable
from guardian.const import MAX_AMOUNT, NS
from guardian.decode import Decoder
from guardian.devices import DeviceTable
from guardian.features import NAMES, FeatureExtractor
from guardian.maxima import WIDTH, Maxima
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.scoring import Scorer
from guardian.store import Scored, Store
from guardian.tables import Conns

WEEK = "smart-home-pcaps/one-week-2021/ultraloq-hub-01.pcap"
RELATIVE = [k for k, name in enumerate(NAMES) if name.startswith("relative_")]
STEP_NS = 600 * NS
HOUR_NS = 3_600 * NS

levels = st.lists(st.integers(0, 50), min_size=WIDTH, max_size=WIDTH)
lives = st.lists(st.tuples(st.integers(0, 3 * HOUR_NS), levels), min_size=1, max_size=40)


def lived(life: list[tuple[int, list[int]]], one: Maxima, now: int = 0) -> list[tuple[float, ...]]:
    out = []
    for gap, values in life:
        now += gap
        out.append(one.usual(now))
        one.note(now, values)
    return out


@given(lives, lives)
def test_a_restart_at_any_moment_changes_nothing(
    before: list[tuple[int, list[int]]], after: list[tuple[int, list[int]]]
) -> None:
    one = Maxima()
    lived(before, one)
    now = sum(gap for gap, _ in before)
    text = json.dumps(one.as_json())
    assert len(zlib.compress(text.encode())) < 400
    other = Maxima.from_json(json.loads(text), now)
    assert lived(after, other, now) == lived(after, one, now)


@given(lives)
def test_it_is_the_decayed_maximum_of_what_is_an_hour_old(
    life: list[tuple[int, list[int]]],
) -> None:
    moments = np.cumsum([gap for gap, _ in life]).tolist()
    seen = [(at // STEP_NS, values) for at, (_, values) in zip(moments, life, strict=True)]
    for k, (at, usual) in enumerate(zip(moments, lived(life, Maxima()), strict=True)):
        step = at // STEP_NS
        old = [(s, v) for s, v in seen[:k] if s < step - 6]
        if not old:
            assert usual == (0.0,) * (WIDTH + 1)
            continue
        wanted = [max(v[i] * 0.5 ** ((step - s) / 1008) for s, v in old) for i in range(WIDTH)]
        assert usual == pytest.approx((1.0, *wanted))


@pytest.mark.parametrize(
    "found",
    [
        None, [], {}, {"most": 1, "at": 0, "steps": []}, {"most": [1], "at": 0, "steps": []},
        {"most": [1] * 5, "at": "x", "steps": []},
        {"most": [float("nan")] * 5, "at": 0, "steps": []},
        {"most": [-1] * 5, "at": 0, "steps": []}, {"most": None, "at": 0, "steps": [[]]},
        {"most": None, "at": 0, "steps": [[1, 2]]}, {"most": None, "at": 0, "steps": 7},
        {"most": [10**400] * 5, "at": 0, "steps": []},
    ],
)  # fmt: skip
def test_what_is_no_maxima_is_refused(found: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError)):
        Maxima.from_json(found, 10**18)


def test_nothing_is_later_than_now_nor_beyond_what_can_be() -> None:
    found = {
        "most": [1e300] * 5, "at": 10**30,
        "steps": [[k, 1, 1, 1, 1, 1] for k in (3, 2, -5, 10**30, 4, 9, 10, 11, 12, 13)],
    }  # fmt: skip
    one = Maxima.from_json(found, 12 * STEP_NS).as_json()
    assert one["at"] == 12
    assert one["steps"] == []
    assert max(one["most"]) <= 60 * MAX_AMOUNT
    fresh = Maxima.from_json(found | {"most": None}, 12 * STEP_NS)
    assert [s[0] for s in fresh.as_json()["steps"]] == [4, 9, 10, 11, 12]
    far = Maxima.from_json({"most": [1] * 5, "at": -(10**400), "steps": []}, 12 * STEP_NS)
    assert far.usual(10**18)[0] == 1.0


# --- with real traffic ------------------------------------------------------------


def pipeline_of() -> Pipeline:
    lan = Lan()
    return Pipeline(bundles.load(bundles.default_path()), lan, DeviceTable(lan))


def test_rows_after_a_restart_are_those_of_a_run_without_one(data: Path) -> None:
    """Three restarts within a real week: but for the minute after each, no relative feature
    differs. Without what was kept they do."""
    lan = Lan()
    devices, table, decoder = DeviceTable(lan), ConnTable(lan), Decoder()
    parts = []
    for frames in capture.read_frames(data / WEEK):
        decoded = decoder.decode(frames)
        devices.step(decoded)
        parts.append(table.step(decoded).slices)
    slices = Conns.concat(parts)
    orig, resp = devices.sides(slices)
    whole = FeatureExtractor(lan).step(slices, orig, resp)
    told = slices.told[whole.row]
    begin, span = int(told[0]), int(told[-1] - told[0])
    cuts = [0, *np.searchsorted(slices.told, [begin + span * k // 4 for k in (1, 2, 3)]), len(told)]
    kept: dict[int, str] = {}
    x, differing, bare = whole.x[:, RELATIVE], 0, 0
    for first, last in pairwise(cuts):
        part, at = slice(first, last), int(slices.told[first])
        extractor, fresh = FeatureExtractor(lan), FeatureExtractor(lan)
        for device, text in kept.items():
            extractor.put_maxima(device, Maxima.from_json(json.loads(text), at))
        mine = (whole.row >= first) & (whole.row < last)
        rows = extractor.step(slices.take(part), orig[part], resp[part])
        alone = fresh.step(slices.take(part), orig[part], resp[part])
        later = told[mine] > at + 60 * NS
        differing += int((rows.x[:, RELATIVE] != x[mine])[later].any(axis=1).sum())
        bare += int((alone.x[:, RELATIVE] != x[mine])[later].any(axis=1).sum())
        found = {int(d): extractor.maxima(int(d)) for d in np.unique(rows.device)}
        kept |= {d: json.dumps(m.as_json()) for d, m in found.items() if m is not None}
    assert len(told) > 5_000
    assert differing == 0
    assert bare > 1_000


def test_the_daemon_keeps_them_with_the_pasts(data: Path, tmp_path: Path) -> None:
    """The same by way of the database: written at the stop, taken up at the start, not over a
    change of bundle, and forgotten by `unlearn`."""
    first = pipeline_of()
    now = first.step(next(capture.read_frames(data / WEEK, 10_000))).now
    with Store(tmp_path / "guardian.db") as store:
        first.finish()
        store.add(
            records=Conns.blank(0), scored=Scored.empty(), devices=first.devices.devices(), now=now
        )
        store.commit(now)
        Polling(store, first).keeper.keep(now)
        sizes = [len(past) for past in store.pasts().values()]
        assert sizes
        assert max(sizes) < 12_000
        second = pipeline_of()
        polling = Polling(store, second)
        polling.restore(now)
        (key,) = store.pasts()
        ours, theirs = (p.features.maxima(p.devices.index(key)) for p in (first, second))
        assert ours is not None
        assert theirs is not None
        assert theirs.as_json() == ours.as_json()
        assert theirs.usual(now)[0] == 1.0
        theirs.note(now, [90.0] * WIDTH)
        second.swap(Scorer(second.bundle))
        polling.resume(now)
        assert second.features.maxima(second.devices.index(key)) is theirs
        polling.keeper.unlearn(key)
        third = second.features.maxima(second.devices.index(key))
        assert third is not None
        assert third.usual(now)[0] == 0.0
