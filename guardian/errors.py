"""The errors that reach a person.

Malformed packets are counted, never raised. What is raised is a mistake of the
user's or of our own, and says in one sentence what is wrong and what to do.
"""

from __future__ import annotations


class GuardianError(Exception):
    """A sentence for the user; the command line prints it and exits with 1."""


class InputError(GuardianError):
    """A capture or log that cannot be read, or not to its end.

    Sources yield all that came before the fault and raise this last, so that
    nothing read is lost.
    """


class ConfigError(GuardianError):
    """A configuration that cannot be used; names the key and, where known, the line."""


class BundleError(GuardianError):
    """A model bundle that does not match its manifest, its golden outputs or this version."""


class CaptureError(GuardianError):
    """A live capture that cannot be opened: no such interface, no rights, no AF_PACKET."""
