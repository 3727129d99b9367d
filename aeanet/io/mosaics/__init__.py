"""Images larger than memory, read and written region by region."""

from aeanet.io.mosaics.reading import Mosaic, open_mosaic, shape_by_regions
from aeanet.io.mosaics.writing import create_mosaic

__all__ = ["Mosaic", "create_mosaic", "open_mosaic", "shape_by_regions"]
