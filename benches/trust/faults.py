"""Images that the shipped model was not trained for, made from simulated ones: from them the
warning is learned.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Fault = Callable[[Image, np.random.Generator], NDArray]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A strength whose logarithm is uniform."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _white(image: Image, rng: np.random.Generator) -> Image:
    return rng.standard_normal(image.shape, np.float32)


def strong_noise(image: Image, rng: np.random.Generator) -> NDArray:
    """White noise of 0.25 to 0.6 of the range, clipped."""
    return image + np.float32(_between(rng, 0.25, 0.6)) * _white(image, rng)


def noise_alone(image: Image, rng: np.random.Generator) -> NDArray:
    """Noise without a specimen: Gaussian or Poisson, white, blurred or correlated along the
    line.
    """
    noise: NDArray = _white(image, rng)
    kind = rng.integers(4)
    if kind == 1:
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.5))
    elif kind == 2:
        noise = cv2.filter2D(noise, -1, np.array([[1, rng.uniform(2, 6), 1]], np.float32))
    elif kind == 3:
        noise = rng.poisson(_between(rng, 0.5, 30), image.shape).astype(np.float32)
    noise = (noise - noise.mean()) / max(float(noise.std()), 1e-6)
    return rng.uniform(0.2, 0.7) + _between(rng, 0.01, 0.3) * noise


def flat(image: Image, rng: np.random.Generator) -> NDArray:
    """One grey level, or a ramp of them."""
    ramp = np.linspace(0, rng.choice([0.0, rng.uniform(0, 1)]), image.shape[1], dtype=np.float32)
    return np.broadcast_to(rng.uniform(0, 1) * (rng.uniform() > 0.3) + ramp, image.shape)


def defocused(image: Image, rng: np.random.Generator) -> NDArray:
    """Blurred far beyond what is drawn in training, then a little noise."""
    blurred = cv2.GaussianBlur(image, (0, 0), _between(rng, 4, 12))
    return blurred + np.float32(_between(rng, 0.002, 0.03)) * _white(image, rng)


def checkered(image: Image, rng: np.random.Generator) -> NDArray:
    """A detector whose neighbouring pixels differ in offset or gain."""
    rows, columns = np.indices(image.shape)
    pattern = ((rows + columns) % 2 * 2 - 1).astype(np.float32) * np.float32(
        _between(rng, 0.03, 0.15)
    )
    return image + pattern if rng.uniform() < 0.5 else image * (1 + 2 * pattern)


def columns(image: Image, rng: np.random.Generator) -> NDArray:
    """A detector whose columns, or every second to sixth of them, have a gain of their own."""
    width = image.shape[1]
    gain = 0.3 * _white(image[:1], rng)[0] if rng.uniform() < 0.5 else np.zeros(width, np.float32)
    gain[:: rng.integers(2, 7)] += 1
    return image * (1 + np.float32(_between(rng, 0.1, 0.3)) * gain)


def compressed(image: Image, rng: np.random.Generator) -> NDArray:
    """JPEG of low quality."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    content = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(5, 40))])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.float32) / 255


def salt_and_pepper(image: Image, rng: np.random.Generator) -> NDArray:
    """2 to 20 % of the pixels black or white."""
    share, hit = _between(rng, 0.02, 0.2), rng.random(image.shape)
    return np.where(hit < share / 2, 0, np.where(hit > 1 - share / 2, 1, image))


def lines_lost(image: Image, rng: np.random.Generator) -> NDArray:
    """Some lines black, white or those of another place."""
    lost = rng.random((image.shape[0], 1)) < _between(rng, 0.03, 0.2)
    other = [np.zeros_like(image), np.ones_like(image), np.roll(image, 37, 0)][rng.integers(3)]
    return np.where(lost, other, image)


def pixelated(image: Image, rng: np.random.Generator) -> NDArray:
    """Enlarged by repeating pixels."""
    step = int(rng.integers(2, 6))
    small = image[::step, ::step]
    return np.repeat(np.repeat(small, step, 0), step, 1)[: image.shape[0], : image.shape[1]]


def enlarged(image: Image, rng: np.random.Generator) -> NDArray:
    """Enlarged smoothly: empty magnification."""
    factor = rng.uniform(2.5, 6)
    small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(
        small, image.shape[::-1], interpolation=[cv2.INTER_LINEAR, cv2.INTER_CUBIC][rng.integers(2)]
    )


def posterised(image: Image, rng: np.random.Generator) -> NDArray:
    """Few grey levels."""
    levels = int(rng.integers(2, 13))
    stretched = (image - image.min()) / max(float(np.ptp(image)), 1e-6)
    return np.floor(stretched * levels) / levels


def text(image: Image, rng: np.random.Generator) -> NDArray:
    """A page of letters, dark on bright or bright on dark, clean or noisy."""
    page = np.full(image.shape, rng.integers(200, 256), np.uint8)
    height = int(rng.integers(14, 40))
    for line in range(height, image.shape[0], int(height * rng.uniform(1.2, 2))):
        letters = "".join(chr(code) for code in rng.integers(33, 126, 60))
        font, thickness = int(rng.integers(0, 7)), 1 + int(height > 26)
        ink = int(rng.integers(0, 60))
        cv2.putText(page, letters, (4, line), font, height / 36, ink, thickness, cv2.LINE_AA)

    clean = page.astype(np.float32) / 255
    clean = 1 - clean if rng.uniform() < 0.3 else clean
    noise = rng.choice([0.0, _between(rng, 0.005, 0.05)])
    blurred = cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.3, 1.0))
    return blurred + np.float32(noise) * _white(image, rng)


def drawing(image: Image, rng: np.random.Generator) -> NDArray:
    """A diagram: flat areas of few grey levels and thin lines."""
    page = np.full(image.shape, rng.integers(0, 256), np.uint8)
    for _ in range(int(rng.integers(4, 25))):
        (x, y), (u, v) = (rng.integers(0, image.shape[::-1]).tolist() for _ in range(2))
        colour, thickness = int(rng.integers(0, 256)), int(rng.choice([-1, 1, 2]))
        if rng.uniform() < 0.5:
            cv2.rectangle(page, (x, y), (u, v), colour, thickness)
        else:
            cv2.circle(page, (x, y), int(rng.integers(4, 60)), colour, thickness)
    return page.astype(np.float32) / 255


def pale(image: Image, rng: np.random.Generator) -> NDArray:
    """Next to no contrast: a few grey levels of 8 bits."""
    return rng.uniform(0.1, 0.9) + (image - image.mean()) * np.float32(_between(rng, 0.02, 0.08))


def fluorescent(image: Image, rng: np.random.Generator) -> NDArray:
    """Few bright spots on black, with shot noise of single photons."""
    spots = np.zeros(image.shape, np.float32)
    for _ in range(int(rng.integers(10, 120))):
        spots[tuple(rng.integers(0, image.shape))] += rng.uniform(50, 400)
    photons = _between(rng, 2, 20)
    seen = photons * cv2.GaussianBlur(spots, (0, 0), rng.uniform(1.2, 5)) + rng.uniform(0.2, 2)
    return rng.poisson(seen) / photons * 0.05


def interlaced(image: Image, rng: np.random.Generator) -> NDArray:
    """Every second line displaced along the line."""
    result = image.copy()
    result[1::2] = np.roll(image, int(rng.integers(3, 12)), 1)[1::2]
    return result


def smeared(image: Image, rng: np.random.Generator) -> NDArray:
    """Smeared by motion along a diagonal, over 7 to 20 px, then a little noise."""
    kernel = np.eye(int(rng.integers(7, 21)), dtype=np.float32)
    kernel = kernel[:, ::-1] if rng.uniform() < 0.5 else kernel
    noise = np.float32(_between(rng, 0.002, 0.02)) * _white(image, rng)
    return cv2.filter2D(image, -1, np.ascontiguousarray(kernel) / len(kernel)) + noise


def sharpened(image: Image, rng: np.random.Generator) -> NDArray:
    """An unsharp mask of two to six times the detail."""
    detail = image - cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 2))
    return image + np.float32(rng.uniform(2, 6)) * detail


FAULTS: dict[str, Fault] = {
    "noise beyond the range": strong_noise,
    "noise alone": noise_alone,
    "a constant or a ramp": flat,
    "strong defocus": defocused,
    "checkered detector": checkered,
    "columns of a detector": columns,
    "JPEG of low quality": compressed,
    "salt and pepper": salt_and_pepper,
    "lost lines": lines_lost,
    "repeated pixels": pixelated,
    "empty magnification": enlarged,
    "few grey levels": posterised,
    "text": text,
    "drawing": drawing,
    "next to no contrast": pale,
    "fluorescence": fluorescent,
    "interlaced lines": interlaced,
    "smeared by motion": smeared,
    "sharpened": sharpened,
}


def faulty(image: Image, kind: str, rng: np.random.Generator) -> Image:
    """An image of a kind in `FAULTS`, made from (H, W) in [0, 1]: of the same shape, 8 bits, in [0,
    1].
    """
    return eight_bits(FAULTS[kind](image, rng))


def eight_bits(image: NDArray) -> Image:
    """Clipped to [0, 1] and rounded to 256 grey levels."""
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def photographs(names: tuple[str, ...]) -> dict[str, Image]:
    """Photographs that come with scikit-image as grey images of at most 640 px a side, in [0, 1].

    One that this version of scikit-image lacks is left out.
    """
    import skimage.data
    from skimage import color, util

    # of the size, the colour and the depth of a micrograph
    found = {}
    for name in names:
        try:
            picture = util.img_as_float32(getattr(skimage.data, name)())
        except (AttributeError, ImportError, OSError, ValueError):  # it would have to be downloaded
            continue
        grey = color.rgb2gray(picture[..., :3]) if picture.ndim == 3 else picture
        factor = min(1.0, 640 / max(grey.shape))
        size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
        found[name] = eight_bits(
            cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        )
    return found


LEARNED_PHOTOGRAPHS = (
    "chelsea",
    "coffee",
    "coins",
    "rocket",
    "brick",
    "grass",
    "immunohistochemistry",
    "clock",
    "cell",
)
"""Photographs, cut and scaled, from which the warning is learned; others are kept for its test."""


def photograph_crop(photograph: Image, shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """A random part of a photograph, scaled by 0.5 to 1.5 and mirrored at random; 8 bits."""
    # a part that has the wanted shape after the scaling, or as much as there is
    scale = _between(rng, 0.5, 1.5)
    size = [
        min(max(round(length / scale), 16), limit)
        for length, limit in zip(shape, photograph.shape, strict=True)
    ]
    top, left = (
        int(rng.integers(limit - length + 1))
        for length, limit in zip(size, photograph.shape, strict=True)
    )

    # averaged where it becomes smaller, interpolated where it becomes larger
    part = photograph[top : top + size[0], left : left + size[1]]
    flipped = part[:, ::-1] if rng.uniform() < 0.5 else part
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return eight_bits(cv2.resize(np.ascontiguousarray(flipped), shape[::-1], interpolation=way))
