"""Models that cannot be used, and what `aeanet info` says."""

import numpy as np
import torch
from bad_cases import (
    DEEP,
    PICKLE,
    RAMP,
    ZIP,
    Case,
    bad_model,
    filled,
    option_of,
)
from bad_files import (
    both,
    directory,
    model,
    odd_model,
    option,
    pipe,
    put,
    tiff,
)

MODELS: dict[str, Case] = {
    # models
    "a missing run": option_of("predict nowhere GOOD --out out", "there is no model at nowhere"),
    "an empty run": bad_model(directory("run"), "there is no model at run"),
    "swapped": option_of(
        "predict GOOD RUN --out out", "but a PNG image; the run comes before the images"
    ),
    "an empty model": bad_model(put("run", b""), "run is damaged or is not a safetensors file"),
    "text as model": bad_model(
        put("run", b"hello there"), "run is damaged or is not a safetensors file"
    ),
    "a pickle": bad_model(
        put("run", PICKLE), "not a model of aeanet but a Python pickle, as of PyTorch"
    ),
    "a PyTorch file": bad_model(
        put("run", ZIP), "not a model of aeanet but a zip archive or PyTorch file"
    ),
    "a pipe as model": bad_model(pipe("run"), "there is no model at run"),
    "of another program": bad_model(odd_model(format="pt"), "holds no aeanet model"),
    "of a later version": bad_model(odd_model(version="99"), "was written in version 99"),
    "settings cut short": bad_model(odd_model("{"), "do not fit its configuration"),
    "settings as a list": bad_model(odd_model("[]"), "do not fit its configuration"),
    "nested settings": bad_model(odd_model(DEEP), "do not fit its configuration"),
    "no network": bad_model(odd_model({"config": {}}), "do not fit its configuration"),
    "a network of no name": bad_model(odd_model({"config": {"name": [1]}}), "is damaged"),
    "an unknown network": bad_model(
        odd_model({"config": {"name": "vgg"}}), "there is no model 'vgg'"
    ),
    "an unknown setting": bad_model(odd_model(option(heads=2)), "has no option 'heads'"),
    "a size as text": bad_model(
        odd_model(option(size="32")), "the option size is '32', wanted a whole number"
    ),
    "a size that is True": bad_model(
        odd_model(option(size=True)), "the option size is True, wanted a whole number"
    ),
    "a negative size": bad_model(
        odd_model(option(size=-1)), "the option size is -1, wanted a whole number from 1"
    ),
    "a huge size": bad_model(odd_model(option(size=10**15)), "wanted a whole number from 1 to"),
    "another size": bad_model(
        odd_model(option(size=33)), "the tensor lr has shape (32, 9), wanted (33, 9)"
    ),
    "a magnification as text": bad_model(
        odd_model({"magnification": "2"}), "its magnification is '2', wanted"
    ),
    "a magnification as list": bad_model(
        odd_model({"magnification": [2]}), "its magnification is [2], wanted"
    ),
    "a negative magnification": bad_model(
        odd_model({"magnification": -2}), "its magnification is -2, wanted"
    ),
    "a magnification of NaN": bad_model(
        odd_model({"magnification": float("nan")}), "its magnification is nan"
    ),
    "a magnification of True": bad_model(
        odd_model({"magnification": True}), "its magnification is True, wanted"
    ),
    "no magnification": bad_model(model(magnification=None), "does not know its magnification"),
    "weights of NaN": bad_model(
        odd_model(change=filled(np.nan)), "the tensor lr holds NaN or infinite numbers"
    ),
    "infinite weights": bad_model(
        odd_model(change=filled(np.inf)), "the tensor lr holds NaN or infinite numbers"
    ),
    "too great weights": bad_model(
        odd_model(change=filled(1e300, torch.float64)), "holds NaN or infinite numbers"
    ),
    "weights of int64": bad_model(
        odd_model(change=filled(1, torch.int64)), "holds int64 numbers, wanted floating"
    ),
    "complex weights": bad_model(
        odd_model(change=filled(1j, torch.complex64)), "holds complex64 numbers, wanted"
    ),
    "a lost tensor": bad_model(
        odd_model(change=lambda tensors: tensors.pop("lr")), "the tensor lr is missing"
    ),
    "a tensor more": bad_model(
        odd_model(change=lambda t: t.update(q=t["lr"] + 0)), "the tensor q is none of its own"
    ),
    "a result of NaN": bad_model(odd_model(change=filled(3e38)), "makes NaN or infinite values"),
    "NaN is not scored": Case(
        odd_model(change=filled(np.nan)),
        "evaluate run PAIRS --out out",
        1,
        "holds NaN or infinite numbers",
    ),
    # info
    "pairs before the run": option_of(
        "evaluate PAIRS RUN", "not a run: the runs come first, the pairs last"
    ),
    "info on nothing": option_of("info nowhere", "There is no nowhere"),
    "info on a pipe": Case(pipe("a.png"), "info a.png", 1, "it is a pipe or a device"),
    "info on an empty zarr": Case(
        directory("a.zarr"), "info a.zarr --json", 1, "holds no Zarr image"
    ),
    "info on NaN": Case(
        odd_model(change=filled(np.nan)), "info run --json", 1, "holds NaN or infinite numbers"
    ),
    "info on great values": Case(tiff("a.tif", RAMP), "info a.tif --json", 0, "1.7e+308"),
    "a record of NaN": Case(
        both(model(), put("run/run.json", b'{"loss": NaN}')), "info run --json", 0, '"NaN"'
    ),
    "a damaged record": Case(
        both(model(), put("run/run.json", b"{")), "info run", 1, "run.json is damaged"
    ),
    "a nested record": Case(
        both(model(), put("run/run.json", DEEP.encode())), "info run", 1, "run.json is damaged"
    ),
    "a damaged list": Case(
        both(model(), put("run/models.json", b"{")), "info run", 1, "models.json is damaged"
    ),
    "a list of numbers": Case(
        both(model(), put("run/models.json", b'{"models": {"a": 1}, "left_out": {}}')),
        "evaluate run PAIRS",
        1,
        "models.json is damaged: it does not list models by pair",
    ),
}
