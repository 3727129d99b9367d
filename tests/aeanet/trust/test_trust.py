"""The report on a restoration: what is unusual, and what the command says of it."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from noisy import noise_along_lines, smooth
from numpy.typing import NDArray
from toys import aeanet, lively_network, report, simulated_folder

from aeanet.cli.batch import restore_all
from aeanet.data.registration import RegisteredPair
from aeanet.data.synthetic import WholeImage, simulate_image
from aeanet.errors import ModelError
from aeanet.io.images import read_image, write_image
from aeanet.io.text import RecordError
from aeanet.networks.error import load_error_network
from aeanet.networks.registry import load_model
from aeanet.trust import (
    Reference,
    assess,
    assess_pair,
)
from aeanet.trust.report import shipped_reference
from aeanet.trust.residual import residual
from aeanet.trust.statistics import SMALLEST, describe
from benches.trust.faults import FAULTS, eight_bits, faulty, photographs
from benches.trust.learning import (
    Example,
    fit_reference,
    reference_statistics,
    write_reference,
)

MODEL = lively_network("unet")


@pytest.fixture(scope="module")
def reference(images: list[WholeImage]) -> Reference:
    """Learned from few images, as if the truth were what a model restores."""
    rng = np.random.default_rng(0)
    found = [describe(image.lr) for image in images]
    others = [
        describe(faulty(image.lr, list(FAULTS)[i % len(FAULTS)], rng))
        for i, image in enumerate(images)
    ]
    taken = [residual(i.lr, i.hr, s.noise).numbers for i, s in zip(images, found, strict=True)]
    vectors = [np.array([s.vector() for s in group]) for group in (found, others)]
    return fit_reference(
        list(found[0].values), *vectors, list(taken[0]), np.array([[*t.values()] for t in taken])
    )


def test_new_images_like_those_learned_are_seldom_warned_of_and_most_faults_are(
    reference: Reference,
) -> None:
    rng = np.random.default_rng(7)
    others = [simulate_image(seed, (128, 160), magnification=1.0).lr for seed in range(500, 545)]
    usual = np.array([describe(image).vector() for image in others])
    kinds = list(FAULTS)
    outside = [
        describe(faulty(image, kinds[i % len(kinds)], rng)).vector()
        for i, image in enumerate(others)
    ]
    false, hits = (
        np.mean(reference.distance(vectors) > 1) for vectors in (usual, np.array(outside))
    )
    assert false <= 0.15, "three standard deviations above 5 % for 45 images"
    assert hits > 0.5, "36 images show little of the range; the shipped reference knows hundreds"


def test_every_fault_is_an_image_of_eight_bits_that_is_described(images: list[WholeImage]) -> None:
    for kind in FAULTS:
        image = faulty(images[0].lr, kind, np.random.default_rng(2))
        assert image.shape == images[0].lr.shape
        assert np.array_equal(image, eight_bits(image)), kind
        assert np.isfinite(describe(image).vector()).all(), kind


def test_a_regular_pattern_that_was_taken_away_is_warned_of() -> None:
    """An array of holes is lost; interference along the scan is no array, and noise is none
    either.
    """
    clean = smooth(shape=(192, 256))
    noise = 0.04 * noise_along_lines(clean.shape, 6)
    y, x = np.indices(clean.shape)
    holes = 0.05 * np.cos(2 * np.pi * x / 3) * np.cos(2 * np.pi * y / 6)
    interference = 0.05 * np.cos(2 * np.pi * (x / 3.7 + y / 11))
    patterns = {"holes": holes, "interference": interference, "none": 0 * holes}
    found = {}
    for name, pattern in patterns.items():
        report = assess(MODEL, (clean + noise + pattern).astype(np.float32), clean)
        assert report.taken is not None
        found[name] = report.taken.pattern
        assert any("repeats regularly" in warning for warning in report.warnings) == (
            name == "holes"
        )
    assert found["none"] < 0.1
    assert found["interference"] < 0.1 < 1 < found["holes"]


def test_a_pair_is_assessed_over_the_field_that_both_images_show() -> None:
    """LR shows 10 rows and 20 columns more than HR, half a pixel off; a placement 24 px off is
    noticed.
    """
    clean = smooth(shape=(260, 360))
    lr = cv2.resize(clean, (180, 130), interpolation=cv2.INTER_AREA) + 0.03 * noise_along_lines(
        (130, 180), 5
    )
    hr = clean[20:, 40:].astype(np.float32)
    strengths = []
    for offset, columns in ((0.5, 160), (24.5, 160)):
        placed = replace(report(), matrix=((2.0, 0.0, offset - 40), (0.0, 2.0, 0.5 - 20)))
        pair = RegisteredPair("a", hr, hr, np.ones(hr.shape, bool), placed)
        found = assess_pair(MODEL, lr.astype(np.float32), pair, hr)
        assert found.taken is not None
        assert found.taken.image.shape == (120, columns)
        strengths.append(found.taken.numbers["strength"])
    assert abs(strengths[0]) < 0.1 < 0.3 < strengths[1]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_pair_is_assessed_as_one_that_is_not(turns: int) -> None:
    """Quarter turns of LR, with the placement that undoes them."""
    hr = smooth(shape=(240, 320)).astype(np.float32)
    lr = cv2.resize(hr, (160, 120), interpolation=cv2.INTER_AREA) + 0.03 * noise_along_lines(
        (120, 160), 5
    )
    straight = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]])
    turned = np.rot90(lr, turns)
    # turned px -> LR px, by where three corners lie
    rows, columns = (np.rot90(index, turns) for index in np.indices(lr.shape))
    here = np.float32([[0, 0], [turned.shape[1] - 1, 0], [0, turned.shape[0] - 1]])
    there = np.float32([[columns[int(y), int(x)], rows[int(y), int(x)]] for x, y in here])
    back = np.vstack([cv2.getAffineTransform(here, there), [0, 0, 1]])
    matrix = tuple(map(tuple, straight @ back))
    placed = replace(report(), matrix=matrix)
    pair = RegisteredPair("a", hr, hr, np.ones(hr.shape, bool), placed)
    found = assess_pair(MODEL, np.ascontiguousarray(turned, np.float32), pair, hr)
    assert found.taken is not None
    assert found.taken.image.shape == turned.shape
    # with the placement of another field it is above 0.3; noise along columns is estimated worse
    assert abs(found.taken.numbers["strength"]) < (0.1 if turns == 2 else 0.25)


def test_a_report_warns_in_sentences_and_is_strict_json(
    images: list[WholeImage], reference: Reference
) -> None:
    """What was learned here are images restored to the truth, so a result that loses structure is
    unusual.
    """
    report = assess(MODEL, images[3].lr, images[3].hr, reference=reference)
    assert json.loads(json.dumps(report.record(), allow_nan=False))["warnings"] == report.warnings
    assert "%" in report.summary()
    dots = (np.random.default_rng(0).random((128, 160)) > 0.5).astype(np.float32)
    warned = assess(MODEL, dots, dots, reference=reference)
    assert warned.distance is not None
    assert warned.distance > 1
    assert warned.unusual[0] in warned.warnings[0]
    text = faulty(images[3].lr, "text", np.random.default_rng(0))
    blurred = assess(MODEL, text, cv2.GaussianBlur(text, (0, 0), 3), reference=reference)
    assert any("More was taken away" in sentence for sentence in blurred.warnings)
    assert blurred.residual_distance is not None
    assert blurred.residual_distance > 1
    assert all(sentence.endswith(".") for sentence in warned.warnings)


@pytest.mark.parametrize(
    "image",
    [
        np.full((80, 90), np.nan),
        np.full((80, 90), 0.5),
        np.zeros((80, 90)),
        np.zeros((3, 3)),
        np.zeros((0, 5)),
        np.where(np.arange(7200).reshape(80, 90) == 40, np.inf, 0.3),
        np.tile(np.arange(90) % 2, (80, 1)),
    ],
    ids=["NaN", "constant", "black", "tiny", "empty", "infinite", "stripes"],
)
def test_odd_images_get_a_report_and_no_traceback(image: NDArray, reference: Reference) -> None:
    report = assess(MODEL, image, image, reference=reference)
    assert report.warnings, "none of them is an image to be restored"
    json.dumps(report.record(), allow_nan=False)
    assert report.summary()
    assert not any("may still be noisy" in sentence for sentence in report.warnings), (
        "none of them has noise"
    )
    if image.size == 7200 and image.min() == image.max():
        assert report.summary() == "Noise below 0.2% of the range."


def test_learning_writes_what_reading_gives_back(images: list[WholeImage], tmp_path: Path) -> None:
    examples = [Example(image.lr[:SMALLEST, :SMALLEST], 1.0) for image in images[:22]]
    learned = reference_statistics(MODEL, examples, residuals=20)
    write_reference(tmp_path / "trust.json", learned)
    read = Reference.read(tmp_path / "trust.json")
    vectors = np.array([describe(example.image).vector() for example in examples])
    np.testing.assert_allclose(read.distance(vectors), learned.distance(vectors), atol=0.02)
    with pytest.raises(ValueError, match="at least 20 images"):
        reference_statistics(MODEL, examples[:5])
    text = (tmp_path / "trust.json").read_text()
    assert text.count("\n") == 1
    for bad, error in (
        ('{"names": []}', ModelError),
        (json.dumps(json.loads(text) | {"limit": "NaN"}), ModelError),
        ("{", RecordError),
    ):
        (tmp_path / "trust.json").write_text(bad)
        with pytest.raises(error, match="damaged"):
            Reference.read(tmp_path / "trust.json")
    with pytest.raises(ValueError, match="NaN or infinite"):
        replace(learned, limit=float("nan"))


def test_the_command_says_the_noise_warns_and_writes_the_residual(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = smooth()
    write_image(tmp_path / "a.png", clean + 0.05 * noise_along_lines(clean.shape, 3))
    restore_all(
        MODEL, [tmp_path / "a.png"], tmp_path / "out", trust=True, residual=True, magnification=1.0
    )
    told = capsys.readouterr()
    assert "a.png: Noise 5." in told.err.replace("4.9", "5.").replace("4.8", "5.")
    assert "mid-grey is 0" in told.err
    picture = read_image(tmp_path / "out" / "a-residual.png")
    assert picture.pixels.shape == clean.shape
    assert picture.dtype == np.uint16
    restore_all(
        MODEL,
        [tmp_path / "a.png"],
        tmp_path / "out",
        overwrite=True,
        residual=True,
        magnification=1.0,
    )
    (tmp_path / "out" / "a.png").unlink()
    capsys.readouterr()
    restore_all(MODEL, [tmp_path / "a.png"], tmp_path / "out", residual=True, magnification=1.0)
    assert "a-residual.png is already there; replace it with --overwrite" in capsys.readouterr().err


def test_an_image_of_one_value_comes_back_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.full((64, 64), 77 / 255)
    image = write_image(tmp_path / "a.png", pixels)
    restore_all(
        load_model("sem"),
        [image],
        tmp_path / "out",
        trust=True,
        residual=True,
        error=load_error_network("sem"),
        magnification=1.0,
    )
    assert "a.png: It has one value everywhere" in capsys.readouterr().err
    restored = read_image(tmp_path / "out" / "a.png").pixels
    np.testing.assert_allclose(restored, pixels, atol=1e-6)


def test_evaluation_shows_that_warnings_come_where_the_errors_are(tmp_path: Path) -> None:
    pairs = simulated_folder(tmp_path / "pairs", range(2))
    lr = read_image(pairs / "lr" / "1.png").pixels
    write_image(pairs / "lr" / "1.png", faulty(lr, "JPEG of low quality", np.random.default_rng(0)))
    done = aeanet("evaluate", "sem", pairs, "--out", tmp_path / "scores")
    assert done.exit_code == 0, done.output
    assert "1: The image is unlike those that the model was trained on" in done.stderr
    record = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert [bool(record["warnings"][name]) for name in ("0", "1")] == [False, True]
    calm, warned = (f"{pair['psnr']:.2f} dB" for pair in record["pairs"])
    assert f"Warned of 1 of 2 pairs: mean PSNR {warned} there, {calm} elsewhere." in done.stdout


@pytest.mark.skipif(shipped_reference() is None, reason="no reference comes with the package")
def test_the_shipped_reference_tells_photographs_and_faults_from_simulated_images() -> None:
    shipped = shipped_reference()
    assert shipped is not None
    rng = np.random.default_rng(4)
    base = [simulate_image(seed, (160, 192)).lr for seed in range(900, 912)]
    assert np.mean([shipped.distance(describe(image).vector())[0] > 1 for image in base]) <= 0.25
    outside = [faulty(image, kind, rng) for image, kind in zip(base, FAULTS, strict=False)]
    outside += photographs(("camera", "moon", "astronaut", "page")).values()
    assert np.mean([shipped.distance(describe(image).vector())[0] > 1 for image in outside]) >= 0.75
