"""A short form of `make torture`: kills and power cuts under load."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.torture.kills import kill_again_and_again


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_ten_times_nothing_is_lost_or_told_wrongly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "guardian.store")
    seen = kill_again_and_again(tmp_path, 10, seed=1, cuts=5, steps=60)
    assert seen.announced > 10
    assert seen.cuts == 50
