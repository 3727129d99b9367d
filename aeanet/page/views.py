"""Views of images and their restorations."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.exposure import whole
from aeanet.imaging.upsampling import middle
from aeanet.inference.restored import Restored
from aeanet.page.content import Frame, Layer, Mark, View
from aeanet.page.pictures import LARGEST, coloured, fitting, grey, limits_of, reduced
from aeanet.page.scale import scale_bar
from aeanet.trust import Noise
from aeanet.trust.places import Place, places_in, taken_over_noise
from aeanet.trust.residual import residual
from aeanet.trust.statistics import SMALLEST

MOST = 4_350_000  # bytes of the pictures of an image; in HTML they take a third more
_TOTAL = 36_000_000  # bytes of the pictures of a page with many images
_LEAST = 60_000  # bytes of those of an image, however many there are
_OVERVIEW = LARGEST // 4  # pixels of the whole of an image that is larger
_DETAIL = 1024  # px a side of the middle that is shown of larger images
_TAKEN = 4.0  # standard deviations from mid-grey to white in the picture of what was taken away
_RATIO = 3.0  # times the expected noise that is the brightest colour
_UNKNOWN = 128  # the grey of a pixel whose standard error is not known
_BRIGHTEST = 0.99  # quantile of the standard errors that is the brightest colour
_SHARES = {"before": 0.27, "restored": 0.55, "taken": 0.14, "ratio": 0.04}  # of the bytes
_OF_ERROR = 0.06  # of the bytes, which the others then do not have


def most_of_each(images: int) -> int:
    """The bytes that the pictures of each of so many images may have on one page."""
    return min(MOST, max(_TOTAL // max(images, 1), _LEAST))


def views_of(
    restored: Restored,
    image: NDArray,
    result: NDArray,
    noise: Noise,
    most: int = MOST,
) -> list[View]:
    """An image and its result: the whole, and of one that must be reduced for it also the middle at
    full resolution.

    Args:
        restored: what was read and made.
        image, result: of `Restored.judged`.
        noise: of the image.
        most: bytes of the pictures.

    Raises:
        ImageError: if an image that was read by regions cannot be read again.
    """
    # what the picture of the errors needs is taken from all others
    name = restored.image.name
    if restored.error is not None:
        most = int(most * (1 - _OF_ERROR))
    with restored.regions() as (source, target):
        height, width = target.shape
        extent = extent_of(source.shape, target.shape, restored.magnification)
        bar = scale_bar(restored.pixel_size, width)

        # whole and at full resolution: one view with all layers
        if restored.result is not None and height * width <= LARGEST:
            before, after = (part.read(*whole(part.shape)) for part in (source, target))
            layers = compared(name, before, after, limits_of(after), most, extent)
            found, marks = explained(name, image, result, noise, most)
            found += error_layers(name, restored.error, after, most)
            note = smaller(layers[1], target.shape)
            return [View(name, [Frame([*layers, *found], marks=marks)], width, height, note, bar)]

        # Reduced: what was taken away is told by the middle alone, since means hide it.
        before, after = (reduced(part.read, part.shape, _OVERVIEW) for part in (source, target))
        layers = compared(name, before, after, limits_of(after), most // 2, extent)
        note = f"{smaller(layers[1], target.shape)} The middle follows at full resolution."
        overview = View(name, [Frame(layers)], width, height, note, bar)
    return [overview, _middle_view(restored, image, result, noise, most // 2)]


def _middle_view(
    restored: Restored, image: NDArray, result: NDArray, noise: Noise, most: int
) -> View:
    """The middle of an image at full resolution, which alone tells what was taken away."""
    small, large = middle(image.shape, result.shape, _DETAIL)
    image, result = image[small], result[large]
    height, width = result.shape
    title = f"{restored.image.name}, its middle"
    layers = compared(title, image, result, limits_of(result), most)
    found, marks = explained(title, image, result, noise, most)
    if restored.error is not None and restored.result is not None:
        found += error_layers(title, restored.error[large], restored.result[large], most)
    note = smaller(layers[1], result.shape) or "The middle at full resolution."
    bar = scale_bar(restored.pixel_size, width)
    return View(title, [Frame([*layers, *found], marks=marks)], width, height, note, bar)


def extent_of(
    shape: Sequence[int], enlarged: Sequence[int], magnification: float
) -> tuple[float, float]:
    """Width and height of an image in shares of its result's, whose sides are whole pixels."""
    (height, width), (tall, wide) = shape, enlarged
    return width * magnification / wide, height * magnification / tall


def compared(
    name: str,
    before: NDArray,
    after: NDArray,
    limits: tuple[float, float],
    most: int = MOST,
    extent: tuple[float, float] = (1.0, 1.0),
) -> list[Layer]:
    """An image and its result, with one grey scale.

    Args:
        name: of the image.
        before, after: (H, W) each, on any grids, of the same field.
        limits: black and white.
        most: bytes of all pictures of the field.
        extent: of `before` in shares of `after`.
    """
    return [
        Layer(
            "before",
            fitting(grey(before, limits), int(_SHARES["before"] * most)),
            f"{name} as it was recorded",
            "The image as it was recorded.",
            extent,
        ),
        Layer(
            "restored",
            fitting(grey(after, limits), int(_SHARES["restored"] * most)),
            f"{name} restored",
            "The result, in the grey scale of the image before.",
        ),
    ]


def explained(
    name: str, image: NDArray, result: NDArray, noise: Noise, most: int
) -> tuple[list[Layer], list[Mark]]:
    """What was taken away from an image, how it compares with the noise, and where it is far more.
    Nothing of an image that is too small for that.

    Args:
        name: of the image.
        image: (H, W) in [0, 1].
        result: the same field in the same units, on the same or a finer grid.
        noise: of the image.
        most: bytes of all pictures of the field.
    """
    if min(image.shape) < SMALLEST or not noise.sd >= 0:
        return [], []

    # the scale follows what was taken away, so that its form is seen however weak it is
    found = residual(image, result, noise)
    taken = found.image
    half = max(_TAKEN * float(taken.std()), 1e-4)
    low, high = limits_of(image)

    # what is shown in colours is also what places are marked by
    ratio = taken_over_noise(image, found, noise)
    places = places_in(found, ratio)

    # sentences that say what the greys and colours mean, and what is to be seen in them
    layers = [
        Layer(
            "taken away",
            fitting(grey(taken, (-half, half)), int(_SHARES["taken"] * most)),
            f"What was taken away from {name}",
            f"The image minus the result. Mid-grey is 0, white is {half / (high - low):.1%} of the "
            "range used. It should look like noise, without the specimen in it.",
        ),
        Layer(
            "against noise",
            fitting(coloured(ratio, (0.0, _RATIO)), int(_SHARES["ratio"] * most)),
            f"What was taken away from {name}, in multiples of its noise",
            f"What was taken away in multiples of the noise expected there: black is 0, the "
            f"brightest is {_RATIO:g} or more. About 1 is noise alone; more may be structure.",
        ),
    ]
    return layers, [_mark(place, image.shape) for place in places]


def error_layers(name: str, error: NDArray | None, result: NDArray, most: int) -> list[Layer]:
    """The standard error of each pixel, if it is known.

    Args:
        name: of the image.
        error: (H, W) in the units of the result, NaN where it is not known.
        result: (H, W).
        most: bytes of all pictures of the field.
    """
    if error is None or np.isnan(error).all():
        return []

    # few errors are far larger than others, which would all be black beside them
    low, high = limits_of(result)
    brightest = max(float(np.nanquantile(error, _BRIGHTEST)), 1e-6)
    picture = coloured(np.nan_to_num(error), (0.0, brightest))

    # grey is no colour of the scale, so it can say that nothing is known
    picture[np.isnan(error)] = _UNKNOWN
    return [
        Layer(
            "standard error",
            fitting(picture, int(_OF_ERROR * most)),
            f"The standard error of {name} restored",
            f"The standard error of each pixel: 68 % of the true values lie within it. Black is 0, "
            f"the brightest is {brightest / (high - low):.1%} of the range used or more; mid-grey "
            "is not known, where the image is warned of.",
        )
    ]


def _mark(place: Place, shape: Sequence[int]) -> Mark:
    height, width = shape
    left, top = place.left / width, place.top / height
    return Mark(place.sentence, left, top, place.width / width, place.height / height)


def smaller(layer: Layer, shape: Sequence[int]) -> str:
    """A sentence if a picture is smaller than what it shows."""
    picture, (height, width) = layer.picture, shape
    if (picture.width, picture.height) == (width, height):
        return ""
    return (
        f"The picture is reduced from {width} x {height} to {picture.width} x {picture.height} px."
    )
