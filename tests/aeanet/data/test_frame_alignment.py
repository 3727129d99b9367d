"""Frames with a known drift and known faults: the alignment, what is left out, and the mean."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from aeanet.data.frames import (
    AlignedFrames,
    FrameError,
    align_frames,
    fuse_aligned,
    fuse_frames,
    resample,
)
from aeanet.data.frames.checks import copies
from aeanet.data.synthetic import SimulatedFrames, simulate_frames
from aeanet.imaging.upsampling import upsample

SHAPE = (192, 256)
Frames = list[NDArray[np.float32]]


@pytest.fixture(scope="module")
def series() -> SimulatedFrames:
    """Six frames of porous bodies with the noise of real images."""
    return simulate_frames(5, 6, SHAPE, kind="porous")


def error_of(aligned: AlignedFrames, series: SimulatedFrames) -> NDArray[np.float64]:
    """Root mean square over the lines of each frame that is used, (frames, 2), px."""
    error = aligned.displacement - series.displacement(aligned.reference)
    return np.sqrt((error[aligned.used] ** 2).mean(1))


def defocused(series: SimulatedFrames, n: int) -> NDArray[np.float32]:
    """A frame whose specimen is blurred and whose noise is not."""
    truth = series.truth(n)
    return np.asarray(cv2.GaussianBlur(truth, (0, 0), 1.3) + series.frames[n] - truth, np.float32)


# ---- alignment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["porous", "polished"])
def test_alignment_errs_by_less_than_a_tenth_of_a_pixel(kind: str) -> None:
    """At the size and the noise of real images, though the drift is of many pixels and not the same
    at all lines.
    """
    series = simulate_frames(11, 4, (384, 640), kind=kind)
    aligned = align_frames(list(series.frames))
    assert not aligned.left_out
    assert np.abs(series.displacement(aligned.reference)).max() > 2
    assert error_of(aligned, series).max() <= 0.1
    np.testing.assert_allclose(aligned.displacement[aligned.reference], 0, atol=1e-9)


def test_slow_drift_within_a_frame_is_found(series: SimulatedFrames) -> None:
    aligned = align_frames(list(series.frames))
    true = series.displacement(aligned.reference)
    bent = true - true.mean(1, keepdims=True)
    assert np.abs(bent).max() > 0.5
    found = aligned.displacement - aligned.displacement.mean(1, keepdims=True)
    assert np.sqrt(((found - bent) ** 2).mean()) < 0.35 * np.sqrt((bent**2).mean())


def test_brightness_contrast_and_noise_may_differ(series: SimulatedFrames) -> None:
    frames: Frames = list(series.frames)
    frames[0] = 0.5 * frames[0] + 0.3
    noise = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    frames[4] = frames[4] + np.float32(2.5 * series.noise) * noise
    aligned = align_frames(frames)
    assert not aligned.left_out
    assert error_of(aligned, series).max() <= 0.2
    assert aligned.gain[0] == pytest.approx(2 * np.median(aligned.gain), rel=0.03)

    weight = fuse_aligned(frames, aligned).weight
    assert weight.sum() == pytest.approx(1)
    # Of white noise a blur of 1 px leaves less than of noise that is correlated along the lines.
    assert 0.05 < weight[4] / np.median(weight) < 0.35
    assert weight[0] == pytest.approx(np.median(weight), rel=0.1)


def test_two_frames_are_enough(series: SimulatedFrames) -> None:
    first = SimulatedFrames(
        series.frames[:2], series.drift[:2], series.noise, "", series.acquisition, series._scan
    )
    aligned = align_frames(list(first.frames))
    assert not aligned.left_out
    assert error_of(aligned, first).max() <= 0.2


# ---- bad frames ----------------------------------------------------------------------------------


def test_bad_frames_are_left_out_with_the_reason(series: SimulatedFrames) -> None:
    frames: Frames = list(series.frames)
    good = [0, 3, 4, 5]
    clean = align_frames([frames[n] for n in good])
    frames[1] = defocused(series, 1)
    frames[2] = frames[2].copy()
    frames[2][60:110] += frames[2].std()
    frames.append(simulate_frames(99, 1, SHAPE, kind="particles").frames[0])
    frames.append(np.full(SHAPE, 0.5, np.float32))
    frames.append(frames[3])

    aligned = align_frames(frames)
    assert {n: reason.split(":")[0] for n, reason in aligned.left_out.items()} == {
        1: "it is blurred",
        2: aligned.left_out[2],
        6: aligned.left_out[6],
        7: "it has one value throughout",
        8: "it has the noise of frame 4, so it is a copy of it",
    }
    assert "of its area differ from the others" in aligned.left_out[2]

    # They do not disturb the others.
    found = aligned.displacement[good]
    found = found - found[clean.reference]
    np.testing.assert_allclose(found, clean.displacement, atol=0.05)
    assert fuse_aligned(frames, aligned).weight[[1, 2, 6, 7, 8]].max() == 0


@pytest.mark.parametrize("kind", ["porous", "polished", "particles"])
def test_copies_are_known_by_their_noise(kind: str) -> None:
    """With another contrast and brightness, inverted, and in 8 bits; scans of one field are no
    copies, though they do not drift and have next to no noise.
    """
    series = simulate_frames(3, 4, SHAPE, kind=kind, drift=0.0)
    frames: Frames = list(series.frames)
    faint = [series.truth(n) + 0.1 * (frames[n] - series.truth(n)) for n in range(4)]
    assert not copies(frames)
    assert not copies([np.asarray(frame, np.float32) for frame in faint])

    low, high = frames[0].min(), frames[0].max()
    grey = np.rint((frames[0] - low) / (high - low) * 200 + 20)
    copied = [*frames, 0.5 * frames[1] + 0.3, -frames[2], grey.astype(np.float32)]
    assert copies(copied) == {4: 1, 5: 2, 6: 0}


def test_a_bad_frame_may_be_the_first_one_or_one_of_three(series: SimulatedFrames) -> None:
    good = list(series.frames[1:3])
    aligned = align_frames([defocused(series, 0), *good])
    assert [*aligned.left_out] == [0]
    assert aligned.reference in (1, 2)


def test_a_frame_that_has_drifted_away_is_left_out() -> None:
    wide = simulate_frames(6, 4, (96, 384), kind="porous", drift=0.2).frames
    frames = [frame[:, left : left + 192] for frame, left in zip(wide, (0, 3, 1, 150), strict=True)]
    assert [*align_frames(frames).left_out] == [3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frames: frames[:1], "two or more; got 1"),
        (lambda frames: [], "two or more; got 0"),
        (lambda frames: [frames[0], frames[1][:-1]], "number 2 has (191, 256)"),
        (lambda frames: [frames[0], np.stack([frames[1]] * 3, -1)], "has (192, 256, 3)"),
        (lambda frames: [frames[0], frames[1] * np.nan], "Frame 2 holds NaN"),
        (lambda frames: [frame[:40, :40] for frame in frames], "at least 64 x 64 px"),
        (lambda frames: [frames[0], frames[0]], "frame 2: it has the noise of frame 1"),
        (lambda frames: [frames[0], frames[1][::-1, ::-1]], "Fewer than two of 2 frames can"),
    ],
)
def test_what_cannot_be_aligned_is_refused(change, words: str, series: SimulatedFrames) -> None:
    with pytest.raises(FrameError) as refused:
        align_frames(change(list(series.frames)))
    assert words in str(refused.value)
    assert str(refused.value).endswith(".")


# ---- interpolation and mean ----------------------------------------------------------------------


def test_a_frame_is_interpolated_where_its_lines_lie() -> None:
    """Against a wave that is known everywhere."""

    def wave(y: NDArray, x: NDArray) -> NDArray:
        return np.sin(0.5 * x + 0.2) * np.cos(0.4 * y - 0.3)

    y, x = np.arange(80.0)[:, None], np.arange(90.0)
    displacement = np.stack([3.3 + 0.01 * y[:, 0], -2.6 + np.sin(0.05 * y[:, 0])], axis=1)
    image, inside = resample(wave(y, x), displacement)
    expected = wave(y + displacement[:, :1], x + displacement[:, 1:])
    inner = cv2.erode(inside.astype(np.uint8), np.ones((9, 9)), borderValue=0) > 0
    assert inner.mean() > 0.6
    assert np.abs(image - expected)[inner].max() < 0.02
    assert not inside[-3:].any()
    assert not inside[:, 0].any()


def test_without_drift_a_frame_is_enlarged_as_images_are(series: SimulatedFrames) -> None:
    frame = series.frames[0]
    for magnification in (1.0, 1.5, 2.0):
        image, inside = resample(frame, np.zeros((len(frame), 2)), magnification)
        rough = 0 if magnification in (1.0, 2.0) else 0.02  # OpenCV rounds places to 1/32 px
        assert image.shape == upsample(frame, magnification).shape
        np.testing.assert_allclose(image, upsample(frame, magnification), atol=rough + 1e-5)
        assert inside[2:-2, 2:-2].all()


def test_large_images_are_interpolated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.random.default_rng(0).random((150, 130))
    displacement = np.column_stack([np.full(150, 2.4), np.linspace(-3, 5, 150)])
    whole, _ = resample(frame, displacement)
    monkeypatch.setattr("aeanet.data.frames.resampling._BLOCK", 40)
    np.testing.assert_array_equal(resample(frame, displacement)[0], whole)


@pytest.mark.parametrize("magnification", [1.0, 2.0])
def test_the_noise_that_is_left_is_measured(magnification: float) -> None:
    """Against the true error of the mean: frames of which each has the same clean image."""
    rng = np.random.default_rng(3)
    base = cv2.GaussianBlur(rng.standard_normal(SHAPE), (0, 0), 3)
    frames, places = [], rng.uniform(-3, 3, (9, 2))
    for y, x in places:
        shift = np.float32([[1, 0, x], [0, 1, y]])
        moved = cv2.warpAffine(base / base.std() / 10, shift, SHAPE[::-1], flags=cv2.INTER_CUBIC)
        white = rng.standard_normal(SHAPE)
        correlated = cv2.filter2D(white, -1, np.array([[0.2, 1, 0.2]]) / np.sqrt(1.08))
        frames.append((0.5 + moved + 0.05 * correlated).astype(np.float32))
    fused = fuse_frames(frames, magnification=magnification)
    y, x = places[fused.aligned.reference]
    shift = np.float32([[1, 0, x], [0, 1, y]])
    clean = 0.5 + cv2.warpAffine(base / base.std() / 10, shift, SHAPE[::-1], flags=cv2.INTER_CUBIC)
    error = fused.pixels - upsample(clean, magnification)
    inner = error[16:-16, 16:-16]
    sd, along, across = fused.noise()
    assert sd == pytest.approx(inner.std(), rel=0.05)
    assert sd < 0.05 / 3
    for found, shifted in ((along, inner[:, 1:] * inner[:, :-1]), (across, inner[1:] * inner[:-1])):
        assert found == pytest.approx(shifted.mean() / inner.var(), abs=0.06)


def test_the_simulated_frames_are_what_they_say(series: SimulatedFrames) -> None:
    """Each is its truth with noise, and its truth is that of the first, displaced."""
    for n in (0, 3):
        noise = series.frames[n] - series.truth(n)
        assert noise.std() == pytest.approx(series.noise, rel=0.15)
    moved, inside = resample(series.truth(3), series.displacement(0)[3])
    inner = cv2.erode(inside.astype(np.uint8), np.ones((13, 13)), borderValue=0) > 0
    before, after = (np.abs(t - series.truth(0))[inner].mean() for t in (series.truth(3), moved))
    assert after < 0.15 * before
