"""MRC files of every mode and byte order, put together by the standard (MRC2014)."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from toy_stacks import Identity, mrc_of, restored, volume

from aeanet.io.images import ImageError, PixelSize, read_image

TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
STAMPS = {"<": (b"\x44\x44", b"\x44\x41", b"\0\0"), ">": (b"\x11\x11", b"\0\0")}
IMOD = 1146047817


def mrc(
    values: NDArray, mode: int, order: str, stamp: bytes, imod: tuple[int, int] = (0, 0)
) -> bytes:
    """One image with pixels of 2 x 4 Å. `imod`: its stamp, and flags of which bit 0 is signed."""
    height, width = values.shape
    head = bytearray(1024)
    struct.pack_into(f"{order}4i", head, 0, width, height, 1, mode)
    struct.pack_into(f"{order}3i", head, 28, width, height, 1)
    struct.pack_into(f"{order}6f3i", head, 40, 2 * width, 4 * height, 1, 90, 90, 90, 1, 2, 3)
    struct.pack_into(f"{order}2I", head, 152, *imod)
    head[208:214] = b"MAP " + stamp
    return bytes(head) + values.astype(values.dtype.newbyteorder(order)).tobytes()


@given(
    mode=st.sampled_from(sorted(TYPES)),
    order=st.sampled_from("<>"),
    imod=st.sampled_from([(0, 0), (IMOD, 0), (IMOD, 1), (IMOD, 6)]),
    data=st.data(),
)
@settings(max_examples=80)
def test_every_mode_and_order(
    tmp_path_factory: pytest.TempPathFactory,
    mode: int,
    order: str,
    imod: tuple[int, int],
    data: st.DataObject,
) -> None:
    unsigned = imod[0] == IMOD and not imod[1] & 1
    dtype = np.dtype("u1" if mode == 0 and unsigned else TYPES[mode])
    values = data.draw(
        hnp.arrays(
            dtype,
            st.tuples(st.integers(2, 5), st.sampled_from([2, 3, 300])),
            elements={"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None,
        )
    )
    stamp = data.draw(st.sampled_from(STAMPS[order]))
    path = tmp_path_factory.mktemp("mrc") / "a.mrc"
    path.write_bytes(mrc(values, mode, order, stamp, imod))
    image = read_image(path, keep_bar=True)
    assert image.dtype == {"f2": "f4"}.get(TYPES[mode] if mode else "", dtype)
    assert image.pixel_size == PixelSize(0.2, 0.4, "nm")
    low, high = (image.low, image.high) if image.high > image.low else (0, 1)
    np.testing.assert_allclose(
        image.pixels, (values.astype(np.float64) - low) / (high - low), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("mode", [3, 4, 5, 16, 101])
@pytest.mark.parametrize("order", "<>")
def test_modes_that_are_not_read_are_named(tmp_path: Path, mode: int, order: str) -> None:
    (tmp_path / "a.mrc").write_bytes(
        mrc(np.zeros((6, 64), "f4"), mode, order, STAMPS[order][0]) + bytes(2048)
    )
    with pytest.raises(ImageError, match="complex64" if mode == 4 else f"MRC mode {mode}") as error:
        read_image(tmp_path / "a.mrc")
    assert "damaged" not in str(error.value)


def test_statistics_of_the_file_that_was_read_are_not_those_of_the_result(tmp_path: Path) -> None:
    """By the standard each is not known where the greatest value is below the least, the mean below
    both, and the RMS below 0.
    """
    content = bytearray(mrc_of(volume(planes=2)))
    struct.pack_into("<3f", content, 76, 10.0, 20000.0, 6000.0)
    struct.pack_into("<f", content, 216, 1234.5)
    (tmp_path / "a.mrc").write_bytes(content)
    restored(Identity(), tmp_path / "a.mrc", tmp_path / "b.mrc")

    head = (tmp_path / "b.mrc").read_bytes()[:1024]
    least, greatest, mean = struct.unpack_from("<3f", head, 76)
    (rms,) = struct.unpack_from("<f", head, 216)
    assert greatest < least
    assert mean < min(least, greatest)
    assert rms < 0
