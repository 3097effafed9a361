"""Scores a file of sequences with whatever runtime this Python has; run in the other venv too.

`python -m tests.score_file IN.npz OUT.npz`: x and length in; the runtime's name, numpy's version
and the columns of Scores out (error: the sequence's, before it is divided by the threshold).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from guardian import bundle
from guardian.scoring import Scorer
from guardian.tables import Sequences


def score_file(given: Path, out: Path) -> None:
    """Write the scores that the shipped bundle gives the sequences of a file."""
    loaded = bundle.load(bundle.default_path())
    scorer = Scorer(loaded)
    with np.load(given) as file:
        x, length = file["x"], file["length"]
    blank = Sequences.blank(len(x))
    scores = scorer.score(Sequences(x, length, blank.device, blank.row, blank.outbound))
    np.savez(
        out,
        runtime=scorer.runtime,
        numpy=np.__version__,
        probability=scores.probability,
        error=scores.anomaly * loaded.error_threshold,
        threat=scores.threat,
        anomaly=scores.anomaly,
        label=scores.label,
    )


if __name__ == "__main__":
    score_file(Path(sys.argv[1]), Path(sys.argv[2]))
