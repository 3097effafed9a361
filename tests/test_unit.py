"""The systemd unit: what it promises, and that what it calls exists."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from guardian.cli import cli
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def unit() -> list[str]:
    return (ROOT / "systemd" / "guardian.service").read_text(encoding="ascii").splitlines()


def test_it_is_unprivileged_and_may_capture(unit: list[str]) -> None:
    for line in (
        "User=guardian",
        "AmbientCapabilities=CAP_NET_RAW",
        "CapabilityBoundingSet=CAP_NET_RAW",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "Type=notify",
        "StateDirectoryMode=0750",  # as docs/database.md promises the group
        "UMask=0027",
    ):
        assert line in unit
    families = next(x for x in unit if x.startswith("RestrictAddressFamilies="))
    assert "AF_PACKET" in families
    assert any(x.startswith("WatchdogSec=") for x in unit)


def test_what_it_calls_exists(unit: list[str]) -> None:
    for line in unit:
        if not line.startswith(("ExecStart=", "ExecStartPre=")):
            continue
        words = line.partition("=")[2].split()
        assert words[0].endswith("/bin/guardian")
        said = CliRunner().invoke(cli, [words[1], "--help"]).output
        for option in (word for word in words[2:] if word.startswith("-")):
            assert option in said, line
