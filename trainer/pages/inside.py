"""The sections on the inside of a model: what it looks at, how it rebuilds, how sure it is."""

from __future__ import annotations

from typing import Any

from trainer.pages import plots
from trainer.pages.html import Numbers, esc, figure, figures, shown, table

MOST = 15
"""Features shown; all are in the JSON."""
MOST_CLASSES = 8

Facts = dict[str, Any]


def importance(facts: Facts) -> str:
    """Return the features that the model looks at."""
    found = facts["importance"]
    if found is None:
        return ""
    numbers = Numbers(facts)
    text = (
        f"<p>What the AUC ({numbers.one('importance/auc', 'auc')} of"
        f" {numbers.one('importance/sequences', 'count')} test sequences, as many benign as attacks"
        " where there are enough) loses when the values of a feature are dealt out among the"
        f" sequences anew; the mean of {found['rounds']} times, the thin line is their range, which"
        " leaves out the chance in the choice of the sequences. Of two features that say the same,"
        " neither seems to count: see the groups.</p>\n"
    )
    parts = [figure(plots.importance(found["features"][:MOST], "feature"),
                    "features by what the AUC loses without them",
                    f"The first {min(MOST, len(found['features']))} of {len(found['features'])}"
                    " features.")]  # fmt: skip
    if found["groups"]:
        many = min(MOST, len(found["groups"]))
        parts.append(figure(plots.importance(found["groups"][:MOST], "group"),
                            "groups of features by what the AUC loses without them",
                            f"{many} groups of features whose names begin alike, dealt out"
                            " together."))  # fmt: skip
    rows = [
        [esc(row["name"]), numbers.one(f"importance/features/{k}/lost", "auc"),
         numbers.one(f"importance/features/{k}/low", "auc"),
         numbers.one(f"importance/features/{k}/high", "auc")]
        for k, row in enumerate(found["features"][:MOST])
    ]  # fmt: skip
    return text + figures(parts) + table(["feature", "AUC lost", "least", "most"], rows)


def rebuilt(facts: Facts) -> str:
    """Return error by feature, and sequences as given and as rebuilt."""
    found = facts["rebuilt"]
    if found is None:
        return ""
    many = found["sequences"]
    caption = (
        f"Mean over {many['benign']:,} benign and {many['attack']:,} attack sequences; the"
        f" {min(MOST, len(found['features']))} of {len(found['features'])} features with the"
        " largest error of attacks."
    )
    parts = [figure(plots.feature_error(found["features"][:MOST]), "error by feature", caption)]
    examples = [
        figure(
            plots.rebuilt(one, found["names"]), f"a {one['outcome']} as given and as rebuilt",
            f"<strong>{esc(one['outcome'])}</strong>: {esc(one['class'])} of"
            f" {esc(one['group'])}, score {shown(one['score'], 'figure')}; the one with the median"
            f" score of {one['of']:,}.",
        )
        for one in found["examples"]
    ]  # fmt: skip
    return (
        figures(parts) + "<h3>As given and as rebuilt</h3>"
        "<p>Scaled features that are rebuilt worst. Not chosen by hand: of each outcome the"
        " sequence with the median score.</p>\n" + figures(examples)
    )


def attention(facts: Facts) -> str:
    """Return the mean attention map of each class."""
    found = facts["attention"]
    if found is None:
        return ""
    classes = sorted(found["classes"], key=lambda one: -one["sequences"])[:MOST_CLASSES]
    most = max(value for one in classes for row in one["map"] for value in row)
    text = (
        f"<p>How much each step (row) looks at each step (column; the last is now), the mean over"
        f" {found['heads']} heads, {found['layers']}"
        f" layer{'s' if found['layers'] > 1 else ''} and the sequences of a class (their number in"
        " brackets). A row sums to 1; an even look would be"
        f" {shown(1 / len(classes[0]['map']), 'figure')} everywhere.</p>\n"
    )
    return text + figures(
        [figure(plots.attention(one, most), f"attention of {one['class']}") for one in classes],
        small=True,
    )


def doubt(facts: Facts) -> str:
    """Return how often is wrong what is in doubt."""
    found = facts["doubt"]
    if found is None:
        return ""
    numbers, overall = Numbers(facts), facts["doubt"]["wrong"]["value"]
    text = (
        f"<p>{numbers.one('doubt/sequences', 'count')} test sequences, {found['passes']} passes"
        " with dropout on, in tenths by rising doubt. Epistemic doubt is what more data could"
        " settle, aleatoric doubt is noise. Doubt that is worth something rises with the errors:"
        " the AUC of telling wrong answers by it is"
        f" {numbers.one('doubt/auc/epistemic', 'auc')} (epistemic) and"
        f" {numbers.one('doubt/auc/aleatoric', 'auc')} (aleatoric). Dashed: all sequences,"
        f" {numbers.one('doubt/wrong/value', 'share')} of which are told wrongly"
        f" ({numbers.one('doubt/wrong/low', 'share')} to"
        f" {numbers.one('doubt/wrong/high', 'share')}).</p>\n"
    )
    return text + figures(
        figure(plots.doubt(rows, kind, overall), f"wrong answers by {kind} doubt",
               f"By {kind} doubt; the bars are 95 % intervals.")
        for kind, rows in found["by_doubt"].items()
    )  # fmt: skip
