"""Several gloo processes train as one with the joint batch, and share the tiles of one image."""

import copy
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.distributed as dist
import zarr
from processes import run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from toys import lively_network, tiles_alone, uneven_noise

from aeanet.imaging.flips import Flips
from aeanet.inference import memory
from aeanet.inference.files import super_resolve_mosaic
from aeanet.inference.prediction import restore
from aeanet.inference.reach import TilingError
from aeanet.io.images import write_image
from aeanet.io.mosaics import open_mosaic
from aeanet.networks.layers import pool_over_processes
from aeanet.networks.registry import build_model, save_model
from aeanet.networks.unet import UShape


def network(name: str) -> UShape:
    torch.manual_seed(0)
    model = build_model(name).double().train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lr, hr = (
        torch.rand(count, 1, 16, 24, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    return lr, hr


def share_of(rank: int, ranks: int) -> list[int]:
    """Each takes its part of the reference half of the joint batch, and its part of the batch-aware
    half.
    """
    half = 2 * ranks
    return [2 * rank, 2 * rank + 1, half + 2 * rank, half + 2 * rank + 1]


def leave() -> None:
    """End the group of all processes and, with it, its threads, which could abort the end of Python
    itself.
    """
    dist.destroy_process_group()
    assert "gloo" not in " ".join(
        name.read_text() for name in Path("/proc/self/task").glob("*/comm")
    )


def rank_main(rank: int, ranks: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks
    )
    model = network(name)
    pool_over_processes(model, dist.group.WORLD)
    lr, hr = (t[share_of(rank, ranks)] for t in images(4 * ranks))
    parallel = DistributedDataParallel(model)
    output = parallel(lr)
    loss = nn.functional.l1_loss(output, hr)
    loss.backward()
    result = {
        "loss": loss.detach(),
        "output": output.detach(),
        "buffers": dict(model.named_buffers()),
    }
    torch.save(
        result | {"gradients": [p.grad for p in model.parameters()]}, Path(folder) / f"{rank}.pt"
    )
    dist.barrier()
    # where it is the last to hold the group, its end waits for a thread that waits for Python
    del parallel
    dist.destroy_process_group()


@pytest.mark.parametrize(("name", "ranks"), [("aeanet", 2), ("aeanet", 4), ("unet", 2)])
def test_ranks_train_as_one(name: str, ranks: int, tmp_path: Path) -> None:
    run_ranks(rank_main, (ranks, name, str(tmp_path)), ranks)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    model = network(name)
    lr, hr = images(4 * ranks)
    output = model(lr)
    loss = nn.functional.l1_loss(output, hr)
    loss.backward()
    torch.testing.assert_close(torch.stack([r["loss"] for r in results]).mean(), loss.detach())
    for rank, result in enumerate(results):
        torch.testing.assert_close(result["output"], output[share_of(rank, ranks)])
        for got, parameter in zip(result["gradients"], model.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad, rtol=1e-6, atol=1e-10)
        for key, buffer in model.named_buffers():
            torch.testing.assert_close(result["buffers"][key], buffer)


def test_a_single_process_is_untouched() -> None:
    model, plain = network("aeanet"), copy.deepcopy(network("aeanet"))
    pool_over_processes(model, None)
    lr, _ = images(4)
    assert torch.equal(model(lr), plain(lr))


def predict_main(rank: int, ranks: int, flips: Flips, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks
    )
    model, image = lively_network(), tifffile.imread(folder / "image.tif")
    result = restore(model, image, tile=44, flips=flips, group=dist.group.WORLD)
    np.save(folder / f"{rank}.npy", result)
    for name in ("out.tif", "out.zarr"):
        source, target = folder / "image.tif", folder / name
        super_resolve_mosaic(
            model, source, target, tile=44, magnification=1.0, flips=flips, group=dist.group.WORLD
        )
    leave()


@pytest.mark.parametrize(("ranks", "flips"), [(2, 4), (4, 1)])
def test_ranks_predict_as_one(ranks: int, flips: Flips, tmp_path: Path) -> None:
    image = uneven_noise(101, 130)
    tifffile.imwrite(tmp_path / "image.tif", image)
    run_ranks(predict_main, (ranks, flips, tmp_path), ranks)
    whole = restore(lively_network(), image, flips=flips)
    assert np.abs(tiles_alone(lively_network(), image, 44) - whole).max() > 1e-3
    for rank in range(ranks):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), whole, atol=1e-5)
    for name in ("out.tif", "out.zarr"):
        with open_mosaic(tmp_path / name) as result:
            np.testing.assert_allclose(result.raw(slice(0, 101), slice(0, 130)), whole, atol=1e-5)


def auto_main(rank: int, folder: Path) -> None:
    """Each with another amount of free memory: they must agree on a tile all the same."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    model = lively_network()
    memory.free_bytes = lambda device: (10**8, 10**9)[rank]
    side = memory.largest_tile(model, (300, 360), group=dist.group.WORLD)
    assert side is not None
    with pytest.raises(TilingError, match="different tiles"):
        restore(model, uneven_noise(101, 130), tile=60 + 4 * rank, group=dist.group.WORLD)
    (folder / f"{rank}.txt").write_text(str(side))
    leave()


def test_ranks_agree_on_the_tile(tmp_path: Path) -> None:
    run_ranks(auto_main, (tmp_path,), 2)
    sides = [int((tmp_path / f"{rank}.txt").read_text()) for rank in range(2)]
    assert sides[0] == sides[1]
    assert (300 // sides[0] + 1) * (
        360 // sides[0] + 1
    ) >= 2 * memory.TILES_EACH  # and both have work


# Threads of a group would try to take Python's lock while Python ends, which can abort the process.
LOOKS = """
import atexit, sys
from pathlib import Path

def look():
    threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    left = [name for name in threads if "gloo" in name]
    if left:
        print("threads of the group at Python's end:", *left, file=sys.stderr)

atexit.register(look)  # first of all, so it is called last
"""
DIES = "import os, aea_kernels as aea; aea.AugmentedAttention.moments = lambda *_: os._exit(9)\n"
RUNS = "from aeanet.cli import main; main()"
BUILDS = """
from aeanet.distributed import all_processes

with all_processes():
    from aeanet.networks.registry import build_model
    build_model("aeanet")
"""


def ranks_of(*codes: str, command: Sequence[object]) -> list[subprocess.Popen[str]]:
    """A process for each code, as `torchrun` starts them, with a command line of aeanet. It writes
    the threads of the group that are left at its end.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for rank, code in enumerate(codes):
        ranks = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": len(codes),
            "MASTER_ADDR": "127.0.0.1",
        }
        environment = os.environ | {name: str(value) for name, value in ranks.items()}
        environment |= {"MASTER_PORT": str(port), "COLUMNS": "300", "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", LOOKS + code, *map(str, command)]
        processes.append(
            subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
        )
    return processes


def test_a_group_ends_with_its_threads_though_a_network_was_built_within_it() -> None:
    processes = ranks_of(BUILDS, BUILDS, command=[])
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert errors == ["", ""]


def test_a_process_that_dies_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    model = network("aeanet").float()
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    write_image(tmp_path / "image.png", np.random.default_rng(0).random((64, 64)))
    command = [
        "predict",
        tmp_path / "run",
        tmp_path / "image.png",
        "--out",
        tmp_path / "out",
        "--tile",
        "40",
    ]
    processes = ranks_of(RUNS, DIES + RUNS, command=command)
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 9], errors
    assert "Another process of this run has ended" in errors[0]
    assert "Traceback" not in errors[0]
    assert "threads of the group" not in errors[0]
    assert os.listdir(tmp_path / "out") == []


def test_an_image_that_one_process_cannot_restore_does_not_end_the_others(tmp_path: Path) -> None:
    """Two processes; the second cannot write the first result, and neither can read the second
    image.
    """
    model = network("aeanet").float()
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    for name in ("a.zarr", "c.png"):
        pixels = np.random.default_rng(0).random((40, 40))
        if name == "a.zarr":
            zarr.create_array(tmp_path / name, data=pixels)
        else:
            write_image(tmp_path / name, pixels)
    (tmp_path / "b.png").write_bytes(b"no image")
    fails = (
        "import zarr\n"
        "def fail(*_): raise OSError(28, 'No space left on device')\n"
        "zarr.Array.__setitem__ = fail\n"
    )
    command = [
        "predict",
        tmp_path / "run",
        *(tmp_path / name for name in ("a.zarr", "b.png", "c.png")),
    ]
    command += ["--out", tmp_path / "out", "--tile", "40"]
    processes = ranks_of(RUNS, fails + RUNS, command=command)
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert "a.zarr cannot be written: No space left on device." in errors[0]
    assert "b.png cannot be read as an image" in errors[0]
    assert errors[0].strip().splitlines()[-1].startswith("2 of 3 images could not be restored: ")
    assert errors[1] == ""
    assert os.listdir(tmp_path / "out") == ["c.png"]
