"""The bundle's card: what it learned from, how well it does, where it ends. For people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.pack import Parts


def text(parts: Parts) -> str:
    """Return the card as markdown, made from what the manifest holds."""
    about = parts.about
    metrics = about["metrics"]
    forms = metrics["held_out"]
    lines = at_lines(metrics["at_thresholds"])
    return f"""# Bundle {parts.name} {parts.version}

Two models that read the last {parts.window} slices of a device ({len(parts.features)} features
each): an LSTM autoencoder (50-20-20-50, benign traffic alone) and the classifier
`{about["recipe"]["classifier"]}` of trainer/zoo.
Shipped as {parts.form}, batch {parts.batch}, builtin TFLite operations only.

## What it learned from
{
        table(
            ("source", "used for", "files", "sequences", "licence"),
            _sources(about["datasets"]),
        )
    }

Seed {about["seed"]}. The simulator's demo and test homes were never used.

## Thresholds
Threat {parts.threat_threshold:.4f}, reconstruction error {parts.error_threshold:.4f};
calibrated on {parts.calibrated_on}.{classes(parts.class_thresholds)}

{lines}

Benign rows of a device that is itself attacking others are left out of this table.

## int8 beside float, on the held-out rows
{
        table(
            (
                "form",
                "AUC threat",
                "recall at 1 %",
                "recall at 0.1 %",
                "AUC anomaly",
                "bytes",
                "us a sequence, both models",
            ),
            (
                (
                    form,
                    f"{m['auc_threat']:.4f}",
                    f"{m['recall_at_1.0%']:.3f}",
                    f"{m['recall_at_0.1%']:.3f}",
                    f"{m['auc_anomaly']:.4f}",
                    f"{sum(m['bytes'].values()):,}",
                    "/".join(str(v) for v in m["us_per_sequence"].values()),
                )
                for form, m in forms.items()
            ),
        )
    }

## Limits
* The attacks among the held-out rows are mostly simulated: these figures say that the models
  learned and survived quantization, not how well they find malware never seen. For that see the
  table by capture left out in the README.
* Few real homes taught it. A new kind of device, its set-up or a large update may look strange.
* A device that calls a dead server all day resembles a bot without its master.
* Sessions with files on odd ports (FTP, a large update) may be told as a download.
* The models miss password guessing over MQTT; a plain rule of the gateway finds it.
* The autoencoder is a second opinion and an explanation; alone it is a weak detector.
"""


def classes(lines: Mapping[str, float]) -> str:
    """Return a sentence on the threat lines by class of device."""
    said = ", ".join(f"{line:.4f} for a {kind}" for kind, line in lines.items())
    return f" By class of device: threat {said}." if said else ""


def at_lines(found: dict[str, Any]) -> str:
    """Return the table of what reaches the thresholds."""
    rows = [
        (f"{kind}: {name}", f"{n['rows']:,}", share(n["threat"], n["rows"]),
         share(n["anomaly"], n["rows"]))
        for kind, group in (("benign", found["benign"]), ("attack", found["attacks"]))
        for name, n in group.items()
    ]  # fmt: skip
    return table(("held-out rows", "sequences", "reach threat", "reach anomaly"), rows)


def share(k: int, n: int) -> str:
    """Return k of n as a share, below 100 rows as k of n."""
    return f"{k} of {n}" if n < 100 else f"{k / n:.2%}"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a markdown table."""
    head = list(head)
    out = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    out += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(out)


def _sources(datasets: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for each source and use; its files together."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for one in datasets:
        key = (one["name"], one["used_for"], one["licence"])
        both = sums.setdefault(key, [0, 0])
        both[0] += one["sha256"] is not None
        both[1] += one["rows"]
    return [
        (name, use, str(files) if files else "-", f"{rows:,}", licence)
        for (name, use, licence), (files, rows) in sums.items()
    ]
