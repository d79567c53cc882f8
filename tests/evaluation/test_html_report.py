"""The report: one page that needs nothing but itself, and says what it should."""

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfm3d.evaluation import evaluate_folder, write_report
from medfm3d.evaluation.report import pick_three
from medfm3d.volumes import Volume, VolumeError, find_volumes, read_label, write_volume

ORGANS = {"liver": 1, "<b>spleen</b> $x_1$": 2}
CASES = ("case_0", "<b>case & 1", "case_2", "case_3")
REMARKS = [
    {
        "case": "case_2",
        "organ": "liver",
        "prior": "volume",
        "text": "0.1 mL <script>alert(1)</script>",
        "z": -4.2,
        "p_value": 0.00003,
    }
]
VOID = {"meta", "img", "br", "hr", "link", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """What a page holds; checks on the way that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.links, self.images, self.alts, self.text = [], [], [], [], ""
        self.open_tags, self.rows, self.table, self.styles = [], {}, None, ""
        self.scripts = []
        self.feed(html)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in VOID:
            self.open_tags.append(tag)
        if tag == "table":
            self.table = attributes.get("id")  # that of the viewer is filled by its script
        if tag == "tr":
            self.rows.setdefault(self.table, []).append("")
        self.links += [
            attributes[name] for name in ("src", "href", "xlink:href", "srcset", "data") if name in attributes
        ]
        if tag == "img":
            self.images.append(attributes["src"])
            self.alts.append(attributes["alt"])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open_tags.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags and self.open_tags[-1] == "style":
            self.styles += data
            return
        if self.open_tags and self.open_tags[-1] == "script":
            self.scripts.append(data)
            return
        self.text += data
        if "tr" in self.open_tags:
            self.rows[self.table][-1] += data


def write_case(folder: Path, case: str, thickness: int) -> None:
    array = np.zeros((16, 16, 16), np.uint8)
    array[1 : 1 + thickness, 1:6, 1:6] = 1
    array[9:13, 9:14, 9:14] = 2
    write_volume(Volume(array, np.diag([1, 1, 2, 1])), folder / f"{case}.nii.gz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for number, case in enumerate(CASES):
        write_case(root / "labels", case, 4)
        write_case(root / "masks", case, 4 + number)
        scan = rng.normal(size=(16, 16, 16)).astype(np.float32)
        write_volume(Volume(scan, np.diag([1, 1, 2, 1])), root / "images" / f"{case}.nii.gz")
    return root


@pytest.fixture(scope="module")
def scored(folders):
    evaluation = evaluate_folder(folders / "masks", folders / "labels", ORGANS, progress=False)
    path = write_report(
        folders / "out" / "report.html",
        evaluation=evaluation,
        predictions=folders / "masks",
        images=folders / "images",
        labels=folders / "labels",
        organs=ORGANS,
        remarks=REMARKS,
        title="Liver & <i>spleen</i>",
        provenance={"bundle": "</pre><script>", "epochs": 3},
    )
    return evaluation, path.read_text(encoding="utf-8")


def unscored(folders, **changes):
    arguments = {
        "evaluation": None,
        "predictions": folders / "masks",
        "images": folders / "images",
        "labels": None,
        "organs": ORGANS,
        "remarks": None,
        "title": "Masks",
        "provenance": None,
    }
    return write_report(folders / "out" / "masks.html", **(arguments | changes)).read_text(encoding="utf-8")


def test_page_loads_nothing_from_elsewhere(scored):
    page = Page(scored[1])
    assert page.links and all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert "url(" not in page.styles and "@import" not in page.styles
    assert "default-src 'none'; img-src data: blob:" in scored[1]


def test_the_viewer_holds_the_cases_and_its_licence(scored):
    page = Page(scored[1])
    cases, niivue, viewer = page.scripts
    assert [case["name"] for case in json.loads(cases)] == ["case_3", "case_2", "case_0", "<b>case & 1"]
    assert "BSD 2-Clause License" in niivue[:500] and "Redistributions in binary form" in niivue[:2000]
    assert "data-viewer" in viewer
    assert scored[1].count('data-case="3"') == 2  # the row of each organ


def test_a_page_without_viewer_has_no_script(folders):
    html = unscored(folders, viewer_mb=0)
    assert "script" not in Page(html).tags and "script-src 'none'" in html and "data-case" not in html


def test_cases_that_would_make_the_page_too_large_are_counted(folders):
    html = unscored(folders, viewer_mb=0.03)
    cases = json.loads(Page(html).scripts[0])
    assert 1 <= len(cases) < len(CASES)
    assert sum(len(case["scan_nifti"]) + len(case["mask_nifti"]) for case in cases) <= 30_000
    assert f"; {len(CASES) - len(cases)} more would make it too large" in html
    assert "medfm3d view --images" in html


def test_names_are_escaped(scored):
    page = Page(scored[1])
    assert "b" not in page.tags and page.tags.count("i") == scored[1].count('<i class="swatch"')
    for name in (*CASES, *ORGANS, "Liver & <i>spleen</i>", "<script>alert(1)</script>"):
        assert name in page.text


def test_pictures_decode_and_show_worst_median_and_best(scored):
    page = Page(scored[1])
    assert page.alts == [f"{case} in three planes" for case in ("case_3", "case_2", "case_0")]
    for source in page.images:
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2], validate=True)))
        picture.load()
        assert picture.width > picture.height > 200


def test_figures_stand_in_the_tables(scored):
    evaluation, html = scored
    page = Page(html)
    liver = evaluation.summary()["liver"].metrics["dice"]
    assert f"{liver.mean:.3f}" in page.rows["summary"][1]
    assert f"{liver.interval[0]:.3f} to {liver.interval[1]:.3f}" in page.rows["summary"][1]
    assert len(page.rows["cases"]) == 1 + len(evaluation.scores)
    assert "case_3" in page.rows["cases"][1]  # the worst comes first
    assert "-4.2" in page.rows["remarks"][1] and "< 0.0001" in page.rows["remarks"][1]
    assert page.tags.count("svg") == 2 and "#010203" not in html


def test_page_serves_dark_screens_and_paper(scored):
    styles = Page(scored[1]).styles
    assert "prefers-color-scheme: dark" in styles and "@media print" in styles


def test_without_labels_it_shows_volumes(folders):
    page = Page(unscored(folders))
    assert "summary" not in page.rows and "Dice" not in page.text
    assert page.alts[0].startswith("case_0") and page.alts[-1].startswith("case_3")
    assert "0.20" in page.rows["cases"][1] and "case_0" in page.rows["cases"][1]  # 100 voxels of 2 mm^3
    assert "No prior was asked" in page.text
    assert "Nothing." in Page(unscored(folders, remarks=[])).text


def test_a_missing_scan_is_named_and_nothing_is_written(folders, tmp_path):
    (tmp_path / "images").mkdir()
    for case in CASES[:3]:
        (tmp_path / "images" / f"{case}.nii.gz").symlink_to(folders / "images" / f"{case}.nii.gz")
    output = tmp_path / "report.html"
    with pytest.raises(VolumeError, match=r"case_3\.nii\.gz: no scan of that name"):
        write_report(
            output,
            evaluation=None,
            predictions=folders / "masks",
            images=tmp_path / "images",
            labels=None,
            organs=ORGANS,
            remarks=[],
            title="t",
        )
    assert not output.exists()


def test_labels_and_evaluation_come_together(folders):
    with pytest.raises(ValueError, match="both evaluation and labels"):
        unscored(folders, labels=folders / "labels")


def test_pick_three():
    names = ("worst", "median", "best")
    assert pick_three({"a": 3, "b": 1, "c": 2, "d": 0}, names) == {"d": "worst", "b": "median", "a": "best"}
    assert pick_three({"a": 1, "b": 2}, names) == {"a": "worst and median", "b": "best"}
    assert pick_three({"a": 1}, names) == {"a": "worst and median and best"}
    assert pick_three({}, names) == {}


def test_report_on_real_scans(real_data, tmp_path):
    folder, organs = real_data / "hippocampus", {"anterior": 1, "posterior": 2}
    names = [path.name for path in find_volumes(folder / "labelsTr")[:3]]
    for shift, name in enumerate(names):
        label = read_label(folder / "labelsTr" / name)
        write_volume(Volume(np.roll(label.array, shift, axis=0), label.affine), tmp_path / "masks" / name)
    evaluation = evaluate_folder(tmp_path / "masks", folder / "labelsTr", organs, progress=False)
    path = write_report(
        tmp_path / "report.html",
        evaluation=evaluation,
        predictions=tmp_path / "masks",
        images=folder / "imagesTr",
        labels=folder / "labelsTr",
        organs=organs,
        remarks=[],
        title="Hippocampus",
    )
    page = Page(path.read_text(encoding="utf-8"))
    order = [names[2], names[1], names[0]]
    assert page.alts == [f"{name.removesuffix('.nii.gz')} in three planes" for name in order]
    assert f"{len(evaluation.unpredicted)} cases with a label map but no mask" in page.text
