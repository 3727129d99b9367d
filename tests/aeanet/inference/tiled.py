"""A network on a whole image, and in tiles."""

import numpy as np
import torch
from torch import nn

from aeanet.inference.tiling import run_tiles


def whole(model: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(image)[None, None])[0, 0].numpy()


def tiled(model: nn.Module, image: np.ndarray, side: int, **options: object) -> np.ndarray:
    result = np.full(image.shape, np.nan, image.dtype)

    def write(rows: slice, columns: slice, region: np.ndarray) -> None:
        assert np.isnan(result[rows, columns]).all()  # no two tiles answer for a pixel
        result[rows, columns] = region

    run_tiles(
        model, lambda rows, columns: image[rows, columns], write, image.shape, side=side, **options
    )
    return result
