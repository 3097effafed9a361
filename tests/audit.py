"""Known holes in what is locked: pip-audit over requirements/, where its advisories can be reached.

`python -m tests.audit PIP-AUDIT LOCK...` ends with 1 where a dependency has a known hole. Where
nobody can be asked, it says so in a line and ends with 0: a build without Internet is no hole.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 240


def audited(tool: str, lock: Path) -> tuple[list[str], str]:
    """Return what is wrong with a lock file, and why it could not be looked at (or nothing)."""
    given = [tool, "-r", str(lock), "--require-hashes", "--disable-pip", "-f", "json"]
    try:
        done = subprocess.run(
            [*given, "--progress-spinner", "off"], capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"pip-audit did not run: {error}"
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return [], (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:200]
    wrong = [
        f"{one['name']} {one['version']}: {hole['id']}"
        f" (mended in {', '.join(hole.get('fix_versions', ())) or 'none yet'})"
        for one in found
        for hole in one.get("vulns", ())
    ]
    asked = [one for one in found if "skip_reason" not in one]
    return wrong, "" if asked else "no advisory could be asked for"


def main() -> int:
    tool, *locks = sys.argv[1:]
    status = 0
    for lock in map(Path, locks):
        wrong, why = audited(tool, lock)
        for line in wrong:
            print(f"{lock.name}: {line}")
            status = 1
        if why:
            print(f"{lock.name}: pip-audit skipped, {why}")
        elif not wrong:
            print(f"{lock.name}: no known hole")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
