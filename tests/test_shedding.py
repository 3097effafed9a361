"""What a flooding device is not judged for: the rule against a slow twin, and who is untouched."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.const import ALIKE, NS, RARE_PER_S, ROWS_AT_ONCE, ROWS_PER_S
from guardian.shedding import Shedder
from guardian.tables import I32, Conns


def rows(told: list[int], peers: list[int], ports: list[int]) -> Conns:
    out = Conns.blank(len(told))
    out.told[:] = told
    out.resp[:, 1], out.resp_p[:], out.proto[:] = peers, ports, 6
    out.orig[:, 1] = peers
    return out


def twin(devices: list[int], conns: Conns) -> list[int]:
    """One slice after the other, as the rule reads."""
    tokens: dict[int, tuple[float, int]] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    out = []
    for k, device in enumerate(devices):
        at = int(conns.told[k])
        peer, port, second = int(conns.resp[k, 1]), int(conns.resp_p[k]), at // NS
        left, since = tokens.get(device, (float(ROWS_AT_ONCE), at))
        left = min(ROWS_AT_ONCE, left + (at - since) * ROWS_PER_S / NS)
        judged = device >= 0
        if judged and left >= 1 - 1e-9:
            left -= 1
        elif judged:
            kinds = (("peer", device, second, peer), ("port", device, second, port))
            whole = ("all", device, second)
            judged = all(seen[kind] < ALIKE for kind in kinds) and seen[whole] < RARE_PER_S
            if judged:
                seen.update([*kinds, whole])
        tokens[device] = (left, at)
        out.append(device if judged else -1)
    return out


@settings(max_examples=30)
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 4),
    st.sampled_from([1, 40, 4_000]),
    st.sampled_from([1, 30, 60_000]),
    st.lists(st.integers(0, 6_000), max_size=4),
)
def test_the_rule_and_any_cut(
    seed: int, devices: int, peers: int, ports: int, cuts: list[int]
) -> None:
    chance = np.random.default_rng(seed)
    n = 6_000
    told = np.sort(chance.integers(0, 8 * NS, n)) // 1_000_000 * 1_000_000  # exact in the twin
    device: I32 = chance.integers(-1, devices, n).astype(np.int32)
    conns = rows(told.tolist(), chance.integers(0, peers, n).tolist(),
                 chance.integers(0, ports, n).tolist())  # fmt: skip
    none = np.full(n, -1, dtype=np.int32)
    shedder = Shedder()
    found: list[int] = []
    bounds = sorted({0, *cuts, n})
    for low, high in pairwise(bounds):
        part = slice(low, high)
        mine, other = shedder.sides(conns.take(part), device[part], none[part])
        found += mine.tolist()
        assert (other == -1).all()
    assert found == twin(device.tolist(), conns)
    assert shedder.shed == int(np.count_nonzero(device >= 0)) - sum(d >= 0 for d in found)
    assert sum(shedder.by_device.values()) == shedder.shed


def test_only_the_flooding_device_and_direction_are_shed() -> None:
    """Device 0 floods device 1 at home; device 1 does something itself meanwhile, and so does 2."""
    n = 20_000
    told = (np.arange(n) * (NS // 2_000)).tolist()
    conns = rows(told, [7] * n, [80] * n)
    orig = np.zeros(n, dtype=np.int32)
    resp = np.ones(n, dtype=np.int32)
    orig[::10], resp[::10] = 1, -1
    orig[5::10], resp[5::10] = 2, -1
    shedder = Shedder()
    mine, other = shedder.sides(conns, orig, resp)
    assert (mine[5::10] == 2).all()
    assert np.count_nonzero(mine == 1) == n // 10  # 200 a second for ten seconds: within its own
    judged = np.count_nonzero(mine == 0)
    assert ROWS_AT_ONCE + 9 * ROWS_PER_S <= judged <= ROWS_AT_ONCE + 11 * (ROWS_PER_S + ALIKE)
    assert np.count_nonzero(other == 1) == judged
    assert set(shedder.by_device) == {0, 1}


def test_a_device_that_is_forgotten_begins_anew() -> None:
    n = ROWS_AT_ONCE + 10
    conns = rows([NS] * n, [7] * n, [80] * n)
    device, none = np.zeros(n, dtype=np.int32), np.full(n, -1, dtype=np.int32)
    shedder = Shedder()
    shedder.sides(conns, device, none)
    assert shedder.by_device == {0: 10 - ALIKE}
    shedder.evict(0)
    assert shedder.by_device == {}
    assert (shedder.sides(conns.take(slice(0, 100)), device[:100], none[:100])[0] == 0).all()
