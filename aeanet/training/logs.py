"""The logs of a training: metrics.csv and TensorBoard events in its run folder. A disk that is full
for now does not end a training of days.
"""

import csv
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aeanet.distributed import rank
from aeanet.io.atomic import write_atomically

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
LOG_EVERY = 10  # steps
COLUMNS = (
    "loss",
    "rate",
    "seconds",
    "step",
    "validation/delta_psnr",
    "validation/delta_ssim",
    "validation/psnr",
    "validation/ssim",
)

Log = Callable[[int, Mapping[str, float]], None]
OnTrouble = Callable[[OSError], None] | None


@contextmanager
def tolerating(on_trouble: OnTrouble) -> Iterator[None]:
    """Within it, a file that cannot be written is reported to `on_trouble`.

    Raises:
        OSError: a file cannot be written, and `on_trouble` is None.
    """
    try:
        yield
    except OSError as error:
        if on_trouble is None:
            raise
        on_trouble(error)


@contextmanager
def open_logs(folder: Path | None, step: int, on_trouble: OnTrouble) -> Iterator[Log]:
    """Within it, a function writes values by name, as of a step, to both logs at once.

    Args:
        folder: the run folder; None: nothing is logged, nor by other processes than rank 0.
        step: of the checkpoint to go on from; what was logged after it is dropped. 0 begins the
            logs anew.
        on_trouble: see `tolerating`.
    """
    if folder is None or rank():
        yield lambda step, values: None
        return
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    table = folder / METRICS_FILE
    header = {name: name for name in COLUMNS}
    kept = _rows_until(table, step) if step and table.is_file() else []
    write_atomically(table, b"".join(_line(row) for row in [header, *kept]))
    if not step:
        shutil.rmtree(folder / TENSORBOARD_FOLDER, ignore_errors=True)
    board = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=step + 1)

    def log(step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with tolerating(on_trouble):
            with table.open("ab") as file:
                file.write(_line(finite | {"step": step}))
            for name, value in finite.items():
                board.add_scalar(name, value, step)
            board.flush()

    try:
        yield log
    finally:
        with tolerating(on_trouble):
            board.close()


def _line(row: Mapping[str, object]) -> bytes:
    cells = ",".join(str(row.get(name, "")) for name in COLUMNS)
    return f"{cells}\r\n".encode()


def _rows_until(table: Path, step: int) -> list[dict[str, str]]:
    """The rows up to `step`; a last line that a crash cut short has no end."""
    text = table.read_bytes().decode(errors="replace")
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(), restval="")
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= step]
