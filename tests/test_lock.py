"""What is locked is what pyproject.toml asks for, every file by its hash, each with its reason."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.audit import audited
from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCKS = {"gateway": ("",), "workstation": ("", "train")}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def asked(extra: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(one) for one in listed]


def locked(name: str) -> list[tuple[Requirement, int]]:
    """Return (requirement, number of hashes) of a lock file."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    out = []
    for entry in re.split(r"\n(?=[A-Za-z])", text):
        lines = [line for line in entry.splitlines() if not line.lstrip().startswith("#")]
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)
        if lines:
            out.append((Requirement(lines[0].rstrip(" \\")), len(hashes)))
    return out


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_has_its_hash_and_every_wish_is_met(name: str) -> None:
    found = locked(name)
    assert all(count for _, count in found)
    assert all(str(one.specifier).startswith("==") for one, _ in found)
    for extra in LOCKS[name]:
        for wish in asked(extra):
            for python, machine in itertools.product(PYTHONS, ("x86_64", "aarch64", "armv7l")):
                where = {"python_version": python, "python_full_version": f"{python}.9",
                         "platform_machine": machine, "sys_platform": "linux"}  # fmt: skip
                if wish.marker is not None and not wish.marker.evaluate(where):
                    continue
                versions = [
                    str(one.specifier).removeprefix("==")
                    for one, _ in found
                    if canonicalize_name(one.name) == canonicalize_name(wish.name)
                    and (one.marker is None or one.marker.evaluate(where))
                ]
                assert len(versions) == 1, (wish.name, where, versions)
                assert wish.specifier.contains(versions[0]), (wish, versions)


def test_nothing_that_is_locked_comes_from_elsewhere() -> None:
    for name in LOCKS:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        for word in ("://", "--index", "--find-links", "-e ", "--trusted"):
            assert word not in text


def test_each_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    gateway = {canonicalize_name(one.name) for one, _ in locked("gateway")}
    extras = ("", "train", "push", "parquet")
    wished = {canonicalize_name(wish.name) for extra in extras for wish in asked(extra)}
    told = {canonicalize_name(name) for name in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)}
    assert told == gateway | wished


def test_an_audit_that_cannot_ask_says_so(tmp_path: Path) -> None:
    tool = tmp_path / "pip-audit"
    for said, wrong, why in (
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}]}', 1, ""),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, ""),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 0, "no advisory"),
        ("", 0, "pip-audit said nothing"),
    ):
        tool.write_text(f"#!{sys.executable}\nprint('''{said}''')\n")
        tool.chmod(0o755)
        lines, reason = audited(str(tool), ROOT / "requirements" / "gateway.txt")
        assert len(lines) == wrong
        assert reason.startswith(why)
        assert bool(reason) == bool(why)
    assert "did not run" in audited(str(tmp_path / "none"), tmp_path)[1]
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-m", "tests.audit"], check=True, cwd=ROOT,
                       capture_output=True)  # fmt: skip
