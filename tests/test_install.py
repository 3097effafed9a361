"""guardian install: account, folders, settings, units, in a folder that stands for a machine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from guardian import installprogram, installsystem
from guardian.cli import cli
from guardian.config import load
from guardian.installground import CONFIG, LINK, PROGRAM, STATE, UNITS, Ground, InstallError
from tests.conftest import ROOT

ROOT_ALONE = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None, reason="needs root and useradd"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's root with accounts, and no program yet."""
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    for name, text in {
        "passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n",
        "shadow": "root:*:1::::::\n", "gshadow": "root:*::\n",
    }.items():  # fmt: skip
        (folder / "etc" / name).write_text(text, encoding="ascii")
    return folder


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def ground(root: Path, told: list[str]) -> Ground:
    return Ground(root, False, told.append)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is in a folder: rights and contents by path."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in folder.rglob("*")
    }


@ROOT_ALONE
def test_all_but_the_program(root: Path, ground: Ground, told: list[str]) -> None:
    installsystem.account(ground)
    for folder in installsystem.FOLDERS:
        ground.folder(*folder)
    installsystem.settings(ground, ("br0",))
    installsystem.put_units(ground)
    installsystem.put_link(ground)
    number = ground.number("passwd", "guardian")
    assert number is not None
    passwd = (root / "etc/passwd").read_text(encoding="ascii")
    assert f"{STATE}:/usr/sbin/nologin" in passwd
    state = root / STATE[1:]
    assert (state.stat().st_mode & 0o7777, state.stat().st_uid) == (0o750, number)
    ready = state / "bundles" / "ready"
    assert ready.stat().st_mode & 0o7777 == 0o2770  # the group lays bundles there
    config = root / CONFIG[1:]
    assert load(config).capture.interface == ("br0",)
    assert config.stat().st_mode & 0o7777 == 0o640  # a password may stand in it
    assert (config.stat().st_uid, config.stat().st_gid) == (0, ground.number("group", "guardian"))
    assert str((root / LINK[1:]).readlink()) == f"{PROGRAM}/bin/guardian"
    placed = {path.name for path in (root / UNITS[1:]).iterdir()}
    assert {"guardian.service", "guardian-backup.timer"} <= placed
    assert all(line.startswith("made ") for line in told)

    # Once more: nothing is changed, whatever the user wrote.
    config.write_text('version = 1\n[capture]\ninterface = "eth1"\n', encoding="ascii")
    before = tree(root)
    told.clear()
    installsystem.account(ground)
    for folder in installsystem.FOLDERS:
        ground.folder(*folder)
    installsystem.settings(ground, ("br0",))
    installsystem.put_units(ground)
    installsystem.put_link(ground)
    assert tree(root) == before
    assert all(line.startswith("kept ") for line in told), told


@ROOT_ALONE
def test_uninstall_keeps_what_is_the_users_until_purge(
    root: Path, ground: Ground, told: list[str]
) -> None:
    before = tree(root)
    installsystem.account(ground)
    for folder in installsystem.FOLDERS:
        ground.folder(*folder)
    installsystem.settings(ground, ())
    installsystem.put_units(ground)
    installsystem.put_link(ground)
    (root / PROGRAM[1:]).mkdir(parents=True)
    (root / STATE[1:] / "guardian.db").write_bytes(b"kept")

    done = run("uninstall", "--root", root, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "would remove" in done.output
    assert (root / PROGRAM[1:]).exists()

    done = run("uninstall", "--root", root)
    assert done.exit_code == 0, done.output
    assert "--purge" in done.output
    assert (root / STATE[1:] / "guardian.db").read_bytes() == b"kept"
    assert (root / CONFIG[1:]).exists()
    assert not (root / PROGRAM[1:]).exists()
    assert not list((root / UNITS[1:]).glob("guardian*"))
    assert not (root / LINK[1:]).is_symlink()

    assert run("uninstall", "--root", root, "--purge").exit_code == 0
    left = {name: kept for name, kept in tree(root).items() if name in before}
    assert left == before | {
        name: kept for name, kept in left.items() if name.endswith(("subuid", "subgid"))
    }
    assert ground.number("passwd", "guardian") is None
    assert ground.number("group", "guardian") is None


def test_a_dry_run_changes_nothing(root: Path) -> None:
    before = tree(root)
    done = run("install", "--root", root, "--dry-run", "--packaged", "-i", "br0")
    assert done.exit_code == 0, done.output
    assert "would make" in done.output
    assert f"{CONFIG} (watches br0)" in done.output
    assert "Nothing was changed." in done.output
    assert tree(root) == before


def test_a_link_of_another_program_stays(root: Path, ground: Ground, told: list[str]) -> None:
    link = root / LINK[1:]
    link.parent.mkdir(parents=True)
    link.write_text("another's\n", encoding="ascii")
    installsystem.put_link(ground)
    assert told[0].startswith("left ")
    assert link.read_text(encoding="ascii") == "another's\n"
    installsystem.take_down(ground)
    assert link.exists()


def test_a_newer_database_stops_it_and_an_older_one_is_announced(root: Path) -> None:
    state = root / STATE[1:]
    state.mkdir(parents=True)
    for version, code, said in ((999, 1, "newer Guardian"), (1, 0, "guardian.db.v1.bak")):
        db = sqlite3.connect(state / "guardian.db")
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
        db.close()
        done = run("install", "--root", root, "--dry-run", "--packaged")
        assert done.exit_code == code
        assert said in (done.output if code == 0 else str(done.exception))


def test_a_folder_that_may_not_be_written_is_a_sentence(ground: Ground) -> None:
    blocked = ground.at("/opt")
    blocked.write_text("a file", encoding="ascii")
    with pytest.raises(InstallError, match="--root DIR"):
        ground.folder("/opt/x", 0o755)


def test_a_checkout_is_told_how_to_be_installed(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="make wheel"):
        installprogram.copy_running(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_python_that_the_unit_hides_is_not_taken() -> None:
    assert installprogram.hidden(Path("/home/me/.local/share/uv/python/bin/python3"))
    assert installprogram.hidden(Path("/root/python/bin/python3"))
    assert not installprogram.hidden(Path("/usr/bin/python3.11"))
    found = installprogram.suitable(same=False)
    assert not installprogram.hidden(found)
    assert installprogram.version(found) >= (3, 10)


@pytest.mark.slow
def test_the_new_program_takes_the_old_ones_place_only_when_it_works(
    ground: Ground, tmp_path: Path
) -> None:
    old = ground.at(PROGRAM)
    old.mkdir(parents=True)
    (old / "mark").write_text("old", encoding="ascii")
    empty = tmp_path / "wheels"
    empty.mkdir()
    with pytest.raises(InstallError):
        installprogram.put(ground, None, empty, None)
    assert (old / "mark").read_text(encoding="ascii") == "old"
    assert not old.with_name("guardian.new").exists()
    fresh = old.with_name("guardian.new")
    fresh.mkdir()
    installprogram.swap(fresh, old)
    assert not (old / "mark").exists()
    assert sorted(path.name for path in old.parent.iterdir()) == ["guardian"]


def test_who_is_not_root_is_told_to_use_sudo() -> None:
    program = (
        "import os\n"
        "from guardian.install import allowed\n"
        "from guardian.installground import Ground\n"
        "from pathlib import Path\n"
        "os.geteuid() or os.setuid(65534)\n"
        "allowed(Ground(Path('/'), False, print))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "this needs root: sudo" in done.stderr
