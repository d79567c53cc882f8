"""What a path stands for, and folders that scans keep arriving in."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medfm3d.inference import check_names, list_inputs, watch_folder
from medfm3d.inference.output_folder import mask_files, prepare_output
from medfm3d.volumes import VolumeError, VolumeWarning, write_json


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(128) + b"DICM" if file.suffix == "" else b"")


def names(paths: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_patterns_take_what_they_fit(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a_CT.nii.gz", "b_MR.nii.gz", "deep/er/c_CT.nrrd", "notes_CT.txt")))
    assert names(list_inputs(tmp_path / "*_CT*"), tmp_path) == ["a_CT.nii.gz"]
    assert names(list_inputs(tmp_path / "**" / "*_CT*"), tmp_path) == ["a_CT.nii.gz", "deep/er/c_CT.nrrd"]
    touch(tmp_path / "odd[1].nii.gz")
    assert list_inputs(tmp_path / "odd[1].nii.gz") == [tmp_path / "odd[1].nii.gz"], "a file's own name is no pattern"
    with pytest.raises(VolumeError, match="holds no volume"):
        list_inputs(tmp_path / "*_PET*")


def test_a_tree_of_series_stands_for_all_of_them(tmp_path: Path) -> None:
    touch(*(tmp_path / f"patient {p}" / "study" / f"series {p}{s}" / "IM0001" for p in (1, 2) for s in "ab"))
    touch(tmp_path / "patient 3" / "scan.nii.gz", tmp_path / ".hidden" / "other.nii.gz")
    expected = [f"patient {p}/study/series {p}{s}" for p in (1, 2) for s in "ab"]
    assert names(list_inputs(tmp_path), tmp_path) == [*expected, "patient 3/scan.nii.gz"]


def test_links_to_folders_are_gone_through_and_each_folder_once(tmp_path: Path) -> None:
    archive, tree = tmp_path / "archive", tmp_path / "tree"
    touch(archive / "one" / "deep" / "a.nii.gz", archive / "two" / "b.nii.gz", tree / "own" / "c.nii.gz")
    (tree / "linked").symlink_to(archive)
    (tree / "linked again").symlink_to(archive / "two")
    (archive / "two" / "round").symlink_to(tree)
    (tree / "own" / "d.nii.gz").symlink_to(tree / "own" / "c.nii.gz")  # a scan of its own name
    expected = ["linked/one/deep/a.nii.gz", "linked again/b.nii.gz", "own/c.nii.gz", "own/d.nii.gz"]
    assert names(list_inputs(tree), tree) == expected


def test_a_manifest_stands_for_its_test_images(tmp_path: Path) -> None:
    manifest = tmp_path / "dataset.json"
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    manifest.write_text(json.dumps({"training": training, "test": ["./imagesTs/b.nii.gz"]}))
    assert names(list_inputs(manifest), tmp_path) == ["imagesTs/b.nii.gz"]
    manifest.write_text(json.dumps({"training": training, "test": []}))
    assert names(list_inputs(manifest), tmp_path) == ["imagesTr/a.nii.gz"]
    for broken in ("{", "[]", '{"training": 3}', '{"training": []}'):
        manifest.write_text(broken)
        with pytest.raises(VolumeError, match=r"dataset\.json"):
            list_inputs(manifest)


def test_two_scans_of_one_name_are_refused(tmp_path: Path) -> None:
    check_names([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    with pytest.raises(VolumeError, match="distinct names"):
        check_names([tmp_path / "x" / "a.nii.gz", tmp_path / "y" / "a.nrrd"])


def test_arriving_scans_are_taken_up_once_they_have_settled(tmp_path: Path) -> None:
    first, second = tmp_path / "first.nii.gz", tmp_path / "second.nii.gz"
    looks, taken = 0, []

    def happens() -> bool:
        """What happens between two looks."""
        nonlocal looks
        looks += 1
        if looks == 1:
            first.write_bytes(b"half")
        elif looks == 2:
            first.write_bytes(b"half and the rest")
        elif looks == 5:
            second.write_bytes(b"whole")
        elif looks == 8:
            first.write_bytes(b"another version")
        return looks == 12

    watch_folder(tmp_path, 0.01, lambda scans: taken.append((looks, names(scans, tmp_path))), stop=happens)
    assert taken == [
        (3, ["first.nii.gz"]),
        (6, ["first.nii.gz", "second.nii.gz"]),
        (9, ["first.nii.gz", "second.nii.gz"]),
    ]
    with pytest.raises(VolumeError, match="no such folder"):
        watch_folder(tmp_path / "nowhere", 0.01, print)


def test_a_scan_whose_name_is_taken_does_not_end_the_watch(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"first")
    looks, taken = 0, []

    def happens() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            (tmp_path / "a.nii.gz").write_bytes(b"of the same name, and before it in the alphabet")
            (tmp_path / "b.nii.gz").write_bytes(b"another")
        return looks == 8

    with pytest.warns(VolumeWarning, match=r"a\.nii\.gz: left alone, its mask would be that of .*a\.nrrd") as said:
        watch_folder(tmp_path, 0.01, lambda scans: taken.append(names(scans, tmp_path)), stop=happens)
    assert taken == [["a.nrrd"], ["a.nrrd", "b.nii.gz"]] and len(said) == 1


def test_shards_that_start_together_do_not_stop_each_other(tmp_path: Path) -> None:
    def start(number: int) -> None:
        for step in range(30):
            prepare_output(tmp_path / "masks", mask_files(tmp_path / "masks", [Path(f"scan_{number}.nii.gz")], {}))
            write_json({"step": step}, tmp_path / "masks" / f"scan_{number}.json")

    with ThreadPoolExecutor(4) as shards:
        list(shards.map(start, range(4)))
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [f"scan_{n}.json" for n in range(4)]
