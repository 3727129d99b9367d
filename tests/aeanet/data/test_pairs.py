"""Folders of pairs, the 3x4 split and random crops."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from aeanet.data.crops import RandomCrops, split_3x4
from aeanet.data.pairs import (
    PairSet,
    find_pairs,
    hold_back,
    load_pairs,
    read_pair,
    register_all,
)
from aeanet.data.registration import RegisteredPair, RegistrationReport
from aeanet.data.synthetic import simulate_pair
from aeanet.errors import PairError

REPORT = RegistrationReport(0, 0, 2.0, 0.0, 0.0, 0.0, 1.0, ((2.0, 0.0, 0.5), (0.0, 2.0, 0.5)))


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """(lr, hr) of one simulated pair, uint8."""
    pair = simulate_pair(3, shape=(240, 320))
    lr, hr = (np.rint(image * 255).astype(np.uint8) for image in (pair.lr, pair.hr))
    return lr, hr


def save(path: Path, raw: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, raw) if path.suffix == ".tif" else Image.fromarray(raw).save(path)


def numbered(lr: np.ndarray, mask: np.ndarray | None = None, name: str = "") -> RegisteredPair:
    """A pair whose HR is its LR plus 0.5, registered by decree."""
    lr = lr.astype(np.float32)
    return RegisteredPair(
        name, lr, lr + np.float32(0.5), np.ones(lr.shape, bool) if mask is None else mask, REPORT
    )


def test_both_layouts_are_found(tmp_path: Path) -> None:
    raw = np.zeros((4, 4), np.uint8)
    for name in ("b.png", "a.TIF", ".hidden.png", "notes.txt"):
        for kind in ("lr", "hr"):
            (tmp_path / "ours" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "ours" / kind / name).touch()
    (tmp_path / "ours" / "hr" / "a.TIF").rename(tmp_path / "ours" / "hr" / "a.png")
    for name in (
        "s1_10000.bmp",
        "s1_20000.bmp",
        "x-y 10000.tif",
        "x-y 20000.bmp",
        "10000.png",
        "20000.png",
        "map.bmp",
    ):
        save(tmp_path / "paper" / name, raw)
    ours = find_pairs(tmp_path / "ours")
    assert [(p.name, p.lr.name, p.hr.name) for p in ours] == [
        ("a", "a.TIF", "a.png"),
        ("b", "b.png", "b.png"),
    ]
    assert [p.lr.parent.name for p in ours] == ["lr", "lr"]
    paper = {p.name: (p.lr.name, p.hr.name) for p in find_pairs(tmp_path / "paper")}
    assert paper == {
        "paper": ("10000.png", "20000.png"),
        "s1": ("s1_10000.bmp", "s1_20000.bmp"),
        "x-y": ("x-y 10000.tif", "x-y 20000.bmp"),
    }


def test_two_folders_hold_the_pairs_of_their_common_names(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    lr, hr = scene
    save(tmp_path / "coarse" / "a.png", lr)
    save(tmp_path / "coarse" / "b.png", lr)
    save(tmp_path / "fine" / "a.tif", hr)
    data = load_pairs(tmp_path / "coarse", tmp_path / "fine")
    assert [pair.name for pair in data.pairs] == ["a"]
    assert data.refused["b"].startswith("the HR image")
    with pytest.raises(PairError, match="nowhere is not a folder"):
        load_pairs(tmp_path / "coarse", tmp_path / "nowhere")


def test_folders_without_pairs_are_one_sentence(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PairError, match=r"lr/NAME.*10000") as error:
            find_pairs(folder)
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)
    save(tmp_path / "lr" / "only.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(PairError, match=r"the HR image .*hr/only\.\* is missing"):
        load_pairs(tmp_path)


def test_bad_pairs_are_refused_with_their_reason_and_the_others_go_on(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    lr, hr = scene
    folders = {"lr": tmp_path / "lr", "hr": tmp_path / "hr"}
    other = np.rint(simulate_pair(8, shape=(240, 320)).hr * 255).astype(np.uint8)
    nan = hr.astype(np.float32) / 255
    nan[5, 5] = np.nan
    save(folders["lr"] / "good.png", lr)
    save(folders["hr"] / "good.png", hr)
    save(folders["lr"] / "deep.png", lr.astype(np.uint16) * 257)
    save(folders["hr"] / "deep.png", hr)
    save(folders["lr"] / "colour.png", np.stack([lr] * 3, axis=-1))
    save(folders["hr"] / "colour.tif", hr.astype(np.uint16) * 257)
    save(folders["lr"] / "nan.png", lr)
    save(folders["hr"] / "nan.tif", nan)
    save(folders["lr"] / "elsewhere.png", lr)
    save(folders["hr"] / "elsewhere.png", other)
    save(folders["lr"] / "alone.png", lr)
    save(folders["hr"] / "widow.png", hr)
    save(folders["lr"] / "twice.png", lr)
    save(folders["lr"] / "twice.bmp", lr)
    save(folders["hr"] / "twice.png", hr)
    save(folders["lr"] / "broken.png", lr)
    (folders["hr"] / "broken.png").write_bytes((folders["hr"] / "good.png").read_bytes()[:3000])
    seen: list[tuple[int, int, str]] = []
    found = load_pairs(tmp_path, progress=lambda *state: seen.append(state))
    assert [pair.name for pair in found.pairs] == ["colour", "deep", "good"]
    for pair in found.pairs:  # depth and colour are a matter of the file, not of the image
        np.testing.assert_allclose(pair.lr, found.pairs[2].lr, atol=1e-6)
        np.testing.assert_allclose(pair.hr, hr / 255, atol=1e-6)
    wanted = {
        "alone": r"the HR image .*alone\.\* is missing",
        "widow": r"the LR image .*widow\.\* is missing",
        "twice": r"2 files could be the LR image: twice\.bmp, twice\.png",
        "nan": "nan.tif holds NaN",
        "broken": "broken.png cannot be read",
        "elsewhere": "do not show the same field",
    }
    assert set(found.refused) == set(wanted)
    for name, reason in wanted.items():
        with pytest.raises(PairError, match=reason):
            raise PairError(found.refused[name])
        assert "\n" not in found.refused[name]
    assert [state[:2] for state in seen] == [(i, 6) for i in range(1, 7)]
    assert {state[2] for state in seen} == {"broken", "colour", "deep", "elsewhere", "good", "nan"}


def test_no_usable_pair_is_one_sentence(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    save(tmp_path / "s10000.bmp", scene[0])
    save(tmp_path / "s20000.bmp", np.zeros((240, 320), np.uint8))
    with pytest.raises(PairError, match=r"None of the 1 pairs in .* can be used; s: "):
        load_pairs(tmp_path)


def test_pairs_in_memory_register_like_those_of_a_folder(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    lr, hr = scene
    save(tmp_path / "s10000.bmp", lr)
    save(tmp_path / "s20000.bmp", hr)
    memory = register_all(
        [("s", lr / np.float32(255), hr / np.float32(255)), ("flat", lr * 0.0, hr / 255)]
    )
    assert list(memory.refused) == ["flat"]
    (pair,), (other,) = memory.pairs, load_pairs(tmp_path).pairs
    assert pair.name == other.name == "s"
    np.testing.assert_array_equal(pair.lr, other.lr)


def test_split_of_the_paper() -> None:
    training, tests = split_3x4((944, 1280))
    assert training == (slice(0, 944), slice(0, 960))
    assert tests == [(slice(a, b), slice(960, 1280)) for a, b in ((0, 314), (314, 628), (628, 942))]


@given(height=st.integers(3, 300), width=st.integers(2, 300))
def test_split_never_shares_a_pixel(height: int, width: int) -> None:
    training, tests = split_3x4((height, width))
    used = np.zeros((height, width), int)
    for region in (training, *tests):
        assert used[region].size > 0
        used[region] += 1
    assert used.max() == 1
    assert used[training].size == height * (3 * width // 4)
    assert len({used[region].shape for region in tests}) == 1


def test_too_small_to_split() -> None:
    with pytest.raises(PairError, match="2 x 9"):
        split_3x4((2, 9))


@st.composite
def pairs_and_places(draw: st.DrawFn) -> tuple[RegisteredPair, int, set[int]]:
    """A pair with up to three invalid pixels, the size of a crop, and the corners of the crops that
    it has room for.
    """
    shape = draw(st.tuples(st.integers(8, 30), st.integers(8, 30)))
    size = draw(st.integers(1, 8))
    mask = np.ones(shape, bool)
    for place in draw(
        st.lists(st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1)), max_size=3)
    ):
        mask[place] = False
    region = np.zeros(shape, bool)
    region[split_3x4(shape)[0]] = True
    places = {  # by the definition: every corner whose crop is all valid and all in the region
        row * shape[1] + column
        for row in range(shape[0] - size + 1)
        for column in range(shape[1] - size + 1)
        if (mask & region)[row : row + size, column : column + size].all()
    }
    return numbered(np.arange(mask.size).reshape(shape), mask), size, places


@given(drawn=pairs_and_places(), seed=st.integers(0, 2**31))
def test_crops_are_valid_inside_their_region_and_aligned(
    drawn: tuple[RegisteredPair, int, set[int]], seed: int
) -> None:
    pair, size, places = drawn
    assume(places)
    crops = RandomCrops([pair], size, 400, seed=seed)
    found = set()
    for lr, hr in (crops[i] for i in range(len(crops))):
        corner = int(lr[0, 0, 0])
        row, column = divmod(corner, pair.lr.shape[1])
        assert lr.shape == hr.shape == (1, size, size)
        np.testing.assert_array_equal(lr[0], pair.lr[row : row + size, column : column + size])
        np.testing.assert_array_equal(hr, lr + 0.5)
        found.add(corner)
    assert found <= places
    if len(places) <= 20:
        assert found == places  # each is missed with a probability of (1 - 1/20)^400, about 1e-9


def test_a_pair_without_room_for_a_crop_is_refused() -> None:
    mask = np.ones((8, 8), bool)
    mask[4] = False
    with pytest.raises(PairError, match="No pair has room"):
        RandomCrops([numbered(np.arange(64).reshape(8, 8), mask)], 5, 1)


def test_crops_depend_on_seed_and_index_alone_and_images_are_drawn_evenly() -> None:
    pairs = [numbered(np.full((40, 40 + 40 * k), k)) for k in range(3)] + [
        numbered(np.full((4, 4), 9))
    ]
    first, second = (RandomCrops(pairs, 16, 900, seed=5) for _ in range(2))
    order = np.random.default_rng(0).permutation(900)
    shuffled = {i: first[i][0] for i in order}
    assert all((shuffled[i] == second[i][0]).all() for i in range(900))
    counts = Counter(int(first[i][0][0, 0, 0]) for i in range(900))
    assert set(counts) == {0, 1, 2}  # the last is too small for a crop
    assert all(
        230 < n < 370 for n in counts.values()
    )  # 300 each, whatever their size; 5 standard deviations are 71
    rows = numbered(np.arange(1600).reshape(40, 40))
    places = [
        [int(RandomCrops([rows], 16, 9, seed=seed)[i][0][0, 0, 0]) for i in range(9)]
        for seed in (0, 1)
    ]
    assert places[0] != places[1]


def test_crops_outside_their_number_end_the_iteration() -> None:
    crops = RandomCrops([numbered(np.zeros((40, 40)))], 8, 3)
    assert len(list(crops)) == len(crops) == 3  # type: ignore[call-overload]
    with pytest.raises(PairError, match="size 0"):
        RandomCrops([numbered(np.zeros((40, 40)))], 0, 3)


def test_pairs_are_held_back_by_number_share_and_name() -> None:
    data = PairSet(
        [numbered(np.zeros((4, 4)), name=name) for name in "abcdefgh"], {"x": "too dark"}
    )

    def held(which: float | list[str]) -> str:
        training, back = hold_back(data, which)
        assert sorted(pair.name for pair in [*training.pairs, *back]) == list("abcdefgh")
        assert training.refused == data.refused
        return "".join(pair.name for pair in back)

    assert [held(1), held(2), held(0.5), held(0.01), held(["g", "b"])] == [
        "e",
        "cg",
        "bdfh",
        "e",
        "bg",
    ]
    assert held(7) == "abcefgh"
    for number, reason in (
        (8, "Holding back 8 of 8"),
        (9, "Holding back 9 of 8"),
        (2.5, "2.5 pairs"),
        (-1, "-1 pairs"),
    ):
        with pytest.raises(PairError, match=reason):
            hold_back(data, number)
    with pytest.raises(PairError, match="Holding back all of 8 pairs leaves none"):
        hold_back(data, "abcdefgh")


def test_real_folder_is_found(real_pairs: Path) -> None:
    pairs = find_pairs(real_pairs)
    assert len(pairs) == 32
    assert all(pair.lr.stem == pair.hr.stem == pair.name for pair in pairs)


def test_two_images_of_floats_have_one_range(
    scene: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """What an image's own extremes are depends on its noise; the values say which is brighter."""
    for part, raw in zip(("lr", "hr"), scene, strict=True):
        save(tmp_path / part / "a.tif", raw.astype(np.float32))
    (files,) = find_pairs(tmp_path)
    lr, hr = read_pair(files)
    ends = min(map(np.min, scene)), max(map(np.max, scene))
    for image, raw in ((lr, scene[0]), (hr, scene[1])):
        assert (image.low, image.high) == ends
        np.testing.assert_allclose(image.pixels * np.ptp(ends) + ends[0], raw, atol=1e-4)
    (pair,) = load_pairs(tmp_path).pairs
    np.testing.assert_array_equal(pair.hr, hr.pixels)


def test_pairs_beside_the_folders_are_named(
    scene: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    for part, raw in zip(("lr", "hr"), scene, strict=True):
        save(tmp_path / part / "a.png", raw)
    save(tmp_path / "b10000.png", scene[0])
    found = load_pairs(tmp_path)
    assert [pair.name for pair in found.pairs] == ["a"]
    assert "it lies beside" in found.refused["b10000.png"]
