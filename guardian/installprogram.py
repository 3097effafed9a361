"""The program's own environment under /opt: made beside the old one, tried, then put in place."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from guardian import __version__
from guardian.installground import PROGRAM, Ground, InstallError

NAME = "guardian-home"
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What the unit hides from the daemon: a Python there cannot run it."""
ADDED = ("apprise", "pyarrow")
"""What a person may have added to the program, for push and for Parquet."""
TRIAL = (
    "from guardian import bundle, __version__;from guardian.scoring import Scorer;"
    "print(__version__, Scorer(bundle.load(bundle.default_path())).runtime)"
)
"""Loads the shipped bundle and compares its golden outputs."""


def put(ground: Ground, wheel: Path | None, wheels: Path | None, python: Path | None) -> bool:
    """Put the program in place; return whether it is another one than before.

    From `wheel` with what it needs out of the folder `wheels`, or from an index where that is not
    given; without either, a copy of the distribution that runs now, with no network at all.
    Raises InstallError; the old one then stays.
    """
    target = ground.at(PROGRAM)
    if not wheel and not wheels and Path(sys.prefix).resolve() == target.resolve():
        ground.tell("keep", PROGRAM, f"{__version__}: this runs from it")
        return False
    chosen = python or suitable(same=wheel is None and wheels is None)
    source = f"from {wheel or wheels}" if wheel or wheels else f"a copy of what runs now, {NAME}"
    verb = "replace" if target.exists() else "make"
    if ground.dry:
        ground.tell(verb, PROGRAM, f"{__version__}, {source}, on {chosen}")
        return True
    with ground.writing(PROGRAM):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"{target.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            ground.run(chosen, "-m", "venv", "--without-pip", fresh)
            if wheel or wheels:
                from_wheels(ground, fresh, wheel, wheels)
            else:
                copy_running(site(fresh))
            script(fresh)
            ground.run(
                fresh / "bin" / "python", "-m", "compileall", "-q", site(fresh),
                hint="; give --wheel FILE to install anew",
            )  # fmt: skip
            said = ground.run(fresh / "bin" / "python", "-I", "-c", TRIAL).split()
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        lost = [one for one in ADDED if has(target, one) and not has(fresh, one)]
        swap(fresh, target)
    ground.tell(verb, PROGRAM, f"{said[0]}, {source}, on {chosen}")
    ground.tell("check", "the shipped model", f"it answers as it must on {said[-1]}")
    for one in lost:
        ground.tell(
            "leave", one, f"you had added it: sudo {PROGRAM}/bin/python -m pip install {one}"
        )
    return True


def suitable(*, same: bool) -> Path:
    """Return a Python that the daemon may run; `same`: of the version that runs now.

    Raises InstallError where there is none.
    """
    ours = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    candidates = [base, Path("/usr/bin") / ours, Path("/usr/local/bin") / ours]
    if not same:
        candidates.append(Path("/usr/bin/python3"))
    for one in candidates:
        if one.is_file() and not hidden(one) and version(one) >= (3, 10):
            return one
    raise InstallError(
        f"this runs on {base}, below a folder that the unit hides from the daemon, and there is no "
        f"/usr/bin/{ours}: give --wheel FILE, which may use another Python, or --python PATH"
    )


def hidden(path: Path) -> bool:
    """Tell whether the unit hides a path from the daemon."""
    return any(path.is_relative_to(folder) for folder in HIDDEN)


def version(python: Path) -> tuple[int, ...]:
    """Return the version of a Python; (0,) where it does not run."""
    program = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run(
        [python, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else (0,)


def site(environment: Path) -> Path:
    """Return the folder of an environment's packages."""
    (found,) = (environment / "lib").glob("python3.*/site-packages")
    return found


def has(environment: Path, name: str) -> bool:
    """Tell whether an environment has a distribution."""
    return any((environment / "lib").glob(f"python3.*/site-packages/{name}-*.dist-info"))


def from_wheels(ground: Ground, fresh: Path, wheel: Path | None, wheels: Path | None) -> None:
    """Install by pip: the one among the wheels, the one that came with Python, or ours."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-compile")
    where = ("--no-index", "--find-links", wheels) if wheels else ()
    # pip itself, too, so that a person can add what is asked for (docs/first-evening.md).
    ground.run(
        *pip_for(ground, fresh, wheels), "install", *quiet, *where, wheel or NAME, "pip",
        hint="; check the wheel and the network, or give --wheels DIR with all that it needs",
    )  # fmt: skip


def pip_for(ground: Ground, fresh: Path, wheels: Path | None) -> list[str | Path]:
    """Return how pip is called for an environment. Raises InstallError where there is none."""
    python = fresh / "bin" / "python"
    if wheels and (pips := sorted(wheels.glob("pip-*.whl"))):
        return [python, pips[-1] / "pip"]
    if ground.tried(python, "-m", "ensurepip").returncode == 0:
        return [python, "-m", "pip"]
    if ground.tried(sys.executable, "-m", "pip", "--version").returncode == 0:
        return [sys.executable, "-m", "pip", "--python", python]
    raise InstallError(
        "there is no pip to install a wheel with: sudo apt install python3-venv, then run this "
        "again, or give --wheels DIR with pip's own wheel in it"
    )


def copy_running(target: Path) -> None:
    """Copy the distribution that runs now, and all that it needs, into a folder of packages.

    Raises InstallError where what runs is a checkout or came from the system's package manager.
    """
    wanted = closure(NAME, "pip", *ADDED)
    for found in wanted:
        editable = json.loads(found.read_text("direct_url.json") or "{}").get("dir_info", {})
        if editable.get("editable") or not found.files or not found.read_text("RECORD"):
            raise InstallError(
                f"{found.name} runs from a checkout or the system's packages, which cannot be "
                "copied: `make wheel`, then guardian install --wheel dist/guardian_home-*.whl"
            )
    for found in wanted:
        for path in found.files or ():
            if ".." in path.parts or path.parts[0] == "bin" or "__pycache__" in path.parts:
                continue  # its programs, which only their own environment can run
            source = Path(str(found.locate_file(path)))
            if source.is_file():
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)


def closure(name: str, *beside: str) -> list[metadata.Distribution]:
    """Return a distribution, those beside it that are installed, and all that they need; extras
    are left out. Raises InstallError where the first one is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    todo = [name, *beside]
    while todo:
        key = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if key in found:
            continue
        try:
            one = metadata.distribution(key)
        except metadata.PackageNotFoundError as error:
            if key == name:
                raise InstallError(
                    f"{NAME} is not installed here: `make wheel`, then guardian install --wheel "
                    "dist/guardian_home-*.whl"
                ) from error
            continue  # of another version of Python or another system
        found[key] = one
        for line in one.requires or ():
            wanted = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
            if wanted and "extra ==" not in line:
                todo.append(wanted.group())
    return list(found.values())


def script(fresh: Path) -> None:
    """Write bin/guardian for where the environment will stand."""
    path = fresh / "bin" / "guardian"
    path.write_text(
        f"#!{PROGRAM}/bin/python -I\nimport sys\nfrom guardian.cli import main\nsys.exit(main())\n",
        encoding="ascii",
    )
    path.chmod(0o755)
    fresh.chmod(0o755)


def swap(fresh: Path, target: Path) -> None:
    """Let the new environment take the old one's place."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """Put the program in place from a folder of wheels; for a package's own script."""
    try:
        put(Ground(Path("/"), False, print), None, Path(sys.argv[1]), None)
    except InstallError as error:
        sys.exit(f"guardian: {error}")


if __name__ == "__main__":
    main()
