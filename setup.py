"""Packaging of aeanet: the kernel library `aea_kernels` and the microscopist's tool `aeanet`."""

from pathlib import Path

from setuptools import find_packages, setup

# Not imported by name: imagecodecs (decoders of tifffile), rosettasciio (by format), sparse (for
# spectra in it), tensorboard (writer of logs).
EM = [
    "filelock>=3.12",
    "imagecodecs>=2024.1.1",
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "opencv-python-headless>=5",
    "pillow>=10",
    "psutil>=5.9",
    "rich>=13",
    "rosettasciio[hdf5]>=0.9",
    "scikit-image>=0.22",
    "scipy>=1.11",
    "sparse>=0.15",
    "tensorboard>=2.16",
    "tifffile>=2023.7.10",
    "typer>=0.19",
    "zarr>=3.1",
]
TEST = [
    "hypothesis>=6.100",
    "mypy>=1.10",
    "psutil>=5.9",
    "pytest>=8",
    "pytest-benchmark>=5",
    "pytest-xdist>=3.5",
    "ruff>=0.5",
    "setuptools>=77",
]
# Networks that the tests did not write: einops is what MONAI's attention needs. mmcv-lite, whose
# non-local blocks are tested where it is installed, is left out: it wants opencv-python, which
# clashes with opencv-python-headless.
FOREIGN = ["diffusers>=0.33", "e2cnn>=0.2.3", "einops>=0.8", "monai>=1.4"]
# Stacks as dask's arrays, and from them.
DASK = ["dask>=2024.8"]
# A Qt binding is left to napari, as it asks of its plugins.
NAPARI = ["magicgui>=0.10", "napari>=0.9", "qtpy>=2.4", "superqt>=0.6.7"]
EXPORT = ["onnx>=1.18", "onnxruntime>=1.20", "onnxscript>=0.5"]
# For benches.denoising. It is not for commercial use, so nothing else imports it.
COMPARE = ["bm3d>=4.0.3"]
# For the tests that open pages in Chromium, which is installed apart.
BROWSER = ["axe-playwright-python>=0.1.4", "playwright>=1.49"]
BENCH = ["matplotlib>=3.8", "psutil>=5.9", "pytest>=8", "pytest-benchmark>=5", "pytest-xdist>=3.5"]

setup(
    name="aeanet",
    version="0.1.0",
    description=(
        "Linear-normalised attention for images, and electron-microscopy super-resolution on it"
    ),
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    # tested: everything with Python 3.11, torch 2.13.0 and Triton 3.7.1 (constraints.txt), and with
    # Python 3.13, torch 2.14.0 and Triton 3.8.0; with these and Python 3.12 the kernels as compiled
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["aea_kernels*", "aeanet*"]),
    py_modules=["pytest_equivariance"],
    package_data={
        "aea_kernels": ["py.typed", "backends/triton/tiles.json"],
        "aeanet": [
            "py.typed",
            "**/*.pyi",
            "napari/napari.yaml",
            "page/page.*",
            "reproduce/*.j2",
            "models/*",
        ],
    },
    install_requires=[
        "lazy-loader>=0.4",
        "numpy>=1.26",
        "safetensors>=0.4",
        "torch>=2.11",
        "triton>=3.6; platform_system == 'Linux'",
    ],
    extras_require={
        "em": EM,
        "test": TEST,
        "foreign": FOREIGN,
        "bench": BENCH,
        "compare": COMPARE,
        "export": EXPORT,
        "dask": DASK,
        "browser": BROWSER,
        "napari": NAPARI,
    },
    entry_points={
        "console_scripts": ["aeanet = aeanet.__main__:main"],
        "napari.manifest": ["aeanet = aeanet.napari:napari.yaml"],
        "pytest11": ["pytest_equivariance = pytest_equivariance"],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
)
