import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fewshot_benchmark.budget import Budget
from fewshot_benchmark.job import Job, parse_method
from fewshot_benchmark.nnunet_dataset import DATASET, consecutive_labels, original_labels, write_raw_dataset
from fewshot_benchmark.scoring import score_masks
from fewshot_benchmark.selection import Selection, select_cases

from medfm3d.cohorts import Case, list_manifests, read_cohort
from medfm3d.volumes import read_label, reorient, write_volume

ORGANS = {"cube": 2, "ball": 5}


def job_of(folder: Path, **changes) -> Job:
    job = Job(
        data=str(folder.parent), cohort=folder.name, organs=(), k=2, seed=0, method="decoder", split="development"
    )
    return replace(job, **changes)


def test_scored_cases_are_apart_from_what_is_learnt_from(small_cohort: Path):
    selection = select_cases(job_of(small_cohort))
    parts = [{case.name for case in part} for part in (selection.support, selection.unlabelled, selection.scored)]
    assert [len(part) for part in parts] == [2, 2, 2]
    assert set.union(*parts) == set(read_cohort(small_cohort).names)
    cohort = selection.adaptation_cohort("x")
    assert {case.name for case in cohort if case.label is not None} == parts[0]
    assert set(cohort.names) == parts[0] | parts[1]
    assert select_cases(job_of(small_cohort)) == selection
    assert select_cases(job_of(small_cohort, seed=1)) != selection


def test_test_cases_of_an_unknown_cohort_are_refused(small_cohort: Path):
    with pytest.raises(ValueError, match="no manifest fixes its test cases"):
        select_cases(job_of(small_cohort, split="test"))
    with pytest.raises(ValueError, match="no organ liver"):
        select_cases(job_of(small_cohort, organs=("liver",)))


@pytest.mark.parametrize("cohort", ["hippocampus", "headneck_ct"])
def test_support_comes_from_development_cases_whatever_is_scored(real_data: Path, cohort: str):
    title = read_cohort(real_data / cohort).name
    splits = next(manifest.splits for manifest in list_manifests() if manifest.title == title)
    scored = {}
    for split in ("test", "development"):
        selection = select_cases(job_of(real_data / cohort, k=5, split=split))
        learnt = {case.name for case in (*selection.support, *selection.unlabelled)}
        scored[split] = {case.name for case in selection.scored}
        assert learnt <= set(splits["development"])
        assert not learnt & scored[split]
        assert scored[split] <= set(splits[split])
    assert scored["test"] == set(splits["test"])
    assert select_cases(job_of(real_data / cohort, k=5, seed=1, split="test")).scored == selection_scored(
        real_data / cohort
    )


def selection_scored(folder: Path) -> tuple[Case, ...]:
    return select_cases(job_of(folder, k=5, seed=0, split="test")).scored


def test_methods_take_settings():
    assert parse_method("lora") == ("lora", {})
    assert parse_method("decoder:iterations=20:method_arguments#rank=8:modality=MR") == (
        "decoder",
        {"iterations": 20, "method_arguments#rank": 8, "modality": "MR"},
    )
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_method("decoder:iterations")
    assert Job("d", "c", (), 1, 0, "nnunet", budget_s=600.0).label == "nnunet@600s"
    assert Job("d", "c", (), 1, 0, "decoder", {"iterations": 20}).label == "decoder:iterations=20"
    job = Job("d", "c", ("a",), 1, 0, "decoder", {"modality": "a/b"})
    assert job.result_file(Path("w")).parent == Path("w/c/1/0")
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_a_missing_mask_counts_as_an_empty_one_and_organs_not_outlined_do_not_count(small_cohort: Path, tmp_path: Path):
    cases = read_cohort(small_cohort).cases
    write_volume(reorient(read_label(cases[1].label)), tmp_path / "case_1.nii.gz")  # in RAS, the label in LPS
    scored = (cases[1], replace(cases[2], annotated=("ball",)))
    scores, missing = score_masks(tmp_path, Selection(ORGANS, (), (), scored))
    assert missing == ["case_2"]
    assert {(score.case, score.organ): score.dice for score in scores} == {
        ("case_1", "cube"): 1.0,
        ("case_1", "ball"): 1.0,
        ("case_2", "ball"): 0.0,
    }


def test_nnunet_gets_the_organs_asked_for_and_gives_back_the_ids(small_cohort: Path, tmp_path: Path):
    case = read_cohort(small_cohort).cases[3]  # stored in AIL
    write_raw_dataset(tmp_path, [case], {"ball": 5}, "MR")
    root = tmp_path / "raw" / DATASET
    written = nib.load(root / "labelsTr" / "case_3.nii.gz")
    label = nib.as_closest_canonical(nib.load(case.label))
    assert nib.aff2axcodes(written.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(label.dataobj) == 5)
    np.testing.assert_allclose(written.affine, label.affine, atol=1e-4)
    assert json.loads((root / "dataset.json").read_text())["labels"] == {"background": 0, "ball": 1}
    assert (root / "imagesTr" / "case_3_0000.nii.gz").is_file()
    whole = read_label(case.label)
    there_and_back = original_labels(consecutive_labels(whole, ORGANS), ORGANS)
    np.testing.assert_array_equal(there_and_back.array, whole.array)


def test_a_budget_becomes_a_number_of_iterations(monkeypatch: pytest.MonkeyPatch):
    clock, costs = [100.0], iter([5.0, 5.0])
    monkeypatch.setattr("fewshot_benchmark.budget.cpu_seconds", lambda: clock[0])

    def iterate() -> None:
        clock[0] += next(costs, 2.0)

    budget = Budget(90.0, started_cpu_s=90.0, spent_s=10.0)
    assert budget.left_s == 70.0
    assert budget.measure(iterate) == (12, 2.0)  # the two slow ones at the start are not counted
    assert budget.iterations_left(2.0) == 20
    clock[0] += 1000
    assert budget.iterations_left(2.0) == 1
