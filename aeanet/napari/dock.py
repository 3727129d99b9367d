"""What both docks share: a button that starts work in a thread, its progress, a button that ends
it, and what is said of it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Container, FileEdit, Label, ProgressBar, PushButton, Widget
from magicgui.widgets import create_widget as create
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils import progress
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QSizePolicy
from superqt.utils import ensure_main_thread

from aeanet.errors import sentence_or_raise


def _load_triton() -> None:
    """Import Triton, which PyTorch does anyway when it trains, so that it uses its own LLVM.

    Mesa's OpenGL, with which napari draws, may have loaded another LLVM for all libraries. Triton
    would use parts of that one, and the process would end by a segmentation fault.
    """
    if find_spec("triton") is None or not hasattr(os, "RTLD_DEEPBIND"):
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        import triton  # noqa: F401
    finally:
        sys.setdlopenflags(flags)


_load_triton()


class Cancelled(BaseException):
    """The user wants no more of the work in hand.

    It is no `Exception`, which a reader of files would take for a damaged file.
    """


class Advance:
    """What work in a thread tells how far it is, and by which it learns that it was cancelled.

    Args:
        show: shows the share that is done, 0 to 1, and what is being done.
        cancelled: whether the user wants no more.
    """

    def __init__(self, show: Callable[[float, str], None], cancelled: Callable[[], bool]) -> None:
        self.show, self.cancelled = show, cancelled

    def check(self) -> None:
        """Raise Cancelled if the user wants no more."""
        if self.cancelled():
            raise Cancelled

    def __call__(self, share: float, doing: str) -> None:
        self.check()
        self.show(share, doing)


class Dock(Container):
    """Fields, and the work that a button starts.

    Args:
        fields: what the user sets.
        start: the text of the button.

    Attributes:
        fields: by their names.
        said: what the user is told.
        worker: the latest; None before the first.
    """

    def __init__(self, fields: Sequence[Widget], start: str) -> None:
        super().__init__(labels=False)
        self.fields = Container(widgets=fields)
        # magicgui measures the widths of labels with letters that are narrower than napari's
        self.fields.native.setStyleSheet("QLabel { min-width: 8em; }")
        self.fields.margins = (0, 0, 0, 0)
        self.start = PushButton(text=start)
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.bar = ProgressBar(min=0, max=100, value=0, visible=False)
        self.said = Label()

        # what is said wraps in a dock of any width; the stretch keeps all of it at the top
        buttons = Container(widgets=[self.start, self.cancel], layout="horizontal", labels=False)
        self.extend([self.fields, buttons, self.bar, self.said])
        self.said.native.setWordWrap(True)
        self.said.native.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Preferred)
        self.native.layout().addStretch()
        self.worker: Any = None
        self.start.changed.connect(self.begin)
        self.cancel.changed.connect(self.stop)

    def begin(self) -> None:
        """Start the work with what the fields hold. Each dock has its own."""
        raise NotImplementedError

    def run(self, work: Callable[[Advance], Any], then: Callable[[Any], None]) -> None:
        """Do work in a thread, and give its result to `then` in the main one.

        An error that the user can mend becomes a notification of one sentence. Work that raised
        Cancelled has no result.
        """
        advance = Advance(self._show, lambda: self.worker.abort_requested)
        results: list[Any] = []
        sentences: list[str] = []

        def carry_out() -> None:
            try:
                results.append(work(advance))
            except Cancelled:
                return
            except Exception as error:
                sentences.append(sentence_or_raise(error))

        def finish() -> None:
            self._busy(False)
            self.say("Cancelled." if self.worker.abort_requested else "")
            for sentence in sentences:
                self.say(sentence)
                show_error(sentence)
            for result in results:
                then(result)

        self._busy(True)
        self.say("")
        self.worker = create_worker(carry_out, _start_thread=False)
        self.worker.finished.connect(finish)
        self.worker.start()

    def say(self, text: str) -> None:
        """Tell the user something, in as many lines as it takes."""
        self.said.value = text
        label = self.said.native
        label.setMinimumHeight(max(label.heightForWidth(label.width()), 0))

    def stop(self) -> None:
        """Ask the work in hand to end."""
        self.cancel.enabled = False
        self.say("Cancelling.")
        self.worker.quit()

    def _busy(self, busy: bool) -> None:
        self.start.enabled, self.cancel.enabled, self.bar.visible = not busy, busy, busy
        self.bar.value = 0
        if busy:
            self.pbar = progress(total=100, desc=self.start.text)
        else:
            self.pbar.close()

    @ensure_main_thread
    def _show(self, share: float, doing: str) -> None:
        percent = round(100 * share)
        self.bar.value = percent
        self.pbar.set_description(doing)
        self.pbar.update(percent - self.pbar.n)


def layer_choice(name: str, label: str) -> ComboBox:
    """A choice of one of the viewer's image layers."""
    return create(annotation=Image, name=name, label=label)


def folder_choice(name: str, label: str, tooltip: str = "") -> FileEdit:
    """A folder that may be typed or chosen."""
    field = FileEdit(name=name, label=label, mode="d", tooltip=tooltip)
    field.choose_btn.text = "Choose"
    return field


def chosen_folder(field: FileEdit) -> Path | None:
    """The folder that a field names; None if it is empty."""
    text = field.line_edit.value.strip()
    return Path(text).expanduser() if text else None
