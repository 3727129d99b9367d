"""The logs of a training: metrics.csv and TensorBoard events in its run folder."""

import csv
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aeanet.distributed import rank
from aeanet.io.atomic import write_atomically
from aeanet.training.disk import OnTrouble, tolerating

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
LOG_EVERY = 10  # steps
SCORES = ("delta_psnr", "delta_ssim", "psnr", "ssim")
COLUMNS = ("loss", "rate", "seconds", "step", *(f"validation/{name}" for name in SCORES))

Log = Callable[[int, Mapping[str, float]], None]


@contextmanager
def open_logs(folder: Path | None, step: int, on_trouble: OnTrouble) -> Iterator[Log]:
    """Within it, a function writes values by name, as of a step, to both logs at once.

    Args:
        folder: the run folder; None: nothing is logged, nor by other processes than rank 0.
        step: of the checkpoint to go on from; what was logged after it is dropped. 0 begins the
            logs anew.
        on_trouble: see `disk.tolerating`.
    """
    if folder is None or rank():
        yield lambda step, values: None
        return
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    table = folder / METRICS_FILE
    kept = _rows_until(table, step) if step and table.is_file() else []
    write_atomically(
        table, b"".join(_line(row) for row in [dict(zip(COLUMNS, COLUMNS, strict=True)), *kept])
    )
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
    return (",".join(str(row.get(name, "")) for name in COLUMNS) + "\r\n").encode()


def _rows_until(table: Path, step: int) -> list[dict[str, str]]:
    """The rows up to `step`; a last line that a crash cut short has no end."""
    text = table.read_bytes().decode(errors="replace")
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(), restval="")
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= step]
