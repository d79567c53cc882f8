"""Preprocessed volumes are computed once, for as long as files and parameters stay the same."""

import multiprocessing
import os
import time

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.transforms import EnsureTyped, Lambdad, Orientationd, RandFlipd, ScaleIntensityRanged, Transform

from medfm3d.cohorts import CohortError, ContentKeyedCache
from medfm3d.cohorts.parameter_description import describe_parameters
from medfm3d.cohorts.preprocessed_cache import ContentHash
from medfm3d.volumes import LoadVolumed, Volume, write_volume


class Counted(Transform):
    """Notes every call in a folder, so that calls in other processes count too."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self, data):
        time.sleep(0.02)
        open(f"{self.folder}/{os.getpid()}-{time.monotonic_ns()}", "w").close()  # noqa: PTH123
        return data


@pytest.fixture
def calls(tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


@pytest.fixture
def items(tmp_path):
    for number in range(3):
        array = np.random.default_rng(number).normal(size=(8, 9, 10)).astype(np.float32)
        write_volume(Volume(array, np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / f"scan{number}.nii.gz")
    return [{"image": str(tmp_path / f"scan{number}.nii.gz")} for number in range(3)]


def preprocessing(calls, a_max: float = 3.0):
    scaling = ScaleIntensityRanged("image", a_min=-3.0, a_max=a_max, b_min=0.0, b_max=1.0)
    return [LoadVolumed("image"), Orientationd("image", axcodes="RAS"), scaling, Counted(calls)]


def cache_of(items, transforms, tmp_path, **others):
    return ContentKeyedCache(items, transforms, tmp_path / "cache", **others)


def num(folder) -> int:
    return len(list(folder.iterdir()))


@pytest.mark.parametrize("track_meta", [True, False])
def test_second_read_is_the_same_and_computes_nothing(items, calls, tmp_path, track_meta):
    first = [item["image"] for item in cache_of(items, preprocessing(calls), tmp_path, track_meta=track_meta)]
    assert num(calls) == 3 and num(tmp_path / "cache") == 3
    second = [item["image"] for item in cache_of(items, preprocessing(calls), tmp_path, track_meta=track_meta)]
    assert num(calls) == 3
    for one, other in zip(first, second, strict=True):
        assert type(one) is type(other) and one.shape == (1, 8, 9, 10)
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        if track_meta:
            torch.testing.assert_close(one.affine, other.affine)
            assert other.meta["filename_or_obj"] == one.meta["filename_or_obj"]


def test_random_transforms_stay_random(items, calls, tmp_path):
    cache = cache_of(items[:1], [*preprocessing(calls), RandFlipd("image", prob=0.5, spatial_axis=0)], tmp_path)
    cache.transform.set_random_state(0)
    assert len({float(cache[0]["image"][0, 0, 0, 0]) for _ in range(20)}) == 2
    assert num(calls) == 1


def test_changed_content_misses_even_with_equal_size_and_date(items, calls, tmp_path):
    path = tmp_path / "scan.nii"
    affine = np.eye(4)
    write_volume(Volume(np.arange(512, dtype=np.float32).reshape(8, 8, 8), affine), path)
    status = path.stat()
    cache = cache_of([{"image": str(path)}], preprocessing(calls), tmp_path)
    before = cache[0]["image"]
    write_volume(Volume(np.arange(512, dtype=np.float32).reshape(8, 8, 8)[::-1], affine), path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    after = cache_of([{"image": str(path)}], preprocessing(calls), tmp_path)[0]["image"]
    assert num(calls) == 2 and not torch.equal(before, after)


def test_changed_parameter_misses(items, calls, tmp_path):
    before = cache_of(items, preprocessing(calls), tmp_path)[0]["image"]
    after = cache_of(items, preprocessing(calls, a_max=4.0), tmp_path)[0]["image"]
    assert num(calls) == 2 and not torch.equal(before, after)


def test_other_values_of_an_item_count(items, calls, tmp_path):
    cache = cache_of([{**items[0], "organ": 1}, {**items[0], "organ": 2}], preprocessing(calls), tmp_path)
    assert [item["organ"] for item in cache] == [1, 2] and num(calls) == 2


def test_file_under_another_name_shares_its_entry_only_without_metadata(items, calls, tmp_path):
    moved = tmp_path / "moved.nii.gz"
    moved.write_bytes((tmp_path / "scan0.nii.gz").read_bytes())
    both = [items[0], {"image": str(moved)}]
    list(cache_of(both, preprocessing(calls), tmp_path, track_meta=False))
    assert num(calls) == 1
    one, other = cache_of(both, preprocessing(calls), tmp_path, track_meta=True)
    assert num(calls) == 3
    assert one["image"].meta["filename_or_obj"] != other["image"].meta["filename_or_obj"]


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda _: b"x" * 99]
)
def test_damaged_entry_is_made_anew(items, calls, tmp_path, damage):
    cache = cache_of(items, preprocessing(calls), tmp_path)
    whole = cache[0]["image"]
    entry = cache.entry_path(items[0])
    entry.write_bytes(damage(entry.read_bytes()))
    with pytest.warns(UserWarning, match="broken cache entry"):
        again = cache[0]["image"]
    torch.testing.assert_close(whole, again)
    cache[0]
    assert num(calls) == 2


def test_entry_that_could_never_be_read_is_refused(items, tmp_path):
    transforms = [LoadVolumed("image"), Lambdad("image", lambda image: {"object": tmp_path, "image": image})]
    cache = cache_of(items, transforms, tmp_path)
    cache[0]
    with pytest.raises(CohortError, match="not plain values"):
        cache[0]


def test_missing_file_is_named(calls, tmp_path):
    with pytest.raises(CohortError, match=r"gone\.nii: does not exist"):
        cache_of([{"image": str(tmp_path / "gone.nii")}], preprocessing(calls), tmp_path)[0]


def test_replaced_items_keep_the_entries(items, calls, tmp_path):
    cache = cache_of(items[:1], preprocessing(calls), tmp_path)
    cache[0]
    cache.set_data(items)
    list(cache)
    assert num(calls) == 3 and num(tmp_path / "cache") == 3


def read_all(cache, start, answers):
    start.wait()
    answers.put([float(item["image"].sum()) for item in cache])


def test_two_processes_share_a_cache(items, calls, tmp_path):
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(2), context.SimpleQueue()
    caches = [cache_of(items, preprocessing(calls), tmp_path) for _ in range(2)]
    processes = [context.Process(target=read_all, args=(cache, start, answers)) for cache in caches]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    one, other = answers.get(), answers.get()
    computed = num(calls)
    assert one == other == [float(item["image"].sum()) for item in caches[0]]
    assert num(calls) == computed
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {caches[0].entry_path(item).name for item in items}


def test_workers_of_a_data_loader_fill_it(items, calls, tmp_path):
    cache = cache_of(items, [*preprocessing(calls), EnsureTyped("image", track_meta=False)], tmp_path, track_meta=False)
    batches = [batch["image"] for batch in DataLoader(cache, batch_size=1, num_workers=2)]
    assert num(calls) == 3 and len(batches) == 3
    for batch, item in zip(batches, cache, strict=True):
        torch.testing.assert_close(batch[0], item["image"])
    assert num(calls) == 3


@pytest.mark.parametrize("track_meta", [True, False])
def test_real_scan_and_label_map(real_data, tmp_path, track_meta):
    folder = real_data / "hippocampus"
    names = ["hippocampus_003.nii.gz", "hippocampus_006.nii.gz"]
    items = [{"image": folder / "imagesTr" / name, "label": folder / "labelsTr" / name} for name in names]
    transforms = [LoadVolumed(["image"]), LoadVolumed(["label"], label=True), Orientationd(["image", "label"], "RAS")]
    cache = cache_of(items, transforms, tmp_path, track_meta=track_meta)
    for made, read in zip(list(cache), cache, strict=True):
        torch.testing.assert_close(made["image"], read["image"], rtol=0, atol=0)
        assert made["label"].dtype == read["label"].dtype and set(read["label"].unique().tolist()) == {0, 1, 2}


def test_description_tells_functions_and_arrays_apart():
    def closing_over(value):
        return lambda x: x + value

    different = [
        lambda x: x,
        lambda x: x + 1,
        closing_over(2),
        closing_over(3),
        np.zeros(2),
        np.zeros(2, np.float32),
        np.ones(2),
        1,
        1.0,
        "1",
        True,
        {"a": 1},
        {"a": 2},
    ]
    described = [repr(describe_parameters(value)) for value in different]
    assert len(set(described)) == len(described)
    assert describe_parameters(closing_over(2)) == describe_parameters(closing_over(2))


@pytest.mark.parametrize("expression", ["$lambda x: x * @scale", "$lambda x: [x * y for y in [@scale]]"])
def test_description_tells_apart_what_an_expression_of_a_config_refers_to(expression):
    described = []
    for scale, other in ((1, 0), (100, 0), (1, 9)):
        parser = ConfigParser({"scale": scale, "other": other, "function": expression})
        parser.get_parsed_content("other")
        described.append(describe_parameters(parser.get_parsed_content("function")))
    assert described[0] != described[1] and described[0] == described[2]


def test_value_without_a_stable_description_is_refused():
    with pytest.raises(CohortError, match="no description that is the same in every run"):
        describe_parameters(iter([]))


def test_voxels_beside_a_header_count(tmp_path):
    volume = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))
    path = write_volume(volume, tmp_path / "scan.mhd")
    before = ContentHash()({"image": str(path)})
    write_volume(Volume(volume.array + 500, np.eye(4)), path)
    assert ContentHash()({"image": str(path)}) != before
