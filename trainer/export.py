"""From a run to a bundle: quantize, compare with float, calibrate, write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from guardian import bundle
from guardian.bundle import ModelFile
from guardian.features import NAMES
from guardian.scoring import Pair
from guardian.tables import F32
from trainer import calibrate, card, classlines, pack
from trainer.calibrate import LEAST_THREAT, THREAT_SHARE, source_weights
from trainer.labels import CLASSES
from trainer.metrics import auc
from trainer.quantize import to_tflite
from trainer.rows import Rows
from trainer.run import Run

Echo = Callable[[str], None]

BATCH = 32
"""Sequences of one call: a full batch costs a third of single calls, a padded one little."""
ANOMALY_SHARE = 0.001
"""Share of held-out benign sequences that may reach the anomaly line."""
MOST_LOST_AUC = 0.005
"""What int8 may lose against float; beyond it the float form is shipped."""


@dataclass(frozen=True)
class Form:
    """The two models in one form, and what they are worth on the held-out rows."""

    name: str
    autoencoder: bytes
    classifier: bytes
    pair: Pair
    threat: F32
    error: F32
    metrics: dict[str, Any]


def export(run: Run, folder: Path, echo: Echo, name: str = "default") -> bundle.Bundle:
    """Write the bundle of a run and return it, loaded and checked."""
    forms = {form: _form(run, form, echo) for form in ("int8", "float32")}
    lost = {
        key: forms["float32"].metrics[key] - forms["int8"].metrics[key]
        for key in ("auc_threat", "auc_anomaly")
    }
    worse = [key for key, value in lost.items() if not value <= MOST_LOST_AUC]
    chosen = forms["float32" if worse else "int8"]
    echo(
        f"{chosen.name} is shipped: int8 lost "
        + ", ".join(f"{value:+.4f} of {key}" for key, value in lost.items())
    )
    held_out = run.held_out
    benign = (held_out.label == 0) & held_out.clean
    threat, error = lines(held_out, chosen)
    calibrated_on = (
        f"{int(benign.sum()):,} benign sequences of captures and simulated homes that taught "
        f"nothing ({', '.join(sorted({s for g, s in held_out.names if g != 'simulated'}))}"
        f" and simulated homes, all counted alike): at most {THREAT_SHARE:.1%} reach the threat"
        f" line and {ANOMALY_SHARE:.1%} the other"
    )
    by_class = classlines.drawn(held_out, chosen.threat, threat, THREAT_SHARE)
    metrics = {
        "held_out": {form: forms[form].metrics for form in forms},
        "at_thresholds": _at_lines(held_out, chosen, threat, error),
        "shipped": chosen.name,
    }
    parts = pack.Parts(
        name=name,
        version=time.strftime("%Y.%m.%d", time.gmtime()),
        features=tuple(NAMES),
        window=run.recipe.window,
        scaler=run.scaler,
        autoencoder=chosen.autoencoder,
        classifier=chosen.classifier,
        form=chosen.name,
        batch=BATCH,
        error_threshold=error,
        threat_threshold=threat,
        calibrated_on=calibrated_on,
        usual=run.usual,
        golden_x=run.golden.x,
        golden_length=run.golden.length,
        about={
            "datasets": list(run.sources),
            "seed": run.recipe.seed,
            "recipe": asdict(run.recipe),
            "metrics": metrics,
        },
        class_thresholds=classlines.manifest(by_class),
    )
    return pack.write(folder, parts, card.text(parts))


def judged_forms(run: Run, echo: Echo) -> tuple[dict[str, Pair], float, float]:
    """Return both forms of a run's models, ready to judge, and the int8 form's threat and error
    lines: what an evaluation needs that ships nothing.
    """
    forms = {form: _form(run, form, echo) for form in ("int8", "float32")}
    threat, error = lines(run.held_out, forms["int8"])
    return {name: form.pair for name, form in forms.items()}, threat, error


def lines(held_out: Rows, form: Form) -> tuple[float, float]:
    """Return the threat and the error that few held-out benign rows reach."""
    benign = (held_out.label == 0) & held_out.clean
    weight = source_weights(held_out, benign)
    threat = max(calibrate.threshold(form.threat[benign], THREAT_SHARE, weight), LEAST_THREAT)
    return threat, calibrate.threshold(form.error[benign], ANOMALY_SHARE, weight)


def _form(run: Run, form: str, echo: Echo) -> Form:
    """Convert both models and measure them on the held-out rows."""
    build_ae, build_cl = run.builders()
    begun = time.monotonic()
    convert = partial(to_tflite, form=form, representative=run.representative)
    autoencoder = convert(build_ae, run.autoencoder, BATCH)
    classifier = convert(build_cl, run.classifier, BATCH)
    pair = _pair(run, form, autoencoder, classifier)
    rows = run.held_out
    answers = list(pair.infer(rows.x, rows.length))
    threat = 1 - np.concatenate([a[1] for a in answers])[:, 0]
    error = np.concatenate([a[2] for a in answers])
    benign = (rows.label == 0) & rows.clean
    attacks = rows.label > 0
    weight = source_weights(rows, benign)
    metrics: dict[str, Any] = {
        "auc_threat": auc(threat[benign], threat[attacks], weight),
        "auc_anomaly": auc(error[benign], error[attacks], weight),
        "bytes": {"autoencoder": len(autoencoder), "classifier": len(classifier)},
        "us_per_sequence": {str(BATCH): _microseconds(pair, rows)},
    }
    for share in (0.01, 0.001):
        line = calibrate.threshold(threat[benign], share, weight)
        metrics[f"recall_at_{share:.1%}"] = float((threat[attacks] >= line).mean())
    echo(
        f"{form}: {len(autoencoder) + len(classifier):,} bytes, converted in "
        f"{time.monotonic() - begun:.0f} s, AUC {metrics['auc_threat']:.4f} on held-out rows"
    )
    return Form(form, autoencoder, classifier, pair, threat, error, metrics)


def _pair(run: Run, form: str, autoencoder: bytes, classifier: bytes) -> Pair:
    shape = (run.recipe.window, len(NAMES))
    return Pair(
        run.scaler,
        ModelFile("autoencoder", autoencoder, form, BATCH),
        ModelFile("classifier", classifier, form, BATCH),
        shape,
        len(CLASSES),
    )


def _microseconds(pair: Pair, rows: Rows, count: int = 1_024) -> float:
    """Return the best of five runs: scaling and both models, one thread."""
    index = np.arange(count) % len(rows)
    x, length = rows.x[index], rows.length[index]
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        for _ in pair.infer(x, length):
            pass
        best = min(best, time.perf_counter() - begun)
    return round(best / count * 1e6, 1)


def _at_lines(rows: Rows, form: Form, threat: float, error: float) -> dict[str, Any]:
    """Return, by held-out source and by class, how many sequences reach the thresholds."""
    out: dict[str, Any] = {"benign": {}, "attacks": {}}
    names = np.array([group if group == "simulated" else source for group, source in rows.names])[
        rows.instance
    ]
    benign = (rows.label == 0) & rows.clean
    hits = {"threat": form.threat >= threat, "anomaly": form.error >= error}
    for source in sorted(set(names.tolist())):
        hit = benign & (names == source)
        if hit.any():
            out["benign"][source] = {
                "rows": int(hit.sum()), **{k: int(v[hit].sum()) for k, v in hits.items()}
            }  # fmt: skip
    for number, name in enumerate(CLASSES[1:], 1):
        hit = rows.label == number
        if hit.any():
            out["attacks"][name] = {
                "rows": int(hit.sum()), **{k: int(v[hit].sum()) for k, v in hits.items()}
            }  # fmt: skip
    return out
