"""Bad and odd inputs of the command as data, one line a case. `test_bad_inputs` runs them.

In a command line, RUN is the folder of a good model, GOOD a good image, PAIRS a folder of one good
pair, and `a.*` what the case makes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bad_files import (
    GREY,
    array,
    both,
    changed,
    checkpoint,
    directory,
    edited,
    encoded,
    folder_of,
    group,
    link,
    model,
    nothing,
    odd_model,
    option,
    pages,
    pair,
    picture,
    pipe,
    put,
    tiff,
    wide,
)

FLOATS = GREY.astype(np.float32)
SIGNED = FLOATS - 100
RAMP = np.linspace(-1, 1, 192).reshape(12, 16) * 1.7e308
NOT_FINITE = np.where(GREY > 128, FLOATS, np.nan).astype(np.float32)
BLOBS = np.random.default_rng(1).random((90, 110)).astype(np.float32)
TWICE = np.stack([GREY, GREY])
MOST_INT = np.full((9, 9), 2**31 - 1, np.int32)
HDF5, ZIP, PICKLE = (
    b"\x89HDF\r\n\x1a\n" + bytes(99),
    b"PK\x03\x04" + bytes(99),
    b"\x80\x02}q\0." + bytes(99),
)
PNG, JPG, BMP, TIF = (encoded(kind) for kind in ("png", "jpg", "bmp", "tif"))
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Case:
    """What `make` makes in a folder, the command line run there, its exit code, and a part of what
    it says.
    """

    make: Callable[[Path], object]
    command: str
    code: int
    says: str


def image(name: str, make: Callable[[Path], object], says: str) -> Case:
    """An image that cannot be restored, before a good one that is."""
    return Case(make, f"predict RUN '{name}' GOOD --out out", 1, says)


def odd_image(name: str, make: Callable[[Path], object]) -> Case:
    """An image that looks odd and is restored."""
    return Case(make, f"predict RUN '{name}' GOOD --out out", 0, "")


def option_of(command: str, says: str, code: int = 1) -> Case:
    """A command line that is refused before anything is read."""
    return Case(nothing, command, code, says)


def bad_model(make: Callable[[Path], object], says: str) -> Case:
    return Case(make, "predict run GOOD --out out", 1, says)


def earlier(command: str, *files: str) -> Case:
    """A command that would replace one of the files that are there."""
    makes = [both(folder_of(file), put(file, b"mine")) for file in files]
    return Case(
        both(*makes), command, 1, f"{files[-1]} is already there; replace it with --overwrite."
    )


def _fill(
    value: complex, dtype: torch.dtype = torch.float32
) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update(lr=torch.full((32, 9), value, dtype=dtype))


CASES: dict[str, Case] = {
    # files that are no images, or damaged
    "an empty png": image("a.png", put("a.png", b""), "a.png is empty (0 bytes)"),
    "an empty tif": image("a.tif", put("a.tif", b""), "a.tif is empty (0 bytes)"),
    "an empty mrc": image("a.mrc", put("a.mrc", b""), "a.mrc is empty (0 bytes)"),
    "text as png": image(
        "a.png", put("a.png", b"hello"), "its beginning is that of no PNG, JPEG or BMP"
    ),
    "text as tif": image("a.tif", put("a.tif", b"hello there"), "a.tif cannot be read as an image"),
    "text as mrc": image("a.mrc", put("a.mrc", b"hello"), "a.mrc cannot be read as an image"),
    "noise as dm3": image(
        "a.dm3", put("a.dm3", GREY.tobytes()), "a.dm3 cannot be read as an image"
    ),
    "noise as dm4": image(
        "a.dm4", put("a.dm4", GREY.tobytes()), "a.dm4 cannot be read as an image"
    ),
    "noise as ser": image(
        "a.ser", put("a.ser", GREY.tobytes()), "a.ser cannot be read as an image"
    ),
    "noise as emd": image(
        "a.emd", put("a.emd", GREY.tobytes()), "a.emd cannot be read as an image"
    ),
    "noise as bcf": image(
        "a.bcf", put("a.bcf", GREY.tobytes()), "a.bcf cannot be read as an image"
    ),
    "half a png": image("a.png", put("a.png", PNG[:120]), "damaged or cut short"),
    "a png without its tail": image("a.png", put("a.png", PNG[:-12]), "damaged or cut short"),
    "only the beginning of a png": image("a.png", put("a.png", PNG[:20]), "damaged or cut short"),
    "a png with a false byte": image(
        "a.png", put("a.png", changed("png", 80, 7)), "damaged or cut short"
    ),
    "half a jpg": image("a.jpg", put("a.jpg", JPG[:-90]), "damaged or cut short"),
    "half a bmp": image("a.bmp", put("a.bmp", BMP[:-90]), "damaged or cut short"),
    "half a tif": image("a.tif", put("a.tif", TIF[:-90]), "damaged or cut short"),
    "a bmp that states 10^8 columns": image(
        "a.bmp", put("a.bmp", wide("bmp", 18, 10**8)), "cannot hold"
    ),
    "a tif of no pages": image("a.tif", put("a.tif", b"II*\0\xff\xff\xff\x7f"), "holds 0 images"),
    # files of another kind
    "a text file": image("a.txt", put("a.txt", b"hello"), "is not an image of a known kind"),
    "no ending": image("a", put("a", PNG), "is not an image of a known kind"),
    "nothing but an ending": image(".png", put(".png", PNG), "is not an image of a known kind"),
    "a directory as png": image("a.png", directory("a.png"), "it is a directory, not a file"),
    "a directory as tif": image("a.tif", directory("a.tif"), "it is a directory, not a file"),
    "a pipe as png": image("a.png", pipe("a.png"), "it is a pipe or a device, not a file"),
    "a pipe as tif": image("a.tif", pipe("a.tif"), "it is a pipe or a device, not a file"),
    "a pipe as mrc": image("a.mrc", pipe("a.mrc"), "it is a pipe or a device, not a file"),
    "a pipe as zarr": image("a.zarr", pipe("a.zarr"), "cannot be read as a Zarr folder"),
    "a device": image("a.png", link("a.png", "/dev/zero"), "it is a pipe or a device, not a file"),
    "a link to nowhere": image("a.png", link("a.png", "b.png"), "No such file"),
    "a link to itself": image("a.png", link("a.png", "a.png"), "a.png cannot be read"),
    "a missing png": image("a.png", nothing, "No such file"),
    "a missing tif": image("a.tif", nothing, "No such file"),
    "a missing zarr": image("a.zarr", nothing, "No such file"),
    "a name that is too long": image(f"{'a' * 300}.png", nothing, "File name too long"),
    "a jpg as tif": image(
        "a.tif", put("a.tif", JPG), "not what its name says but a JPEG image: give it a name"
    ),
    "a tif as png": image(
        "a.png", put("a.png", TIF), "but a TIFF image: give it a name that ends in .tif"
    ),
    "a png as mrc": image(
        "a.mrc", put("a.mrc", PNG), "but a PNG image: give it a name that ends in .png"
    ),
    "a gif as png": image(
        "a.png", picture("a.png", kind="gif"), "but a GIF image: that is not read here"
    ),
    "a pdf as png": image("a.png", put("a.png", b"%PDF-1.7 x"), "but a PDF document"),
    "hdf5 as tif": image("a.tif", put("a.tif", HDF5), "but a HDF5 file"),
    "a zip as tif": image("a.tif", put("a.tif", ZIP), "but a zip archive"),
    # images that are not one grey image of finite values
    "NaN": image("a.tif", tiff("a.tif", NOT_FINITE), "holds NaN or infinite values"),
    "infinity": image(
        "a.tif",
        tiff("a.tif", np.full((12, 16), np.inf, np.float32)),
        "holds NaN or infinite values",
    ),
    "complex": image("a.tif", tiff("a.tif", GREY.astype(np.complex64)), "holds complex64 values"),
    "a stack": image(
        "a.tif", pages("a.tif", GREY, GREY, GREY), "holds 3 images (16 x 12, 16 x 12, 16 x 12)"
    ),
    "two pages": image("a.tif", pages("a.tif", GREY, GREY[:5]), "holds 2 images (16 x 12, 16 x 5)"),
    "floats, 0 is white": image(
        "a.tif", tiff("a.tif", FLOATS, photometric="miniswhite"), "of which 0 is white"
    ),
    "signed, 0 is white": image(
        "a.tif",
        tiff("a.tif", SIGNED.astype(np.int16), photometric="miniswhite"),
        "of which 0 is white",
    ),
    # OME-Zarr
    "an empty zarr": image("a.ome.zarr", directory("a.ome.zarr"), "holds no Zarr image"),
    "a file as zarr": image("a.zarr", put("a.zarr", PNG), "cannot be read as a Zarr folder"),
    "a zarr without image": image("a.zarr", group("a.zarr"), "holds no OME-Zarr image"),
    "odd multiscales": image(
        "a.zarr", group("a.zarr", ome={"multiscales": 3}), "cannot be read as an image"
    ),
    "a zarr without levels": image(
        "a.zarr", group("a.zarr", ome={"multiscales": [{"datasets": []}]}), "damaged"
    ),
    "a lost level": image(
        "a.zarr", group("a.zarr", ome={"multiscales": [{"datasets": [{"path": "0"}]}]}), "damaged"
    ),
    "a stack in zarr": image("a.zarr", array("a.zarr", TWICE), "one grey image is wanted"),
    "a line in zarr": image("a.zarr", array("a.zarr", GREY[0]), "one grey image is wanted"),
    "NaN in zarr": image("a.zarr", array("a.zarr", NOT_FINITE), "holds NaN or infinite values"),
    "complex zarr": image("a.zarr", array("a.zarr", GREY * 1j), "one grey image is wanted"),
    "a zarr that states 10^18 pixels": image(
        "a.zarr", edited("a.zarr", shape=[10**9, 10**9]), "cannot hold"
    ),
    "a zarr of no pixels": image("a.zarr", edited("a.zarr", shape=[0, 16]), "holds no pixels"),
    "a zarr of an odd type": image(
        "a.zarr", edited("a.zarr", data_type="uint9"), "cannot be read as an image"
    ),
    "damaged zarr": image(
        "a.zarr", both(directory("a.zarr"), put("a.zarr/zarr.json", b"{")), "cannot be read as"
    ),
    "nested zarr": image(
        "a.zarr", both(directory("a.zarr"), put("a.zarr/zarr.json", DEEP.encode())), "cannot be"
    ),
    # odd images that are restored
    "float32, all 1e20": odd_image("a.tif", tiff("a.tif", np.full((12, 16), 1e20, np.float32))),
    "the whole range of float64": odd_image("a.tif", tiff("a.tif", RAMP)),
    "the greatest float64": odd_image(
        "a.tif", tiff("a.tif", np.full((12, 16), np.finfo(np.float64).max))
    ),
    "the smallest floats": odd_image("a.tif", tiff("a.tif", GREY * -5e-324)),
    "the whole range in zarr": odd_image("a.zarr", array("a.zarr", RAMP)),
    "the greatest int32": odd_image("a.tif", tiff("a.tif", MOST_INT)),
    "uint64": odd_image("a.tif", tiff("a.tif", GREY.astype(np.uint64) << 56)),
    "black": odd_image("a.png", picture("a.png", GREY * 0)),
    "one pixel": odd_image("a.png", picture("a.png", GREY[:1, :1])),
    "one row": odd_image("a.tif", tiff("a.tif", GREY[:1])),
    "two values": odd_image("a.tif", tiff("a.tif", GREY > 99)),
    "a thumbnail": odd_image("a.tif", pages("a.tif", GREY, GREY[::4, ::4])),
    "an upper-case ending": odd_image("a.PNG", picture("a.PNG", kind="png")),
    "a bmp as png": odd_image("a.png", put("a.png", BMP)),
    "an umlaut": odd_image("Größe µ.png", picture("Größe µ.png")),
    "a name that is no UTF-8": odd_image("a\udce9.png", picture("a\udce9.png")),
    "a name like markup": odd_image("[red] :smile: [b.png", picture("[red] :smile: [b.png")),
    "control characters": odd_image("a\x1b[31m\n.png", picture("a\x1b[31m\n.png")),
    # where results go
    "one image twice": Case(picture("a.png"), "predict RUN a.png a.png GOOD --out out", 0, ""),
    "two images of one name": Case(
        both(picture("a.png"), picture("a.bmp")),
        "predict RUN a.png a.bmp GOOD --out out",
        1,
        "as a.png is",
    ),
    "an earlier result": image(
        "a.png",
        both(picture("a.png"), directory("out"), put("out/a.png", b"")),
        "replace it with --overwrite",
    ),
    "a folder as earlier result": image(
        "a.png", both(picture("a.png"), directory("out/a.png")), "is already there"
    ),
    "a folder in the place of a result": Case(
        both(picture("a.png"), directory("out/a.png")),
        "predict RUN a.png GOOD --out out --overwrite",
        1,
        "a.png cannot be written: Is a directory",
    ),
    "over an input": Case(
        picture("a.png"), "predict RUN a.png --out . --overwrite", 1, "would replace an input"
    ),
    "no folder": option_of("predict RUN GOOD --out ''", "it is empty, a path is wanted", 2),
    "a file as folder": Case(
        put("out", b""), "predict RUN GOOD --out out", 1, "out cannot be made a folder: a file"
    ),
    "below a file": Case(
        put("out", b""), "predict RUN GOOD --out out/b", 1, "cannot be made a folder: a file"
    ),
    "where nothing can be written": option_of(
        "predict RUN GOOD --out /proc/a", "cannot be used as a folder"
    ),
    "a folder with a long name": option_of(
        f"predict RUN GOOD --out {'a' * 300}", "File name too long"
    ),
    "earlier scores": earlier("evaluate RUN PAIRS --out out", "out/evaluation.json"),
    "an earlier picture of scores": earlier("evaluate RUN PAIRS --out out", "out/a.png"),
    "an earlier registration": earlier("register PAIRS --out out", "out/registration.json"),
    "an earlier aligned image": earlier("register PAIRS --out out", "out/lr/a.tif"),
    "an earlier mask": earlier("register PAIRS --out out", "out/mask/a.tif"),
    "an earlier ONNX file": earlier("export RUN --onnx a.onnx", "a.onnx"),
    "an earlier page": earlier(
        "reproduce PAIRS --out out --only table1 --budget 1e-5", "out/index.html"
    ),
    "scores to be replaced": Case(
        both(directory("out"), put("out/evaluation.json", b"")),
        "evaluate RUN PAIRS --out out --overwrite",
        0,
        "bicubic",
    ),
    "a registration to be replaced": Case(
        both(directory("out"), put("out/registration.json", b"")),
        "register PAIRS --out out --overwrite",
        0,
        "1 aligned",
    ),
    "another file in the folder": Case(
        both(directory("out"), put("out/b.png", b"")),
        "evaluate RUN PAIRS --out out --json",
        0,
        '"refused": {}',
    ),
    # options of predict
    "tile 0": option_of("predict RUN GOOD --out out --tile 0", "a tile of 0 px is too small"),
    "tile -1": option_of(
        "predict RUN GOOD --out out --tile -1", "--tile is '-1', wanted a number of pixels"
    ),
    "tile 1.5": option_of(
        "predict RUN GOOD --out out --tile 1.5", "--tile is '1.5', wanted a number of pixels"
    ),
    "tile ²": option_of("predict RUN GOOD --out out --tile ²", "wanted a number of pixels"),
    "a tile of 5,000 digits": option_of(
        f"predict RUN GOOD --out out --tile {'9' * 5000}", "wanted a number of"
    ),
    "magnification 0": option_of(
        "predict RUN GOOD --out out --magnification 0", "wanted a number from 0.9 to 16"
    ),
    "magnification -2": option_of(
        "predict RUN GOOD --out out --magnification -2", "wanted a number from 0.9 to 16"
    ),
    "magnification 1e-9": option_of(
        "predict RUN GOOD --out out --magnification 1e-9", "is 1e-09, wanted a number"
    ),
    "magnification 1e300": option_of(
        "predict RUN GOOD --out out --magnification 1e300", "is 1e+300, wanted a number"
    ),
    "magnification nan": option_of(
        "predict RUN GOOD --out out --magnification nan", "is nan, wanted a number"
    ),
    "magnification inf": option_of(
        "predict RUN GOOD --out out --magnification inf", "is inf, wanted a number"
    ),
    "magnification two": option_of(
        "predict RUN GOOD --out out --magnification two", "Invalid value for '--magnification'", 2
    ),
    "precision float8": option_of(
        "predict RUN GOOD --out out --precision float8", "is not one of", 2
    ),
    "no image": option_of("predict RUN --out out", "Missing argument", 2),
    "no run": option_of("predict '' GOOD --out out", "it is empty, a path is wanted", 2),
    "an unknown option": option_of("predict RUN GOOD --out out --fast", "No such option", 2),
    "an unknown command": option_of("restore_all RUN", "No such command", 2),
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
        odd_model(change=_fill(np.nan)), "the tensor lr holds NaN or infinite numbers"
    ),
    "infinite weights": bad_model(
        odd_model(change=_fill(np.inf)), "the tensor lr holds NaN or infinite numbers"
    ),
    "too great weights": bad_model(
        odd_model(change=_fill(1e300, torch.float64)), "holds NaN or infinite numbers"
    ),
    "weights of int64": bad_model(
        odd_model(change=_fill(1, torch.int64)), "holds int64 numbers, wanted floating"
    ),
    "complex weights": bad_model(
        odd_model(change=_fill(1j, torch.complex64)), "holds complex64 numbers, wanted"
    ),
    "a lost tensor": bad_model(
        odd_model(change=lambda tensors: tensors.pop("lr")), "the tensor lr is missing"
    ),
    "a tensor more": bad_model(
        odd_model(change=lambda t: t.update(q=t["lr"] + 0)), "the tensor q is none of its own"
    ),
    "a result of NaN": bad_model(odd_model(change=_fill(3e38)), "makes NaN or infinite values"),
    "NaN is not scored": Case(
        odd_model(change=_fill(np.nan)),
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
        odd_model(change=_fill(np.nan)), "info run --json", 1, "holds NaN or infinite numbers"
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
    # pairs
    "no pairs": option_of("train nowhere --out run", "nowhere is not a folder"),
    "a file as pairs": Case(put("pairs", b""), "train pairs --out run", 1, "pairs is not a folder"),
    "empty pairs": Case(
        directory("pairs"), "register pairs --out out", 1, "holds no complete pair"
    ),
    "only LR": Case(
        both(directory("pairs/lr"), put("pairs/lr/a.png", PNG)),
        "train pairs --out run",
        1,
        "hr/a.* is",
    ),
    "one image as LR and HR": Case(
        pair(BLOBS, BLOBS), "evaluate RUN pairs", 1, "LR and HR are the same image"
    ),
    "small pairs": Case(
        pair(BLOBS[:30], BLOBS), "register pairs --out out", 1, "at least 80 x 80 are needed"
    ),
    "pairs of noise": Case(
        pair(BLOBS, BLOBS[::-1].copy()), "register pairs --out out", 1, "do not show the same field"
    ),
    "pairs of great values": Case(
        pair(BLOBS * 1e38, BLOBS), "register pairs --out out", 1, "None of the 1 pairs"
    ),
    "black pairs": Case(
        pair(BLOBS * 0, BLOBS * 0 + 1), "register pairs --out out", 1, "None of the 1 pairs"
    ),
    "a pipe as LR": Case(
        both(
            directory("pairs/lr"),
            directory("pairs/hr"),
            pipe("pairs/lr/a.png"),
            put("pairs/hr/a.png", PNG),
        ),
        "register pairs --out out",
        1,
        "it is a pipe or a device",
    ),
    "a run among the pairs": option_of("train PAIRS --out PAIRS", "holds the original pairs"),
    "a run among the LR images": option_of(
        "train PAIRS --out PAIRS/lr", "holds the original pairs"
    ),
    "scores among the HR images": option_of(
        "evaluate RUN PAIRS --out PAIRS/hr", "holds the original pairs"
    ),
    "a report among the pairs": option_of(
        "reproduce PAIRS --out PAIRS", "holds the original pairs"
    ),
    "aligned beside the originals": Case(
        both(directory("lr"), put("lr/a10000.png", PNG), put("lr/a20000.png", PNG)),
        "register lr --out .",
        1,
        "lr holds the original pairs",
    ),
    "aligned among the originals": option_of(
        "register PAIRS --out PAIRS/lr", "holds the original pairs"
    ),
    "samples that are not there": option_of(
        "evaluate RUN PAIRS --samples a.txt", "a.txt cannot be read as a list"
    ),
    "a pipe as samples": Case(
        pipe("a.txt"), "evaluate RUN PAIRS --samples a.txt", 1, "a.txt cannot be read as a list"
    ),
    "an image as samples": Case(
        put("a.txt", PNG), "evaluate RUN PAIRS --samples a.txt", 1, "a.txt cannot be read"
    ),
    # options of train and others
    "a file as run": Case(
        put("run", b""), "train PAIRS --out run", 1, "run cannot be made a folder: a file"
    ),
    "minutes -1": option_of(
        "train PAIRS --out run --minutes -1", "--minutes is -1, wanted a number above 0"
    ),
    "minutes nan": option_of(
        "train PAIRS --out run --minutes nan", "--minutes is nan, wanted a number above 0"
    ),
    "minutes 1e300": option_of(
        "train PAIRS --out run --minutes 1e300", "--minutes is 1e+300, wanted a number"
    ),
    "validate nan": option_of(
        "train PAIRS --out run --validate nan", "nan pairs cannot be held back"
    ),
    "validate -1": option_of(
        "train PAIRS --out run --validate -1", "-1.0 pairs cannot be held back"
    ),
    "validate-every 0": option_of(
        "train PAIRS --out run --validate-every 0", "'0' is no interval: wanted a number"
    ),
    "checkpoint-every often": option_of(
        "train PAIRS --out run --checkpoint-every often", "'often' is no interval"
    ),
    "checkpoint-every 400 digits": option_of(
        f"train PAIRS --out run --checkpoint-every {'9' * 400}s", "no interval"
    ),
    "steps 0": option_of("train PAIRS --out run --steps 0", "steps is 0, wanted a number above 0"),
    "steps of 400 digits": option_of(
        f"train PAIRS --out run --steps {'9' * 400}", "wanted a number above 0 and below"
    ),
    "rate inf": option_of(
        "train PAIRS --out run --rate inf", "rate is inf, wanted a number above 0"
    ),
    "epsilon nan": option_of(
        "train PAIRS --out run --epsilon nan", "epsilon is nan, wanted a number above 0"
    ),
    "freeze 2": option_of(
        "train PAIRS --out run --freeze 2", "freeze is 2.0, wanted a share from 0 to 1"
    ),
    "seed -1": option_of(
        "train PAIRS --out run --seed -1", "seed is -1, wanted a whole number from 0"
    ),
    "model vgg": option_of("train PAIRS --out run --model vgg", "is not one of", 2),
    "references 10^30": option_of(
        f"train PAIRS --out run --references {10**30}", "Invalid value for '--references'", 2
    ),
    "nothing to resume": option_of("train PAIRS --out run --resume", "There is no run to resume"),
    "a damaged checkpoint": Case(
        both(directory("run"), put("run/checkpoint.safetensors", b"?")),
        "train PAIRS --out run --resume",
        1,
        "damaged",
    ),
    "a checkpoint of odd parts": Case(
        checkpoint(loss=None), "train PAIRS --out run --resume", 1, "its parts do not fit together"
    ),
    "a checkpoint of an odd model": Case(
        checkpoint(configuration={"recipe": {}}),
        "train PAIRS --out run --resume",
        1,
        "its parts do not fit together",
    ),
    "pretrain without a folder": option_of("pretrain --out ''", "it is empty, a path is wanted", 2),
    "pretrain for -1 minutes": option_of(
        "pretrain --out run --minutes -1", "--minutes is -1, wanted a number above 0"
    ),
    "pretrain over a model": Case(model(), "pretrain --out run", 1, "run already holds a model"),
    "export without a file": option_of("export RUN --onnx ''", "it is empty, a path is wanted", 2),
    "budget nan": option_of("reproduce PAIRS --out out --budget nan", "is no step at all"),
    "only a part that is none": option_of(
        "reproduce PAIRS --out out --only fig9 --budget 0.001", "fig9"
    ),
    "heatmaps without references": Case(
        picture("a.png"), "heatmaps RUN a.png --out out", 1, "has no shared references"
    ),
    "heatmaps over an input": Case(
        both(model(network="aeanet", references=2), picture("heatmaps.png")),
        "heatmaps run heatmaps.png --out .",
        1,
        "would replace an input image",
    ),
    "an earlier figure": Case(
        both(model(network="aeanet", references=2), picture("a.png"), put("heatmaps.png", b"mine")),
        "heatmaps run a.png --out .",
        1,
        "heatmaps.png is already there; replace it with --overwrite.",
    ),
    "earlier maps": Case(
        both(model(network="aeanet", references=2), picture("a.png"), put("a.npz", b"mine")),
        "heatmaps run a.png --out .",
        1,
        "a.npz is already there; replace it with --overwrite.",
    ),
    "maps to be replaced": Case(
        both(model(network="aeanet", references=2), picture("a.png"), put("a.npz", b"mine")),
        "heatmaps run a.png --out . --overwrite",
        0,
        "heatmaps.png",
    ),
    "heatmaps beside a bad image": Case(
        both(model(network="aeanet", references=2), picture("a.png"), put("b.png", b"")),
        "heatmaps run b.png a.png --out out",
        1,
        "1 of 2 images could not be shown: b.png.",
    ),
    "a demo over pictures": earlier("demo --out out", "out/lr.png"),
    "a demo over a model": earlier("demo --out out", "out/run/model.safetensors"),
    "a demo in a file": Case(
        put("demo", b""), "demo --out demo", 1, "demo cannot be made a folder: a file"
    ),
}
