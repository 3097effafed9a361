"""What the base install may import. Run with the base venv's Python, where nothing else is.

`python -m tests.base_imports` walks the command line and the daemon's path and fails where a
workstation library was loaded, or where the daemon's path loaded more than it may.
"""

from __future__ import annotations

import subprocess
import sys

WORKSTATION = ("tensorflow", "keras", "pandas", "sklearn", "matplotlib")
NOT_ON_THE_HOT_PATH = (*WORKSTATION, "scapy", "sqlite_utils")

HOT = "guardian.daemon"
ALL = "guardian.cli"


def loaded(module: str, names: tuple[str, ...]) -> list[str]:
    """Return which of names are in sys.modules after a fresh interpreter imports module."""
    program = f"import sys, {module}; print(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def main() -> int:
    wrong = {module: loaded(module, NOT_ON_THE_HOT_PATH) for module in (HOT, ALL)}
    for module, found in wrong.items():
        if found:
            print(f"{module} imports {', '.join(found)}", file=sys.stderr)
    if not any(wrong.values()):
        print(f"{HOT} and {ALL} import none of {', '.join(NOT_ON_THE_HOT_PATH)}")
    return int(any(wrong.values()))


if __name__ == "__main__":
    raise SystemExit(main())
