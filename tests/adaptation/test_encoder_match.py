"""What `adapt` says of an imported encoder, and the windows that it needs."""

import pytest

from medfm3d.adaptation import AdaptationPlan, encoder_remarks, plan_adaptation
from medfm3d.cohorts import read_cohort
from medfm3d.encoders.public_weights import catalogue_entry


def provenance(name: str, **changes) -> dict:
    entry = catalogue_entry(name)
    known = {"catalogue": name, "licence": entry.licence, "modality": entry.modality, "intensity": entry.intensity}
    return {**known, "spacing_mm": entry.spacing_mm, "share_loaded": 1.0, "not_loaded": [], **changes}


def plan(modality: str, spacing: tuple) -> AdaptationPlan:
    return AdaptationPlan({"liver": 1}, modality, spacing, (32, 32, 32))


def test_scans_like_those_of_training_need_no_remark() -> None:
    assert encoder_remarks(provenance("openmind_primus_m_mae"), plan("MR", (1.0, 1.2, 1.0))) == []
    assert encoder_remarks({"method": "masked autoencoder"}, plan("CT", (1.0, 1.0, 1.0))) == []


def test_what_differs_is_named() -> None:
    tang = encoder_remarks(provenance("swinunetr_ssl_tang"), plan("CT", (1.5, 1.5, 3.5)))
    assert len(tang) == 3 and "1.5 x 1.5 x 2 mm and works here at 1.5 x 1.5 x 3.5 mm" in tang[1]
    assert "trained on -1000 to 1000 HU and sees -200 to 300 HU here" in tang[2]
    suprem = encoder_remarks(provenance("suprem_unet"), plan("CT", (1.5, 1.5, 1.5)))
    assert len(suprem) == 1 and "CC BY-NC-ND" in suprem[0]
    stunet = encoder_remarks(provenance("stunet_base"), plan("CT", (1.5, 1.5, 1.5)))
    assert len(stunet) == 1 and "not known" in stunet[0]
    part = provenance("openmind_primus_m_mae", share_loaded=0.5, not_loaded=["a"])
    assert encoder_remarks(part, plan("CT", (1.0, 1.0, 1.0)))[:2] == [
        "only 50.0% of the encoder's weights were loaded; the rest is random",
        "the encoder was trained on MR and these scans are CT",
    ]


def test_a_licence_holds_after_further_pretraining() -> None:
    continued = {"method": "masked autoencoder", "initial_encoder": provenance("suprem_swinunetr")}
    assert "CC BY-NC-ND" in encoder_remarks(continued, plan("MR", (9.0, 9.0, 9.0)))[0]


def test_windows_are_multiples_of_what_the_encoder_needs(small_cohort) -> None:
    cohort = read_cohort(small_cohort)
    for multiple in (8, 16, 32):
        planned = plan_adaptation(cohort.cases[:2], cohort.organs, window_multiple=multiple)
        assert all(side % multiple == 0 and side >= 2 * multiple for side in planned.window)
    with pytest.raises(ValueError, match="needs windows of 128 voxels"):
        plan_adaptation(cohort.cases[:2], cohort.organs, window_multiple=64)
