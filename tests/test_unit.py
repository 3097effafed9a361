"""The systemd units: what they promise, what systemd says, and that what they call exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardian import installsystem
from guardian.cli import cli
from tests.conftest import ROOT

FOLDER = ROOT / "systemd"
UNITS = sorted(FOLDER.iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
EXPOSURE = 2.0
"""At most, of ten; systemd's own measure."""


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines()


@pytest.fixture(scope="module")
def unit() -> list[str]:
    return lines_of(FOLDER / "guardian.service")


def test_it_is_unprivileged_and_may_capture(unit: list[str]) -> None:
    for line in (
        "User=guardian",
        "AmbientCapabilities=CAP_NET_RAW",
        "CapabilityBoundingSet=CAP_NET_RAW",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "Type=notify",
        "StateDirectory=guardian",
        "StateDirectoryMode=0750",  # as docs/database.md promises the group
        "UMask=0027",
        "IPAddressDeny=any",
        "StartLimitIntervalSec=0",  # an interface that comes late finds it still trying
    ):
        assert line in unit
    families = next(x for x in unit if x.startswith("RestrictAddressFamilies="))
    assert "AF_PACKET" in families
    for key in ("WatchdogSec", "MemoryMax", "Nice"):
        assert any(x.startswith(f"{key}=") for x in unit)
    # Prefixes of IPv6 and the machine's boot stand in /proc outside of the processes.
    assert not any(x.startswith("ProcSubset=") for x in unit)


def test_it_may_speak_to_no_address_outside_of_homes(unit: list[str]) -> None:
    (allowed,) = [x.partition("=")[2] for x in unit if x.startswith("IPAddressAllow=")]
    assert set(allowed.split()) == {
        "localhost", "link-local", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
    }  # fmt: skip


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_systemd_finds_little_exposed(path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (make tools)")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE, done.stdout


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_every_line(path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (make tools)")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    said = [
        line for line in done.stderr.splitlines()
        if line.startswith(("guardian", str(path))) and "/opt/guardian/bin/guardian" not in line
    ]  # fmt: skip
    assert not said


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_what_it_calls_exists(path: Path) -> None:
    calls = [line for line in lines_of(path) if line.startswith(("ExecStart=", "ExecStartPre="))]
    assert calls
    for line in calls:
        words = line.partition("=")[2].split()
        assert words[0] == "/opt/guardian/bin/guardian"
        said = CliRunner().invoke(cli, [words[1], "--help"])
        assert said.exit_code == 0, line
        for option in (word for word in words[2:] if word.startswith("-")):
            assert option in said.output, line


def test_a_timer_has_its_service_and_what_is_enabled_exists() -> None:
    names = {path.name for path in UNITS}
    for path in UNITS:
        if path.suffix == ".timer":
            assert path.with_suffix(".service").name in names
            assert "Persistent=yes" in lines_of(path)
    assert set(installsystem.ENABLED) <= names
    for name in installsystem.ENABLED:
        assert any(line.startswith("WantedBy=") for line in lines_of(FOLDER / name))
    assert {path.name for path in installsystem.units()} == names


def test_the_packages_scripts_are_sound_and_know_every_unit_that_is_enabled() -> None:
    for name in ("postinst", "prerm", "postrm", "deb.sh"):
        subprocess.run(["sh", "-n", ROOT / "packaging" / name], check=True)
    text = (ROOT / "packaging" / "prerm").read_text(encoding="ascii")
    assert all(path.name in text for path in UNITS if path.suffix == ".timer")
    subprocess.run(["sh", "-n", ROOT / "tests" / "matrix.sh"], check=True)
