"""Figures: results beside HR, heat maps of the references, quality against tile size."""

from aeanet.figures.comparison import CropRow, crop_row, draw_comparison, draw_crops
from aeanet.figures.heatmaps import draw_heatmaps
from aeanet.figures.style import Drawing, render
from aeanet.figures.tiles import Curve, draw_curves

__all__ = [
    "CropRow",
    "Curve",
    "Drawing",
    "crop_row",
    "draw_comparison",
    "draw_crops",
    "draw_curves",
    "draw_heatmaps",
    "render",
]
