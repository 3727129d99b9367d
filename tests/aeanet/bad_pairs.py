"""Pairs that cannot be used, and options of `aeanet train` and other commands."""

from bad_cases import (
    BLOBS,
    PNG,
    Case,
    already_there,
    option_of,
)
from bad_files import (
    both,
    checkpoint,
    directory,
    model,
    pair,
    picture,
    pipe,
    put,
)

PAIRS: dict[str, Case] = {
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
    "a demo over pictures": already_there("demo --out out", "out/lr.png"),
    "a demo over a model": already_there("demo --out out", "out/run/model.safetensors"),
    "a demo in a file": Case(
        put("demo", b""), "demo --out demo", 1, "demo cannot be made a folder: a file"
    ),
}
