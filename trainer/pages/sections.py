"""The sections of a page, each as HTML from the page's JSON; empty where a run has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.pages import driftpage, inside, plots
from trainer.pages.gather import FIGURES
from trainer.pages.html import (
    NONE,
    Numbers,
    at,
    esc,
    figure,
    figures,
    listing,
    note,
    shown,
    table,
)

MOST = 15
MOST_PARTS = 30
"""Classes, captures or devices shown; all are in the JSON."""
MOST_CLASSES = 8
HEADS = {
    "auc": ("AUC", "auc"), "average_precision": ("average precision", "auc"), "f1": ("F1", "auc"),
    "recall_at_0.001": ("recall at 0.1 % FP", "share"),
    "recall_at_0.01": ("recall at 1 % FP", "share"),
}  # fmt: skip
WISHED = "10 % false positives"
"""The row of the thresholds by which plain autoencoders are compared."""

Facts = dict[str, Any]


def opening(facts: Facts) -> str:
    """Return what stands above all sections: one sentence, and what to beware of."""
    what, headline = facts["what"], facts["headline"]
    numbers = Numbers(facts)
    first = headline["rows"][0]["figures"]["auc"]
    text = f"<p>{esc(what['about'])}</p><p>Judged on "
    text += f"{numbers.one('headline/sequences', 'count')} test sequences, "
    text += f"{numbers.one('headline/attacks', 'count')} of them attacks"
    if first["value"] is not None:
        text += f": AUC {numbers.one('headline/rows/0/figures/auc/value', 'auc')}"
        if first["low"] is not None:
            low, high = (
                numbers.one(f"headline/rows/0/figures/auc/{end}", "auc") for end in ("low", "high")
            )
            text += f" (95 % interval {low} to {high})"
    text += ".</p>"
    if not what["comparable"]:
        text += '<p class="warn"><strong>Not comparable</strong> with published figures.</p>'
    return text + "".join(f'<p class="warn">{esc(warning)}</p>' for warning in what["warnings"])


def trained(facts: Facts) -> str:
    """Return what was trained on what."""
    what, numbers = facts["what"], Numbers(facts)
    config = ", ".join(f"{key} {_plain(value)}" for key, value in what["config"].items())
    text = listing([
        ("model", f"{esc(what['family'])}: {esc(what['drawing'])}"),
        ("data set", f"{esc(what['set'])}, {what['features']} features; sha256"
                     f" {esc(what['digest'][:16])}…"),
        ("split", esc(what["split"])),
        ("sequences", f"of {what['sequences']['window']} rows; scaled by {esc(what['scaler'])}"),
        ("size", f"{numbers.one('what/parameters', 'count')} parameters or nodes"),
        ("hyperparameters", f"{esc(config)}; seed {what['seed']}"),
        ("computed on", esc(what["device"])),
        ("time", f"{what['seconds']['fit']:,.0f} s to fit, {what['seconds']['all']:,.0f} s in all"),
    ])  # fmt: skip
    rows = [
        [esc(row["class"]), *(numbers.one(f"what/by_class/{k}/{part}", "count")
                              for part in ("train", "valid", "test"))]
        for k, row in enumerate(what["by_class"])
    ]  # fmt: skip
    text += table(["rows of class", "training", "validation", "test"], rows)
    counts = [
        [esc(row["what"]), numbers.one(f"what/counts/{k}/rows", "count")]
        for k, row in enumerate(what["counts"])
    ]
    text += table(["what was done with rows and values", "count"], counts) if counts else ""
    return text


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def headline(facts: Facts) -> str:
    """Return the figures beside those of what needs no model."""
    numbers, found = Numbers(facts), facts["headline"]
    rows = [
        [esc(row["name"]),
         *(numbers.bounded(f"headline/rows/{k}/figures/{key}", HEADS[key][1]) for key in FIGURES)]
        for k, row in enumerate(found["rows"])
    ]  # fmt: skip
    drawn = {
        "groups": "whole captures or devices drawn anew",
        "rows": "sequences drawn anew: too narrow for another network",
    }.get(found["of"], "")
    caption = (
        f"{numbers.one('headline/sequences', 'count')} test sequences,"
        f" {numbers.one('headline/attacks', 'count')} attacks. Small: 95 % bootstrap interval"
        f" ({found['rounds']} rounds, {drawn}). Recall is read off the test ROC; F1 is at the line"
        f" drawn on validation ({esc(facts['at']['method'])}). FP: false positives."
        " 0 % to 0 % says that no drawn sample had any, not that there can be none."
    )
    text = table(["", *(HEADS[key][0] for key in FIGURES)], rows, caption, chosen=[0])
    majority = (
        f"Always telling the most frequent class is right for"
        f" {numbers.one('headline/majority/accuracy', 'share')} of the sequences"
        f" (macro F1 {numbers.one('headline/majority/macro_f1', 'auc')})"
    )
    if facts["classes"] is not None:
        majority += (
            f"; the model for {numbers.one('classes/accuracy', 'share')}"
            f" (macro F1 {numbers.one('classes/macro_f1', 'auc')})"
        )
    return text + f"<p>{majority}.</p>\n"


def curves(facts: Facts) -> str:
    """Return ROC, precision and recall, and the spread of the scores."""
    if facts["roc"] is None:
        return ""
    least = shown(facts["roc"]["least"], "share")
    parts = [
        figure(plots.roc(facts["roc"]), "ROC with a logarithmic axis of the false positive rate",
               f"ROC; the band is the 95 % interval. One benign sequence is {least}: left of"
               " that nothing is known."),
        figure(plots.precision_recall(facts["precision_recall"]), "precision by recall",
               f"Precision depends on how many attacks there are: here"
               f" {shown(facts['precision_recall']['share'], 'share')} of the sequences, at home"
               " far fewer."),
        figure(plots.spread(facts["spread"]), "how scores are spread", "Scores of test sequences,"
               " each side as shares of its own."),
    ]  # fmt: skip
    return figures(parts)


def confusion(facts: Facts) -> str:
    """Return what was flagged and told as what, and how sure that is."""
    numbers, line = Numbers(facts), facts["at"]
    rows = [
        [row["of"], numbers.one(f"at/table/{k}/flagged", "count"),
         numbers.one(f"at/table/{k}/passed", "count"),
         numbers.bounded(f"at/table/{k}/share", "share")]
        for k, row in enumerate(line["table"])
    ]  # fmt: skip
    caption = (
        f"At the line {shown(line['threshold'], 'figure')} ({esc(line['method'])}, drawn on"
        " validation). Interval of Wilson: it takes sequences for independent, and those of one"
        " capture are not."
    )
    text = table(["is", "flagged", "passed", "share flagged"], rows, caption)
    if facts["doubt"] is not None:
        found = facts["doubt"]
        rows = [
            [row["of"], *(numbers.one(f"doubt/table/{k}/{key}", "count")
                          for key in ("flagged", "unsure", "passed"))]
            for k, row in enumerate(found["table"])
        ]  # fmt: skip
        text += "<h3>With the model's own doubt</h3>" + table(
            ["is", "surely flagged", "unsure", "surely passed"], rows,
            f"Of {found['sequences']:,} test sequences. Unsure: the line lies within the interval"
            f" that holds {found['coverage']:.0%} of {found['passes']} passes with dropout on.",
        )  # fmt: skip
    found = facts["classes"]
    if found is not None:
        text += "<h3>Classes</h3>" + figures([
            figure(plots.confusion(found), "confusion matrix",
                   "Per cent of each class (row) told as each class; an empty cell is 0.")
        ])  # fmt: skip
        names = found["names"][:MOST_CLASSES]
        rows = [
            [esc(name), *(_cell(numbers, f"classes/table/{i}/{j}") for j in range(len(names)))]
            for i, name in enumerate(names)
        ]
        more = " The first classes; the JSON has all." if len(found["names"]) > MOST_CLASSES else ""
        text += table(
            ["is, told as", *map(esc, names)], rows,
            f"Sequences; small: 95 % bootstrap interval of the share of the row.{more}",
        )  # fmt: skip
    return text


def _cell(numbers: Numbers, path: str) -> str:
    found = at(numbers.facts, path)
    text = numbers.one(f"{path}/count", "count")
    if found["low"] is None or not found["high"]:
        return text
    low, high = numbers.one(f"{path}/low", "share"), numbers.one(f"{path}/high", "share")
    return f"{text}<small>{low} to {high}</small>"


def by_part(key: str, kind: str) -> Callable[[Facts], str]:
    """Return the section of figures by class, by capture or by device."""

    def made(facts: Facts) -> str:
        rows = facts[key][:MOST_PARTS]
        if not rows:
            return ""
        numbers = Numbers(facts)
        cells = [
            [esc(row["name"]), numbers.one(f"{key}/{k}/sequences", "count"),
             numbers.one(f"{key}/{k}/attacks", "count"), numbers.one(f"{key}/{k}/auc", "auc"),
             row["against"] if row["auc"] is not None else "",
             numbers.bounded(f"{key}/{k}/detection", "share"),
             numbers.bounded(f"{key}/{k}/false_positives", "share")]
            for k, row in enumerate(rows)
        ]  # fmt: skip
        head = [kind, "sequences", "attacks", "AUC", "against", "detection", "false positives"]
        more = ""
        if len(facts[key]) > len(rows):
            more = f"The {len(rows)} largest of {len(facts[key])}; the JSON has all. "
        caption = f"{more}At the line of the table above; small: Wilson's 95 % interval."
        text = ""
        if len(rows) > 1:
            text = figures([figure(plots.parts(rows), f"detection by {kind}")])
        return text + table(head, cells, caption, text=[4])

    return made


def thresholds(facts: Facts) -> str:
    """Return the table to choose a line from."""
    numbers, rows = Numbers(facts), facts["thresholds"]
    cells, chosen = [], []
    for k, row in enumerate(rows):
        scope = esc(row["scope"])
        if row["own_lines"]:
            scope += f" ({row['own_lines']} own)"
        if row["method"] == WISHED and row["scope"] == "global":
            chosen.append(k)
        cells.append([
            esc(row["method"]), scope, numbers.one(f"thresholds/{k}/threshold", "figure"),
            numbers.one(f"thresholds/{k}/valid/false_positives", "share"),
            *(numbers.one(f"thresholds/{k}/test/{key}", "share")
              for key in ("detection", "false_positives", "precision")),
        ])  # fmt: skip
    return table(
        ["line by", "scope", "score", "FP promised", "detection", "FP", "precision"], cells,
        "Every line is drawn on validation. Promised: its false positives there; the last three"
        f" are of the test sequences. The row {WISHED!r} is the one that plain autoencoders are"
        " compared by.",
        text=[1], chosen=chosen,
    )  # fmt: skip


def training(facts: Facts) -> str:
    """Return the losses by epoch."""
    found = facts["training"]
    if not found or not found["loss"]:
        return ""
    ended = f" Stopped: {esc(found['stopped'])}." if found["stopped"] else ""
    caption = (
        f"{len(found['loss'])} epochs, {sum(found['seconds']):.0f} s; the weights of epoch"
        f" {found['best'] + 1} were kept.{ended}"
    )
    return figures([figure(plots.training(found), "loss by epoch", caption)])


def forms(facts: Facts) -> str:
    """Return int8 and the other forms beside float."""
    found = facts["forms"]
    if found is None:
        return ""
    text = ""
    paths = [(None, "forms", found)]
    if "members" in found:
        paths = [(name, f"forms/members/{name}", one) for name, one in found["members"].items()]
    for name, path, one in paths:
        text += (f"<h3>{esc(name)}</h3>" if name else "") + _forms(Numbers(facts), path, one)
    many = found.get("compared_on")
    return text + (note(f"Compared on {many:,} validation sequences.") if many else "")


def _forms(numbers: Numbers, path: str, found: dict[str, Any]) -> str:
    rows, chosen = [], []
    for k, one in enumerate(found["forms"]):
        if one["form"] == found["chosen"]:
            chosen.append(k)
        here = f"{path}/forms/{k}"
        times = [
            f"{esc(name)} {' / '.join(shown(us, 'figure') for us in by.values())}"
            for name, by in one["microseconds"].items()
        ]
        rows.append([
            esc(one["form"]), numbers.one(f"{here}/bytes", "count"),
            *(numbers.one(f"{here}/{key}", "auc") if one.get(key) is not None else NONE
              for key in ("auc", "auc_lost", "recall_lost")),
            "<br>".join(times),
            shown(max(one["difference"].values()), "figure"),
        ])  # fmt: skip
    head = ["form", "bytes", "AUC", "AUC lost", "recall lost at 0.1 % FP",
            "µs a sequence, batch 1 / 64", "largest difference"]  # fmt: skip
    return table(head, rows, f"Shipped: {esc(found['why'])}.", text=[5], chosen=chosen)


def drift(facts: Facts) -> str:
    """Return the drift from train to test."""
    return driftpage.section(facts, "drift") if facts["drift"] is not None else ""


def again(facts: Facts) -> str:
    """Return what repeats the run."""
    what = facts["what"]
    versions = ", ".join(f"{name} {value}" for name, value in what["versions"].items())
    return listing([
        ("sha256 of the set", esc(what["digest"])), ("versions", esc(versions)),
        ("fitted", esc(", ".join(f"{k} {_plain(v)}" for k, v in what["how"].items()))),
        ("at export", esc(what["at_export"])),
    ])  # fmt: skip


SECTIONS: tuple[tuple[str, str, Callable[[Facts], str]], ...] = (
    ("figures", "Figures", headline),
    ("trained", "What was trained on what", trained),
    ("curves", "Curves", curves),
    ("confusion", "What is flagged", confusion),
    ("by-class", "By class", by_part("by_class", "class")),
    ("by-capture", "By capture", by_part("by_capture", "capture")),
    ("by-device", "By device", by_part("by_device", "device")),
    ("thresholds", "Thresholds", thresholds),
    ("importance", "Which features count", inside.importance),
    ("rebuilt", "What is rebuilt badly", inside.rebuilt),
    ("attention", "Where it looks", inside.attention),
    ("doubt", "Doubt and error", inside.doubt),
    ("training", "Training", training),
    ("forms", "int8 beside float", forms),
    ("drift", "Drift from train to test", drift),
    ("again", "To do it again", again),
)
WHY_NOT = {
    "curves": "ROC, precision and recall: the test rows are not of both kinds.",
    "by-device": "Figures by device: no capture of the test has several.",
    "importance": "Which features count: the test rows are not of both kinds.",
    "rebuilt": "Reconstructions: the family rebuilds nothing.",
    "attention": "Attention maps: the family has no attention.",
    "doubt": "Doubt: the family does not tell any.",
    "training": "Curves of training: nothing was fitted by gradient.",
    "forms": "int8 beside float: this run was not exported.",
    "drift": "Drift: train or test has no benign row.",
}
