"""A simulated image to try the docks on."""

from typing import Any

from aeanet.data.synthetic import simulate_image

_SEED, _KIND, _MAGNIFICATION = 9, "porous", 2.0


def simulated_pair() -> list[tuple[Any, dict[str, Any], str]]:
    """A noisy LR image of 512 x 384 px, and the truth at twice the magnification, hidden.

    The pixels of the truth are 1 wide. Simulated images have no unit of length.
    """
    image = simulate_image(_SEED, kind=_KIND, magnification=_MAGNIFICATION)
    step = image.magnification
    middle = (step - 1) / 2  # the centre of the first LR pixel, in pixels of the truth
    shared = {"contrast_limits": (0, 1)}
    return [
        (image.hr, shared | {"name": "simulated truth", "visible": False}, "image"),
        (
            image.lr,
            shared | {"name": "simulated LR", "scale": (step, step), "translate": (middle, middle)},
            "image",
        ),
    ]
