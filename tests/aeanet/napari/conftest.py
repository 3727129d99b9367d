"""A real viewer, on the display that is there or on one of Xvfb's."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["NAPARI_CONFIG"] = ""  # the user's own settings of napari are neither read nor written
MANIFEST = Path(__file__).parents[3] / "aeanet" / "napari" / "napari.yaml"
PATIENCE = 60  # seconds


@pytest.fixture(scope="session")
def display() -> Iterator[None]:
    """A screen to draw on; without one the tests are skipped."""
    if "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ:
        yield
        return
    if shutil.which("Xvfb") is None:
        # a viewer draws by Qt and OpenGL, which no machine does without a screen
        pytest.skip("there is no display, and Xvfb is not installed")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as said:
        os.environ["DISPLAY"] = f":{said.readline().strip()}"
    yield
    del os.environ["DISPLAY"]
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def shared_viewer(display: None) -> Iterator[Any]:
    import napari
    from napari.utils.triangulation_backend import TriangulationBackend, set_backend
    from npe2 import PluginManager, PluginManifest

    set_backend(TriangulationBackend.pure_python)  # others are compiled first, for many seconds

    plugins = PluginManager.instance()
    plugins.discover()
    if "aeanet" not in plugins:  # a checkout that was installed without the plugin
        plugins.register(PluginManifest.from_file(MANIFEST))
    viewer = napari.Viewer()
    viewer.window.resize(600, 400)  # a small one is drawn sooner
    yield viewer
    viewer.close()


@pytest.fixture
def viewer(shared_viewer: Any) -> Iterator[Any]:
    """A viewer without layers and docks."""
    yield shared_viewer
    shared_viewer.layers.clear()
    shared_viewer.window.remove_dock_widget("all")


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Handles the events of the viewer until something is so."""
    from qtpy.QtWidgets import QApplication

    def wait(so: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not so():
            assert time.monotonic() < end, f"not so after {PATIENCE} s"
            QApplication.processEvents()
            time.sleep(0.005)

    return wait
