"""The models of a bundle as its manifest names them: one file, or several that answer together.

`models.classifier` of a manifest is one model, {file, form, batch}, or an ensemble:

    {"mean": "log-odds", "members": [
      {"file": "classifier.tflite", "form": "int8", "batch": 32, "weight": 0.6},
      {"file": "forest.npz", "form": "trees", "takes": "last", "scaled": false, "weight": 0.4}]}

Every member gives a probability of each class, or, where its file knows two classes, of benign and
not benign alone. The threat of the ensemble is the weighted mean of the members' log odds of
threat (or of their threats, with "probability"); which attack it is, the weighted mean of what the
members that know all classes say. guardian/voting.py runs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMS = ("int8", "float32")
"""Of a TFLite model: what its weights and sums are; told, not needed to run it."""
TREES = "trees"
"""Form of a member that guardian.trees walks."""
TAKES = ("last", "summary", "flat")
"""The rows that trees see of a sequence: its last step; that, mean and spread; all its steps in a
row, the oldest first (steps that are padding are 0)."""
MEANS = ("log-odds", "probability")
MAX_MEMBERS = 8
"""Members of an ensemble: each costs its time with every sequence."""


@dataclass(frozen=True)
class ModelFile:
    """One model: the bytes that were verified, since a file may change later."""

    name: str
    content: bytes
    form: str
    """One of FORMS, or TREES."""
    batch: int
    """Sequences of one call; fixed when a TFLite model was exported. Of trees 0: any number."""
    weight: float = 1.0
    """Within an ensemble."""
    takes: str = ""
    """Of trees: one of TAKES."""
    scaled: bool = False
    """Of trees: whether they see scaled features. A TFLite model always does."""

    @property
    def file(self) -> str:
        """The name of its file within a bundle."""
        return f"{self.name}.npz" if self.form == TREES else f"{self.name}.tflite"

    def as_json(self) -> dict[str, Any]:
        """Return its entry in the manifest, without the weight."""
        if self.form == TREES:
            return {"file": self.file, "form": TREES, "takes": self.takes, "scaled": self.scaled}
        return {"file": self.file, "form": self.form, "batch": self.batch}


@dataclass(frozen=True)
class Ensemble:
    """The models that together are the classifier; often one."""

    members: tuple[ModelFile, ...]
    mean: str = MEANS[0]

    @property
    def form(self) -> str:
        """The forms of its members, such as `int8` or `int8 + trees`."""
        return " + ".join(dict.fromkeys(member.form for member in self.members))

    @property
    def batch(self) -> int:
        """The largest batch of its members."""
        return max(member.batch for member in self.members)

    def as_json(self) -> dict[str, Any]:
        """Return `models.classifier` of the manifest."""
        if len(self.members) == 1 and self.members[0].form != TREES:
            return self.members[0].as_json()
        members = [{**member.as_json(), "weight": member.weight} for member in self.members]
        return {"mean": self.mean, "members": members}


def alone(model: ModelFile | Ensemble) -> Ensemble:
    """Return a model as an ensemble of one; an ensemble as it is."""
    return model if isinstance(model, Ensemble) else Ensemble((model,))


def model(key: str, entry: Mapping[str, Any], files: Mapping[str, bytes]) -> ModelFile:
    """Return a TFLite model that the manifest names under `key`. Raises ValueError, TypeError or
    KeyError with what is wrong.
    """
    form, batch = str(entry["form"]), _whole(entry["batch"], f"models.{key}.batch")
    if not 1 <= batch <= 4096:
        raise ValueError(f"models.{key}.batch {batch} is not between 1 and 4096")
    if form not in FORMS:
        raise ValueError(f"models.{key}.form {form!r} is not one of {', '.join(FORMS)}")
    return ModelFile(key, _content(key, entry, files), form, batch)


def classifier(entry: Mapping[str, Any], files: Mapping[str, bytes]) -> Ensemble:
    """Return the classifier that the manifest names. Raises as `model` does."""
    if "members" not in entry:
        return Ensemble((model("classifier", entry, files),))
    mean = str(entry.get("mean", MEANS[0]))
    if mean not in MEANS:
        raise ValueError(f"models.classifier.mean {mean!r} is not one of {', '.join(MEANS)}")
    listed = entry["members"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_MEMBERS:
        raise ValueError(f"models.classifier.members must be a list of 1 to {MAX_MEMBERS} models")
    members = tuple(_member(k, one, files) for k, one in enumerate(listed))
    return Ensemble(members, mean)


def _member(number: int, entry: Mapping[str, Any], files: Mapping[str, bytes]) -> ModelFile:
    key = f"classifier.members[{number}]"
    weight = float(entry.get("weight", 1.0))
    if not math.isfinite(weight) or not 0 < weight <= 1e6:
        raise ValueError(f"models.{key}.weight must be a number above 0")
    name = str(entry["file"]).rpartition(".")[0]
    if entry["form"] != TREES:
        found = model(key, entry, files)
        return ModelFile(name, found.content, found.form, found.batch, weight)
    takes, scaled = str(entry["takes"]), entry.get("scaled", False)
    if takes not in TAKES:
        raise ValueError(f"models.{key}.takes {takes!r} is not one of {', '.join(TAKES)}")
    if not isinstance(scaled, bool):
        raise TypeError(f"models.{key}.scaled must be true or false")
    return ModelFile(name, _content(key, entry, files), TREES, 0, weight, takes, scaled)


def _content(key: str, entry: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    if entry["file"] not in files:
        raise ValueError(f"models.{key}.file {entry['file']!r} is not among the files")
    return files[entry["file"]]


def _whole(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{key} must be a whole number")
    return value
