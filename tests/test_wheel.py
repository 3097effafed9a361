"""The wheel: all of the package and nothing else, and it works where no checkout is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from guardian import bundle
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PACKED = ("guardian", "trainer", "models", "systemd")


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GUARDIAN_", "PYTHON"))}
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=200,
        cwd="/", env=clean | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy: an old build/ in the checkout would add what is long gone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in PACKED:
        nothing_made = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=nothing_made)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    done = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("guardian_home-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel installed; what it depends on comes from this Python."""
    target = tmp_path_factory.mktemp("installed")
    done = run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    assert done.returncode == 0, done.stderr
    return target


def guardian(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command; its folder comes before the checkout."""
    return run(
        sys.executable, "-W", "error", installed / "bin" / "guardian", *words,
        PYTHONPATH=str(installed),
    )  # fmt: skip


def test_it_holds_the_package_the_bundle_and_the_unit_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in ("guardian", "trainer")
        for path in (ROOT / package).rglob("*.py")
    }
    expected.add("guardian/py.typed")
    expected |= {f"guardian/systemd/{path.name}" for path in (ROOT / "systemd").iterdir()}
    files = bundle.load(bundle.default_path()).manifest["files"]
    expected |= {f"guardian/models/default/{name}" for name in (*files, bundle.MANIFEST)}
    assert names == expected


def test_it_names_its_licence_and_no_workstation_library_but_as_an_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (n for n in file.namelist() if n.endswith("/METADATA"))
        metadata = file.read(name).decode()
        assert any(n.endswith("/licenses/LICENSE") for n in file.namelist())
    assert "License-Expression: Apache-2.0" in metadata
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    always = " ".join(line for line in needs if "extra ==" not in line)
    assert "numpy" in always
    for heavy in ("tensorflow", "pandas", "scikit-learn", "matplotlib", "pytest"):
        assert heavy not in always


def test_it_imports_from_where_it_was_installed(installed: Path) -> None:
    program = "import guardian.bundle as b, trainer; print(b.__file__, b.default_path())"
    done = run(sys.executable, "-c", program, PYTHONPATH=str(installed))
    assert done.stdout.split() == [
        str(installed / "guardian" / "bundle.py"),
        str(installed / "guardian" / "models" / "default"),
    ]


def test_the_demo_works_from_it(installed: Path) -> None:
    assert "Watch the network" in guardian(installed, "--help").stdout
    done = guardian(installed, "demo")
    assert done.returncode == 0, done.stderr
    assert "Right: hall-camera alone is infected" in done.stdout


def test_check_finds_the_bundle_that_came_with_it(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "guardian.toml"
    config.write_text(
        f'[capture]\ninterface = "lo"\n[store]\npath = "{tmp_path / "guardian.db"}"\n',
        encoding="utf-8",
    )
    done = guardian(installed, "check", "--quick", "-c", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "golden outputs agree" in done.stdout


def test_train_says_what_is_missing(installed: Path, tmp_path: Path) -> None:
    # A Python without the workstation's packages: theirs are hidden, not the gateway's.
    (tmp_path / "tensorflow.py").write_text(
        "raise ModuleNotFoundError('no', name='tensorflow')\n", encoding="ascii"
    )
    done = run(
        sys.executable, installed / "bin" / "guardian", "train", "-o", tmp_path / "out",
        PYTHONPATH=f"{tmp_path}:{installed}",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "-py3-none-any.whl[train]'" in done.stderr


def test_it_installs_itself_where_no_index_is(installed: Path, tmp_path: Path) -> None:
    """A copy of what runs becomes the program; it works from there and was tried before."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    done = guardian(installed, "install", "--root", str(root), "--python", str(base))
    assert done.returncode == 0, done.stderr
    assert "a copy of what runs now" in done.stdout
    assert "the shipped model (it answers as it must on" in done.stdout
    program = root / "opt" / "guardian"
    (site,) = (program / "lib").glob("python3.*/site-packages")
    assert (site / "guardian" / "models" / "default" / "manifest.json").is_file()
    assert not (site / "pytest").exists()  # what it does not need stays behind
    script = (program / "bin" / "guardian").read_text(encoding="ascii")
    assert script.startswith("#!/opt/guardian/bin/python -I\n")
    ran = run(program / "bin" / "python", "-I", program / "bin" / "guardian", "check", "--help")
    assert ran.returncode == 0, ran.stderr
    assert (root / "etc/systemd/system/guardian.service").is_file()
    wanted = root / "etc/systemd/system/multi-user.target.wants/guardian.service"
    assert wanted.is_symlink()
    again = guardian(installed, "uninstall", "--root", str(root), "--purge")
    assert again.returncode == 0, again.stderr
    assert not program.exists()
    assert not wanted.is_symlink()
