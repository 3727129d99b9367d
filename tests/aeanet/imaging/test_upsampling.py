"""Bicubic enlargement against PyTorch's, and of regions against the whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from aeanet.imaging.upsampling import upsample, upsample_region, upsampled_shape

LR = np.random.default_rng(0).random((40, 61), dtype=np.float32)


@pytest.mark.parametrize("magnification", [1.0, 1.5, 2.0, 2.03, 3.7])
def test_it_follows_its_contract(magnification: float) -> None:
    """PyTorch has the same kernel and convention but rounds sizes down."""
    large = upsample(LR, magnification)
    assert large.shape == (round(40 * magnification), round(61 * magnification))
    assert large.dtype == np.float32
    options = {"mode": "bicubic", "align_corners": False, "recompute_scale_factor": False}
    double = torch.from_numpy(LR).double()[None, None]
    expected = interpolate(double, scale_factor=magnification, **options)[0, 0].numpy()
    np.testing.assert_allclose(large[: expected.shape[0], : expected.shape[1]], expected, atol=1e-5)


@settings(max_examples=50)
@given(st.floats(0.3, 5), st.data())
def test_a_region_is_that_of_the_whole_to_the_last_bit(
    magnification: float, data: st.DataObject
) -> None:
    whole = upsample(LR, magnification)
    region = []
    for length in upsampled_shape(LR.shape, magnification):
        start = data.draw(st.integers(0, length - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, length))))
    got = upsample_region(lambda rows, columns: LR[rows, columns], LR.shape, magnification, *region)
    assert np.array_equal(got, whole[tuple(region)])


@pytest.mark.parametrize(
    ("image", "magnification", "message"),
    [
        (np.zeros((4, 4)), 0, "magnification is 0, wanted a number above 0"),
        (np.zeros((4, 4)), float("nan"), "magnification is nan"),
        (np.zeros((4, 4, 3)), 2, "a finite grey image"),
        (np.full((4, 4), np.nan), 2, "a finite grey image"),
    ],
)
def test_it_refuses_nonsense(image: np.ndarray, magnification: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        upsample(image, magnification)
