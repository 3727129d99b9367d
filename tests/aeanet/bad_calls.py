"""Places of results, and options of `aeanet predict`."""

from bad_cases import (
    Case,
    already_there,
    image,
    option_of,
)
from bad_files import (
    both,
    directory,
    picture,
    put,
)

CALLS: dict[str, Case] = {
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
    "earlier scores": already_there("evaluate RUN PAIRS --out out", "out/evaluation.json"),
    "an earlier picture of scores": already_there("evaluate RUN PAIRS --out out", "out/a.png"),
    "an earlier registration": already_there("register PAIRS --out out", "out/registration.json"),
    "an earlier aligned image": already_there("register PAIRS --out out", "out/lr/a.tif"),
    "an earlier mask": already_there("register PAIRS --out out", "out/mask/a.tif"),
    "an earlier ONNX file": already_there("export RUN --onnx a.onnx", "a.onnx"),
    "an earlier page": already_there(
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
}
