"""What is pointed at, in which coordinates, and what a network that was trained for seconds makes of it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medfm3d.segmentation.prompts import (
    Click,
    LabelledCohort,
    LabelledWindows,
    OrganNames,
    Prompt,
    PromptableSegmenter,
    PromptError,
    PromptSession,
    first_click,
    flat_box,
    next_click,
    read_request,
    request_text,
)
from medfm3d.segmentation.prompts.prompt_maps import box_map, point_map, stacked_maps
from medfm3d.segmentation.prompts.prompt_training import prompt_loss
from medfm3d.segmentation.prompts.region import regions_around
from medfm3d.segmentation.prompts.simulated_prompts import SimulatedPrompt, draw_target, first_prompt
from medfm3d.volumes import Volume, check_same_grid, reorient, write_volume

SMALL = {
    "encoder": "vit_tiny",
    "encoder_arguments": {"embed_dim": 24, "depth": 2, "num_heads": 2, "out_layers": [1]},
    "widths": [8, 8, 8],
    "prompt_widths": [8, 12, 16, 16],
    "precision": "float32",
}
BLOBS = ((8, 8, 12), (24, 24, 12))  # of one brightness: only a click tells which is meant
RADIUS = 5


def blobs(seed: int, centres: tuple[tuple[int, int, int], ...] = BLOBS) -> tuple[np.ndarray, list[np.ndarray]]:
    """Image (32, 32, 24) of equal bright balls, and the mask of each."""
    rng = np.random.default_rng(seed)
    grid = np.indices((32, 32, 24))
    masks = [((grid - np.reshape(c, (3, 1, 1, 1))) ** 2).sum(axis=0) <= RADIUS**2 for c in centres]
    image = 100.0 * np.logical_or.reduce(masks) + rng.normal(0, 10, (32, 32, 24))
    return image.astype(np.float32), masks


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.fixture(scope="module")
def taught() -> PromptableSegmenter:
    """A tiny network that has seen pairs of equal balls for some seconds."""
    torch.manual_seed(0)
    network = PromptableSegmenter(["ball"], **SMALL)
    optimizer = torch.optim.AdamW([w for w in network.parameters() if w.requires_grad], 1e-2)
    for step in range(150):
        rng = np.random.default_rng(step)
        centres = (tuple(rng.integers(6, 11, 3)), tuple(rng.integers((21, 21, 8), (26, 26, 16))))
        image, masks = blobs(step, centres)
        x = torch.from_numpy((image - image.mean()) / image.std())[None, None]
        prompts = [SimulatedPrompt().with_click(first_click(mask, rng)) for mask in masks]
        both = SimulatedPrompt(foreground=[first_click(mask, rng).point for mask in masks])
        removed = [
            prompt.with_click(Click(first_click(mask, rng).point, False))
            for prompt, mask in zip(prompts, masks[::-1], strict=True)
        ]
        prompts += [both, prompts[0], *removed]
        targets = [*masks, masks[0] | masks[1], masks[0] | masks[1], *masks]
        outlined = torch.from_numpy(masks[0] | masks[1]).float()
        before = [None, None, None, outlined, outlined, outlined]
        maps = torch.stack([p.maps(image.shape, b) for p, b in zip(prompts, before, strict=True)])
        target = torch.stack([torch.from_numpy(mask)[None].float() for mask in targets])
        loss = prompt_loss(network.decode(network.encode(x), maps), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def scan() -> Volume:
    """The pair of balls in a scan whose axes point left, posterior and superior, off the origin."""
    affine = np.diag([-1.0, -1.2, 1.5, 1.0])
    affine[:3, 3] = 12.0, -7.0, 30.0
    return Volume(blobs(1000)[0], affine)


def test_click_chooses_one_of_two_equal_balls(taught: PromptableSegmenter, scan: Volume) -> None:
    masks = blobs(1000)[1]
    for centre, meant, other in zip(BLOBS, masks, masks[::-1], strict=True):
        found = PromptSession(scan, taught).click(centre).mask()
        check_same_grid(scan, found)
        assert found.array.dtype == np.uint8
        assert dice(found.array > 0, meant) > 0.75
        assert not (found.array > 0)[other].any()


def test_second_click_adds_and_background_click_removes(taught: PromptableSegmenter, scan: Volume) -> None:
    first, second = blobs(1000)[1]
    session = PromptSession(scan, taught).click(BLOBS[0]).click(BLOBS[1])
    assert dice(session.mask().array > 0, first | second) > 0.75
    session.fresh().start_from((first | second).astype(np.uint8)).click(BLOBS[0])
    kept = session.mask().array > 0
    assert dice(kept, first | second) > 0.75
    removed = session.click(BLOBS[1], foreground=False).mask().array > 0
    assert removed[second].sum() < 0.1 * kept[second].sum()
    assert dice(removed, first) > 0.7
    np.testing.assert_array_equal(session.undo().mask().array > 0, kept)


def test_world_and_voxel_coordinates_agree_in_every_orientation(taught: PromptableSegmenter, scan: Volume) -> None:
    point = BLOBS[0]
    world = scan.affine[:3, :3] @ np.array(point, dtype=float) + scan.affine[:3, 3]
    wanted = PromptSession(scan, taught).click(point).mask()
    assert wanted.array.any()
    np.testing.assert_array_equal(PromptSession(scan, taught).click(world, space="world").mask().array, wanted.array)
    turned = reorient(scan, "SAL")
    found = PromptSession(turned, taught).click(world, space="world").mask()
    check_same_grid(turned, found)
    back = reorient(found, scan.orientation)
    np.testing.assert_array_equal(back.array, wanted.array)


def test_cached_features_answer_as_fresh_ones_and_are_not_computed_again(
    taught: PromptableSegmenter, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = PromptableSegmenter.encode
    monkeypatch.setattr(PromptableSegmenter, "encode", lambda self, x: encoded.append(1) or encode(self, x))
    session = PromptSession(scan, taught)
    session.segment(Prompt(foreground=[BLOBS[1]]))
    asked = Prompt(foreground=[BLOBS[0]])
    cached = session.segment(asked)
    assert len(encoded) == 1
    fresh = PromptSession(scan, taught).segment(asked)
    np.testing.assert_array_equal(cached.array, fresh.array)


def test_forward_is_encode_and_decode(taught: PromptableSegmenter) -> None:
    image = torch.rand(1, 1, 24, 16, 40)
    maps = stacked_maps([[3, 4, 5]], [[20, 10, 30]], [[[1, 1, 1], [5, 6, 7]]], None, image.shape[2:])[None]
    with torch.no_grad():
        whole = taught(torch.cat([image, maps], dim=1))
        parts = taught.decode(taught.encode(image), maps)
    assert whole.shape == image.shape
    torch.testing.assert_close(whole, parts, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (
            Prompt(foreground=[[40, 3, 3]]),
            r"foreground: \[40.0, 3.0, 3.0\] .*outside of the scan of 32 x 32 x 24",
        ),
        (Prompt(boxes=[[[1, 1, 1], [5, 5, 30]]]), "boxes: .*outside of the scan"),
        (Prompt(background=[[500, 0, 0]], space="world"), "background: .*which is voxel .*outside"),
        (Prompt(mask=np.zeros((3, 3, 3))), r"mask has shape \(3, 3, 3\)"),
        (Prompt(), "nothing is pointed at"),
        (Prompt(organ="spleen"), "'spleen' is not known.*ball"),
        (Prompt(background=[[3, 3, 3]]), "background prompts alone"),
    ],
)
def test_unusable_prompts_are_refused_by_name(
    taught: PromptableSegmenter, scan: Volume, prompt: Prompt, says: str
) -> None:
    with pytest.raises(PromptError, match=says):
        PromptSession(scan, taught).segment(prompt)


def test_prompts_at_once_are_answered_as_the_first_and_then_the_rest(taught: PromptableSegmenter, scan: Volume) -> None:
    session = PromptSession(scan, taught)
    asked = Prompt(foreground=BLOBS, background=[[16, 16, 2]])
    first = session.segment(Prompt(foreground=BLOBS[:1])).array
    wanted = session.segment(Prompt(foreground=BLOBS, background=[[16, 16, 2]], mask=first))
    np.testing.assert_array_equal(session.answer(asked).array, wanted.array)
    assert asked.first().foreground.tolist() == [list(BLOBS[0])]
    assert Prompt(foreground=BLOBS[:1]).first() is None and Prompt(organ="ball").first() is None
    both = Prompt(foreground=BLOBS[:1], boxes=[[[1, 1, 1], [5, 5, 5]]], organ="ball").first()
    assert len(both.boxes) == 1 and not len(both.foreground) and both.organ == "ball"


@pytest.mark.parametrize("points", [[[1, 2]], [["a", 1, 2]], [[1, 2, float("nan")]], 7])
def test_malformed_points_are_refused(points: object) -> None:
    with pytest.raises(PromptError, match="foreground"):
        Prompt(foreground=points)


def test_refused_prompts_leave_the_session_as_it_was(taught: PromptableSegmenter, scan: Volume) -> None:
    session = PromptSession(scan, taught).click(BLOBS[0])
    with pytest.raises(PromptError):
        session.click((99, 0, 0))
    assert len(session.prompt.foreground) == 1
    session.undo()
    with pytest.raises(PromptError, match="no prompt to take back"):
        session.undo()


def test_unknown_name_beside_a_click_changes_nothing_and_is_said(taught: PromptableSegmenter, scan: Volume) -> None:
    session = PromptSession(scan, taught)
    plain = session.segment(Prompt(foreground=[BLOBS[0]]))
    named = session.segment(Prompt(foreground=[BLOBS[0]], organ="spleen"))
    assert session.notes == ["'spleen' is not a name that the network knows: it changes nothing"]
    np.testing.assert_array_equal(plain.array, named.array)
    session.segment(Prompt(foreground=[BLOBS[0]], organ="Left Ball"))
    assert session.notes == []


def test_a_known_name_reaches_the_network(scan: Volume) -> None:
    torch.manual_seed(1)
    network = PromptableSegmenter(["ball"], **SMALL).eval()
    with torch.no_grad():
        network.mask_decoder.organ.weight[1] += torch.randn(16)
    image = torch.rand(1, 1, 16, 16, 16)
    maps = torch.zeros(1, 4, 16, 16, 16)
    with torch.no_grad():
        features = network.encode(image)
        plain, none = network.decode(features, maps), network.decode(features, maps, torch.tensor([0]))
        named = network.decode(features, maps, torch.tensor([1]))
    torch.testing.assert_close(plain, none)
    assert (plain - named).abs().max() > 1e-3


def test_names_are_known_whatever_their_spelling_and_side() -> None:
    names = OrganNames(["left kidney", "Lateral Ventricle"])
    assert [names.number(n) for n in ("Kidney_R", "rightKidney", "lateral-ventricle", "liver", None)] == [1, 1, 2, 0, 0]
    with pytest.raises(ValueError, match="differ by more than spelling and side"):
        OrganNames(["kidney left", "kidney_right"])


def test_scribbles_and_boxes_and_masks_reach_the_network_as_drawn(
    taught: PromptableSegmenter, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    decode = PromptableSegmenter.decode
    monkeypatch.setattr(
        PromptableSegmenter, "decode", lambda self, f, maps, o=None: seen.append(maps[0]) or decode(self, f, maps, o)
    )
    mask = blobs(1000)[1][0]
    strokes = np.zeros(scan.shape, dtype=bool)
    strokes[24, 20:28, 12] = True
    session = PromptSession(scan, taught).start_from(mask).scribble(strokes, foreground=False)
    session.add(Prompt(boxes=[flat_box([4, 3], [12, 13], axis=2, slice_number=12)])).mask()
    shown = {name: channel.numpy() for name, channel in zip(("fore", "back", "box", "mask"), seen[-1], strict=True)}
    turned = {name: channel[::-1, ::-1, :24] for name, channel in shown.items()}  # the network sees RAS
    assert not shown["fore"].any()
    assert (turned["back"][strokes] == 1).all() and turned["back"][24, 10, 12] == 0
    assert turned["box"].sum() == 9 * 11 and (turned["box"][4:13, 3:14, 12] == 1).all()
    np.testing.assert_array_equal(turned["mask"], 2.0 * mask - 1)


def test_region_is_widened_to_where_the_mask_goes_on() -> None:
    regions = list(regions_around((100, 100, 100), (200, 220, 90), 8))
    assert regions[0].extent == (64, 64, 64) and regions[0].window == (64, 64, 64)
    assert regions[-1].is_whole and max(regions[-1].window) <= 128
    for narrow, wide in itertools.pairwise(regions):
        assert all(w.start <= n.start and w.stop >= n.stop for n, w in zip(narrow.inside, wide.inside, strict=True))
    volume = torch.arange(200 * 220 * 90, dtype=torch.float32).reshape(1, 200, 220, 90)
    first = regions[0].cut(volume)
    i, j, k = regions[0].inside
    torch.testing.assert_close(first[0], volume[:, i, j, k])
    centre = np.array([[100.0, 100.0, 89.0]])
    for region in regions:
        place = region.to_window(centre)[0]
        assert ((place > -0.5) & (place < np.array(region.window))).all()
        shown = region.cut(volume / volume.max())
        back = region.to_scan(shown)
        assert back.shape == volume[0][region.inside].shape
        inner = (slice(3, -3),) * 3
        torch.testing.assert_close(back[inner], (volume / volume.max())[0][region.inside][inner], atol=0.01, rtol=0)
    mask = np.zeros(tuple(part.stop - part.start for part in regions[0].inside), dtype=bool)
    mask[0, :4, :4] = True
    assert regions[0].is_left_by(mask, 8) and not regions[0].is_left_by(mask, 20)
    assert not regions[-1].is_left_by(np.ones((200, 220, 90), dtype=bool), 8)


def test_session_widens_the_region_for_a_far_click(taught: PromptableSegmenter) -> None:
    rng = np.random.default_rng(0)
    long = Volume(rng.normal(0, 10, (150, 32, 24)).astype(np.float32), np.eye(4))
    long.array[100:110, 10:20, 8:16] += 100
    session = PromptSession(long, taught)
    session.segment(Prompt(foreground=[[10, 16, 12]]))
    narrow = [region.extent for region in session._features]
    session.segment(Prompt(foreground=[[10, 16, 12], [105, 15, 12]]))
    assert max(extent[0] for extent in narrow) < 105 <= max(region.inside[0].stop for region in session._features)


def test_clicks_fall_where_an_annotator_would_put_them() -> None:
    target = np.zeros((20, 20, 20), dtype=bool)
    target[2:11, 2:11, 2:11] = True
    assert first_click(target).point == (6, 6, 6)
    drawn = {first_click(target, np.random.default_rng(n)).point for n in range(20)}
    assert len(drawn) > 5 and all(target[point] for point in drawn)
    predicted = target.copy()
    predicted[2:5, 2:5, 2:5] = False  # a small piece is missing
    predicted[14:19, 14:19, 14:19] = True  # a large one is too much
    assert next_click(target, predicted) == ((16, 16, 16), False)
    predicted[14:19, 14:19, 14:19] = False
    assert next_click(target, predicted) == ((3, 3, 3), True)
    assert next_click(target, target) is None
    with pytest.raises(ValueError, match="mask is empty"):
        first_click(np.zeros((4, 4, 4), dtype=bool))


def test_point_and_box_maps_mark_their_places_alone() -> None:
    drawn = point_map([[5, 6, 7], [0, 0, 0], [90, 0, 0]], (12, 12, 12)).numpy()
    assert drawn[5, 6, 7] == 1 and drawn[0, 0, 0] == 1 and 0.7 < drawn[5, 6, 8] < 0.9
    assert drawn[11, 11, 11] == 0 and drawn.max() == 1
    box = box_map([[[1, 2, 3], [4, 5, 3]]], (8, 8, 8))
    assert box.sum() == 4 * 4 and box[1:5, 2:6, 3].min() == 1


def test_requests_of_interactive_models_become_prompts(scan: Volume, tmp_path: Path) -> None:
    mask = tmp_path / "before.nii.gz"
    write_volume(Volume(blobs(1000)[1][0].astype(np.uint8), scan.affine), mask)
    request = {
        "image": "x",
        "device": torch.device("cpu"),
        "label": "spleen",
        "foreground": np.array([[1, 2, 3]]),
        "background": [],
        "roi": [1, 2, 5, 6, 3, 7],
        "mask": mask,
    }
    prompt = read_request(json.loads(request_text(request)), scan)
    assert prompt.foreground.tolist() == [[1, 2, 3]] and not len(prompt.background) and prompt.organ == "spleen"
    assert prompt.boxes.tolist() == [[[1, 2, 3], [5, 6, 7]]]
    np.testing.assert_array_equal(prompt.mask, blobs(1000)[1][0])
    flat = read_request({"roi": [1, 2, 5, 6], "slice": 9}, scan)
    assert flat.boxes.tolist() == [[[1, 2, 9], [5, 6, 9]]]
    for wrong in ({"roi": [1, 2, 3]}, {"roi": [1, 2, 5, 6]}, {"foreground": "here"}, {"foreground": 5}, {"organ": 4}):
        with pytest.raises(PromptError, match=next(iter(wrong))):
            read_request(wrong, scan)


def test_training_windows_leave_out_what_is_not_to_be_learnt(tmp_path: Path) -> None:
    label = np.zeros((40, 40, 40), dtype=np.uint8)
    label[5:35, 5:35, 5:20], label[5:35, 5:35, 20:35] = 1, 2
    write_volume(Volume(label, np.eye(4)), tmp_path / "a.nii.gz")
    cohort = LabelledCohort(labels=tmp_path, names={"1": "one"}, merged={"2": 0})
    windows = LabelledWindows([cohort, LabelledCohort()], seed=3, stream=0, sides=(16, 24))
    items = [windows[number] for number in range(8)]
    assert {item["cohort"] for item in items} == {0, 1}
    for item in items:
        assert item["image"].shape[1:] == item["label"].shape and set(item["label"].shape) <= {16, 24}
        assert torch.isfinite(item["image"]).all()
        if item["cohort"] == 0:
            assert set(item["label"].unique().tolist()) <= {0, 1}
    again = windows[5]
    torch.testing.assert_close(again["image"], items[5]["image"], rtol=0, atol=0)


def test_simulated_prompts_point_into_the_target() -> None:
    label = np.zeros((24, 24, 24), dtype=np.int64)
    label[2:10, 2:10, 2:10] = label[14:20, 14:20, 14:20] = 4
    kinds = set()
    for seed in range(250):
        rng = np.random.default_rng(seed)
        mask, number = draw_target(label, rng, unlabelled=True)
        assert number == 4 and mask.sum() in (512, 216, 728)
        prompt = first_prompt(mask, organ=2, rng=rng)
        kinds.add((bool(prompt.foreground), bool(prompt.boxes), prompt.organ))
        assert all(mask[tuple(int(x) for x in point)] for point in prompt.foreground)
        for low, high in prompt.boxes:
            assert mask[tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))].any()
    assert kinds == {(True, False, 0), (True, False, 2), (False, True, 0), (False, True, 2), (False, False, 2)}
    assert draw_target(np.zeros_like(label), np.random.default_rng(0), unlabelled=True) is None
