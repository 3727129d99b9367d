"""aeanet in napari: two docks that restore layers and train on pairs, a reader of microscope files
with the size of their pixels, and a simulated image to try it on.

napari finds them by `napari.yaml`. Nothing else in aeanet imports this package.
"""
