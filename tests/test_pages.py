"""The page of a run: whole, self-contained, with the numbers of its JSON, whatever names are."""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.errors import InputError
from guardian.tables import Array
from tests.test_experiment import QUICK, made, run
from trainer.fitting.run import Splitting

pytestmark = pytest.mark.train

HOSTILE = ("<script>alert(1)</script>", "a$\\frac{", "x' onload='alert(2)", "naïve\x1b[31m 漢")
RESULTS = "<b onclick=x>"
VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data: list[tuple[str, str, str]] = []
        """Path, format and text of each number."""
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(str(given["id"]))
        if tag == "data":
            self.data.append((str(given["value"]), str(given["class"]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data
        if self.open[-1:] == ["data"]:
            path, how, said = self.data[-1]
            self.data[-1] = path, how, said + data


def hostile() -> Any:
    """Return the made set with names that a stranger chose, and several devices of a capture."""
    prepared = made(groups=6, rows=120)
    groups = tuple(f"{RESULTS}{k // 2}/device {k}" for k in range(6))
    return replace(prepared, features=HOSTILE, groups=groups, classes=("benign", RESULTS, "odd"))


PLAIN = dict.fromkeys(("hierarchy", "memory", "adversary", "bayesian", "variance"), False)
FAMILIES: dict[str, dict[str, Any]] = {
    "lstm-autoencoder": {"window": 3, "hidden": [4, 2]},
    "temporal-attention": {"window": 4, "hidden": [4], "heads": 2, "monte_carlo": 3, **PLAIN},
    "boosted": {"window": 3, "trees": 5},
}
"""One that rebuilds, one with attention and doubt, and trees."""


@pytest.fixture(scope="module", params=FAMILIES)
def page(request: pytest.FixtureRequest, made_pages: Pages) -> Path:
    """The page of a run of each family."""
    return made_pages(request.param)


class Pages(dict[str, Path]):
    """Pages by family, made when they are asked for first."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __call__(self, family: str) -> Path:
        if family not in self:
            from trainer.pages import write_page

            place = self._folder / family
            run(family, place, hostile(), config=FAMILIES[family], how=replace(QUICK, epochs=1))
            self[family] = write_page(place, place)
        return self[family]


@pytest.fixture(scope="module")
def made_pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    pytest.importorskip("tensorflow")
    return Pages(tmp_path_factory.mktemp("runs"))


def numbers(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_each_section_is_there_or_said_to_be_absent(page: Path) -> None:
    from trainer.pages.sections import SECTIONS, WHY_NOT

    absent = {
        "lstm-autoencoder": {"attention", "doubt", "forms"},
        "temporal-attention": {"rebuilt", "forms"},
        "boosted": {"rebuilt", "attention", "doubt", "training", "forms"},
    }
    family = page.parent.name
    found = Page(page.read_text(encoding="utf-8"))
    assert not found.open
    wanted = [name for name, _, _ in SECTIONS if name not in absent[family]]
    assert found.ids == [*wanted, "absent"]
    for name in absent[family]:
        assert WHY_NOT[name] in found.text
    assert [tag for tag, _ in found.tags].count("h1") == 1
    assert family in found.text


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    pictures = 0
    for tag, given in found.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base"}
        assert not [name for name in given if name.startswith("on")]
        for name in ("src", "srcset", "poster", "background", "data"):
            if name in given:
                assert tag in {"img", "source"}
                assert str(given[name]).startswith("data:image/png;base64,")
                pictures += 1
        if "href" in given:
            assert str(given["href"])[1:] in found.ids
    assert pictures >= 14
    for outside in ("http://", "https://", "@import", "url(", "javascript:"):
        assert outside not in text
    policy = [g["content"] for _, g in found.tags if "http-equiv" in g]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_plot_is_drawn_for_a_light_and_a_dark_page(made_pages: Pages) -> None:
    image = pytest.importorskip("PIL.Image")
    page = Page(made_pages("lstm-autoencoder").read_text(encoding="utf-8"))
    kinds: dict[str, list[float]] = {"img": [], "source": []}
    for tag, given in page.tags:
        if tag in kinds:
            raw = base64.b64decode(str(given.get("src") or given.get("srcset")).partition(",")[2])
            picture = image.open(io.BytesIO(raw)).convert("L")
            kinds[tag].append(float(np.median(np.asarray(picture))))
            assert picture.width >= 400
    assert len(kinds["img"]) == len(kinds["source"]) >= 8
    assert min(kinds["img"]) > 200
    assert max(kinds["source"]) < 60


def test_names_from_data_are_text_and_never_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for markup in ("<script", "<b ", "onclick=x>", "\x1b"):
        assert markup not in text
    found = Page(text)
    for name in (RESULTS, HOSTILE[0], HOSTILE[2]):
        assert name in found.text
    names = {row["name"] for row in numbers(page)["importance"]["features"]}
    assert names == set(HOSTILE)  # the JSON has them as they are


def test_the_numbers_of_the_page_are_those_of_the_json(page: Path) -> None:
    from trainer.pages.html import at, shown

    facts = numbers(page)
    found = Page(page.read_text(encoding="utf-8"))
    assert len(found.data) > 100
    for place, how, text in found.data:
        assert shown(at(facts, place), how) == text, place
    result = json.loads((page.parent / "result.json").read_text())
    model = facts["headline"]["rows"][0]["figures"]
    test = result["metrics"]["test"]
    for name in ("auc", "average_precision", "recall_at_0.001", "recall_at_0.01"):
        assert model[name]["value"] == test[name]
        assert [model[name]["low"], model[name]["high"]] == test["bounds"][name]
    assert model["f1"]["value"] == test["at"]["f1"]
    flagged = {row["of"]: row for row in facts["at"]["table"]}
    assert flagged["attack"]["flagged"] == test["at"]["true_positives"]
    assert flagged["benign"]["flagged"] == test["at"]["false_positives"]
    for parts in ("by_class", "by_capture", "by_device"):
        assert sum(row["sequences"] for row in facts[parts]) == test["sequences"]
    components = result["baselines"]["pca"]["components"]
    assert f"principal components ({components})" in found.text


def test_importance_finds_the_features_that_tell(made_pages: Pages) -> None:
    found = numbers(made_pages("boosted"))["importance"]
    lost = {row["name"]: row["lost"] for row in found["features"]}
    # The first raises one attack, the third breaks apart in the other; the last is noise.
    assert lost[HOSTILE[0]] > 0.05
    assert abs(lost[HOSTILE[3]]) < 0.05
    assert found["features"][0]["name"] == HOSTILE[0]


def test_reconstructions_attention_and_doubt_are_what_the_model_says(
    made_pages: Pages,
) -> None:
    facts = numbers(made_pages("lstm-autoencoder"))
    for one in facts["rebuilt"]["examples"]:
        error = np.square(np.array(one["given"]) - np.array(one["again"])).mean()
        assert error == pytest.approx(one["score"], rel=1e-3)
        above = one["score"] > facts["at"]["threshold"]
        assert above == (one["outcome"] in ("true positive", "false positive"))
    facts = numbers(made_pages("temporal-attention"))
    maps = np.array([one["map"] for one in facts["attention"]["classes"]])
    np.testing.assert_allclose(maps.sum(axis=2), 1.0, rtol=1e-3)
    assert maps.shape[1:] == (4, 4)
    doubt = facts["doubt"]
    assert (
        sum(v for row in doubt["table"] for k, v in row.items() if k != "of") == doubt["sequences"]
    )
    assert sum(row["of"] for row in doubt["by_doubt"]["epistemic"]) == doubt["sequences"]


def test_a_form_that_was_exported_stands_beside_float(made_pages: Pages) -> None:
    from trainer.pages import sections
    from trainer.pages.gather import gather

    forms = [
        {"form": form, "bytes": size, "microseconds": {"LiteRT": {"1": 20.0, "64": 8.5}},
         "difference": {"LiteRT": 0.01}, "spread": 1.0, "auc": 0.9, "auc_lost": lost,
         "recall_lost": None}
        for form, size, lost in (("float32", 40_000, 0.0), ("int8", 12_345, 0.0021))
    ]  # fmt: skip
    about = {"chosen": "int8", "why": "int8 is the quickest", "forms": forms, "compared_on": 99}
    folder = made_pages("boosted").parent
    (folder / "export").mkdir(exist_ok=True)
    (folder / "export" / "forms.json").write_text(json.dumps(about))
    page = Page(sections.forms(gather(folder)))
    assert "12,345" in page.text
    assert "Compared on 99 validation sequences" in page.text
    assert "0.002" in page.text


def test_quiet_weeks_without_attacks_have_a_page(tmp_path: Path) -> None:
    from trainer.pages import write_page

    prepared = made()
    unlabelled = replace(prepared, label=np.full(len(prepared), -1, np.int16))
    run("forest", tmp_path, unlabelled, config={"trees": 5}, split=Splitting("time"))
    page = Page(write_page(tmp_path, tmp_path / "page").read_text(encoding="utf-8"))
    assert "curves" not in page.ids
    assert "the test rows are not of both kinds" in page.text
    assert "No row has a label" in page.text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    from trainer.pages import write_page

    with pytest.raises(InputError, match="no whole run"):
        write_page(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())


# --- curves and intervals -------------------------------------------------------------------


def scores(n: int = 500) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    attack = rng.uniform(size=n) < 0.3
    return np.round(rng.normal(size=n) + attack, 1), attack


def test_curves_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    from trainer.pages import figures

    score, attack = scores()
    false, hits = figures.roc(score, attack)
    wanted = metrics.roc_curve(attack, score, drop_intermediate=False)
    np.testing.assert_allclose(false, wanted[0])
    np.testing.assert_allclose(hits, wanted[1])
    recall, precision = figures.precision_recall(score, attack)
    exact = metrics.precision_recall_curve(attack, score)
    np.testing.assert_allclose(precision[::-1], exact[0][:-1])
    np.testing.assert_allclose(recall[::-1], exact[1][:-1])
    thin = np.array(figures.thinned(false, hits, 20))
    assert len(thin) <= 24
    assert thin[[0, -1]].tolist() == [[0, 0], [1, 1]]


def test_intervals_hold_what_they_should() -> None:
    from trainer.pages import figures

    # Wilson's interval of 8 of 10, worked out by hand.
    found = figures.share(8, 10)
    assert (found["low"], found["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert figures.share(0, 5)["low"] == 0.0
    assert figures.share(0, 0)["value"] is None
    score, attack = scores()
    at = np.array([0.01, 0.1, 0.5])
    band = np.array(figures.roc_band(score, attack, np.zeros(len(score)), at))
    false, hits = figures.roc(score, attack)
    value = hits[np.searchsorted(false, at, side="right") - 1]
    assert (band[:, 1] <= value + 0.02).all()
    assert (value <= band[:, 2] + 0.02).all()
    label = attack.astype(int)
    table = figures.confusion(label, label, np.zeros(len(label)), 2)
    assert table[0][1]["count"] == 0
    assert table[1][1]["value"] == 1.0
