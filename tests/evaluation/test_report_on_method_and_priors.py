"""What the report says of how the masks came to be: the method's reason, and what log-priors changed."""

from collections.abc import Callable

import pytest

CHANGE = {
    "case": "a",
    "prior": "location",
    "organ": "cube",
    "gained": 3,
    "lost": 41,
    "gained_ml": 0.003,
    "lost_ml": 0.041,
}


@pytest.mark.parametrize(
    ("log_priors", "said", "unsaid"),
    [
        (None, "not allowed to", "logits"),
        ([], "changed no voxel", "<p>Nothing: they were not allowed to"),
        ([CHANGE], 'id="log-priors"', "<p>Nothing: they were not allowed to"),
    ],
)
def test_voxels_that_priors_turned_are_listed(
    report_page: Callable[..., str], log_priors: list | None, said: str, unsaid: str
) -> None:
    page = report_page(log_priors=log_priors)
    assert said in page and unsaid not in page
    assert ("<td>41</td>" in page) == bool(log_priors)


@pytest.mark.parametrize("reason", ["auto: 3 outlined scans; <b>near</b>", None])
def test_the_report_says_why_the_method_was_taken(report_page: Callable[..., str], reason: str | None) -> None:
    page = report_page(provenance={"method": "decoder"} | ({} if reason is None else {"method_reason": reason}))
    assert ("Why this method" in page) == (reason is not None)
    assert reason is None or '<p id="method-reason">auto: 3 outlined scans; &lt;b&gt;near' in page
