"""Predicted Dice in the report: the order of cases, and the correlation with true Dice."""

from pathlib import Path

import numpy as np
import pytest

from medfm3d.evaluation import Evaluation, OrganScore, compare_prediction, rank_cases, write_report
from medfm3d.volumes import Volume, write_volume

ORGANS = {"liver": 1, "<b>spleen</b>": 2}
PREDICTED = {"a": (0.9, 0.8), "b": (0.5, 0.7), "c": (0.95, 0.0), "d": (0.8, 0.9)}
TRUE = {"a": (0.92, 0.85), "b": (0.4, None), "c": (0.9, 0.1), "d": (0.85, 0.8)}


def quality() -> list[dict]:
    return [
        {"case": f"{case}_0000", "predicted_dice": dict(zip(ORGANS, pair, strict=True))}
        for case, pair in PREDICTED.items()
    ]


def evaluation() -> Evaluation:
    scores = [
        OrganScore(case, organ, dice, None, dice, 1.0, 1.0, 0.0)
        for case, pair in TRUE.items()
        for organ, dice in zip(ORGANS, pair, strict=True)
    ]
    return Evaluation(tuple(scores), tuple(ORGANS), 2.0, 0)


def test_the_lowest_predicted_dice_comes_first() -> None:
    ranked = rank_cases(quality(), list(PREDICTED), list(ORGANS))
    assert [one.case for one in ranked] == ["c", "b", "a", "d"]
    assert ranked[0].mean == pytest.approx(0.475) and ranked[0].true == {}
    assert [one.case for one in rank_cases(quality(), ["a", "b"], ["liver"])] == ["b", "a"]
    assert rank_cases([], list(PREDICTED), list(ORGANS)) == []


def test_agreement_is_that_of_all_pairs() -> None:
    agreement = compare_prediction(rank_cases(quality(), list(PREDICTED), list(ORGANS), evaluation()))
    pairs = [(p, t) for case in TRUE for p, t in zip(PREDICTED[case], TRUE[case], strict=True) if t is not None]
    predicted, true = np.array(pairs).T
    assert agreement.n == 7
    assert agreement.pearson == pytest.approx(np.corrcoef(predicted, true)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, true)]
    assert agreement.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=0.1)  # ties
    assert agreement.mean_absolute_error == pytest.approx(np.abs(predicted - true).mean())
    few = compare_prediction(rank_cases(quality(), ["a"], list(ORGANS), evaluation()))
    assert few.n == 2 and few.pearson is None and few.mean_absolute_error > 0
    assert compare_prediction([]).n == 0


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    array = np.zeros((8, 8, 8), np.uint8)
    array[1:4, 1:4, 1:4] = 1
    array[5:7, 5:7, 5:7] = 2
    for case in PREDICTED:
        for place in ("masks", "images"):
            write_volume(Volume(array, np.eye(4)), tmp_path / place / f"{case}.nii.gz")
    return tmp_path


def test_the_page_lists_cases_to_annotate(folders: Path) -> None:
    where = {"predictions": folders / "masks", "images": folders / "images", "remarks": None, "title": "t"}
    without = {"evaluation": None, "labels": None, "organs": ORGANS, "quality": quality()}
    page = write_report(folders / "page.html", **where, **without).read_text(encoding="utf-8")
    table = page[page.index('<table id="quality">') :]
    table = table[: table.index("</table>")]
    assert table.index(">c<") < table.index(">b<")
    assert "0.475" in table and "0.950" in table and "true" not in table and "<b>" not in table
    scored = {"evaluation": evaluation(), "labels": folders / "masks", "organs": ORGANS, "quality": quality()}
    page = write_report(folders / "scored.html", **where, **scored).read_text(encoding="utf-8")
    assert "true 0.920" in page and "Over the 7 masks with a reference" in page and "Predicted and true Dice" in page
    nothing = {"evaluation": None, "labels": None, "organs": ORGANS}
    assert "annotate" not in write_report(folders / "none.html", **where, **nothing).read_text(encoding="utf-8")
