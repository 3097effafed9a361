"""How to add what only some want: Guardian is on no index, so its extras are added by name."""

from __future__ import annotations

import os
import sys


def command(name: str) -> str:
    """Return the command that adds a package to the very program that runs."""
    sudo = "" if os.access(sys.prefix, os.W_OK) else "sudo "
    return f"{sudo}{sys.executable} -m pip install {name}"
