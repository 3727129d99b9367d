"""`aeanet train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from aeanet.cli.options import options_of
from aeanet.cli.places import check_place
from aeanet.cli.runs import (
    NewRun,
    ReplaceRun,
    Resume,
    end_interrupted,
    given,
    say_trouble,
    steps_done,
)
from aeanet.cli.shared import (
    Minutes,
    Pairs,
    ReportPage,
    fail,
    keep_apart,
    leading,
    note,
    option,
    path,
    progress_bar,
    read_scans,
    register_pairs,
    say,
    seconds_of,
    warn,
)
from aeanet.networks.registry import NETWORKS
from aeanet.training.recipe import Recipe

if TYPE_CHECKING:
    NetworkName = str
else:
    NetworkName = Literal[tuple(NETWORKS)]  # a choice, which --help lists

EXAMPLE = "aeanet train pairs/ --out runs/first --quick"


@options_of(Recipe, "Recipe (in brackets: the paper's)")
def main(
    folder: Pairs,
    run: NewRun,
    quick: Annotated[
        bool,
        option(
            "A short recipe: 2,000 steps of 16 crops of 64 px, one cycle up to 2e-3.", "--quick"
        ),
    ] = False,
    minutes: Minutes = None,
    model: Annotated[
        NetworkName | None,
        option(
            f"{', '.join(NETWORKS)}; lbnlm and srsw look up patches in a library (aeanet).",
            metavar="NETWORK",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        option(
            "Begin with the weights of this model: a run folder, or sem, which comes with aeanet; "
            "then by default 1,000 steps of 16 crops of 96 px, one cycle up to 1e-4.",
            "--from",
            parser=path,
        ),
    ] = None,
    references: Annotated[
        int | None,
        option("Learnable references of the attention (64).", min=0, max=2**20, metavar="<int>"),
    ] = None,
    batch_aware: Annotated[
        bool | None, option("Let half of each batch attend to one another (yes).")
    ] = None,
    residual: Annotated[
        bool | None, option("Learn what to add to the image, not the image (with --quick: yes).")
    ] = None,
    one_per_pair: Annotated[
        bool,
        option("One model per pair, each in a sub-folder with the name of its pair.", "--self"),
    ] = False,
    noisy: Annotated[
        bool,
        option(
            "PAIRS holds noisy images instead, and no clean one. A folder in it, or a stack, holds "
            "repeated scans of one field. Begins with sem, and learns by --loss psnr. Goes without "
            "--self, --validate and --report, which need a clean image.",
            "--noisy",
        ),
    ] = False,
    validate: Annotated[
        float | None,
        option("Pairs held back and scored during the training: 3, or 0.1 for a tenth."),
    ] = None,
    validate_every: Annotated[
        str, typer.Option(help="Steps, or time as 10min, between such scores.")
    ] = "1000",
    checkpoint_every: Annotated[
        str, typer.Option(help="Steps, or time as 60s, between checkpoints.")
    ] = "60s",
    cuda_graph: Annotated[
        bool,
        option("Record the step once as a CUDA graph and replay it, on one GPU.", "--cuda-graph"),
    ] = False,
    page: ReportPage = False,
    resume: Resume = False,
    overwrite: ReplaceRun = False,
    **changes: Any,
) -> None:
    """Register the pairs of a folder and train on them; by default as long as in the paper, which
    needs a GPU.

    With --noisy a network learns to take the noise from images like yours: each of several scans of
    a field is brought to the mean of the others, whose noise is independent of its own; of a single
    image the noise is measured, and more of it is added and removed. Use it where `aeanet restore`
    warns that images are unlike its training, then `aeanet predict`.

    Ctrl-C ends the training and keeps the model as it then is. --resume goes on from there, or from
    the latest checkpoint before a crash, with the same result as an uninterrupted training. Several
    GPUs: `torchrun --nproc-per-node 2 -m aeanet train ...`
    """
    from aeanet import training
    from aeanet.cli.request import (
        Shown,
        keep_run,
        resolve_request,
        what_is_trained_on,
        what_was_trained,
    )
    from aeanet.data.pairs import hold_back
    from aeanet.distributed import all_processes, rank

    # What cannot go together is refused before anything is read.
    network = given({"references": references, "batch_aware": batch_aware, "residual": residual})
    one_per_pair = one_per_pair or (resume and (run / training.MODELS_FILE).exists())
    _check_together(
        begins=start is not None,
        builds=bool(model or network),
        resume=resume,
        overwrite=overwrite,
        one_per_pair=one_per_pair,
        validates=validate is not None,
        noisy=noisy,
        page=page,
    )

    # without a clean image: defaults that suit it, where the user gave none
    changes = given(changes | {"max_seconds": seconds_of(minutes)})
    if noisy and not resume:
        changes = {"loss": "psnr"} | changes
        if not (model or quick or network):
            start = start or Path("sem")

    # places and intervals too are looked at before the pairs are read
    keep_apart(run, folder)
    page_place = run / "report.html"
    if page:
        check_place(page_place, overwrite=overwrite or resume)
    settings: dict[str, Any] = {
        "checkpoint_every": training.Interval.parse(checkpoint_every),
        "validate_every": training.Interval.parse(validate_every),
        "cuda_graph": cuda_graph,
        "on_trouble": say_trouble,
    }

    opening = training.open_run(run, resume=resume, overwrite=overwrite, one_per_pair=one_per_pair)
    with opening as opened, leading(), all_processes():
        # what the user gave, else what the run was begun with, else defaults
        begun = opened.checkpoint
        request = resolve_request(opened, model, network, changes, start, quick=quick)
        request.warn_beforehand()
        # with a model per pair those that were not begun start from it
        if begun and start is not None and not one_per_pair:
            warn(f"--from is not used: {run} goes on with the weights of its checkpoint.")
        recipe = request.recipe
        settings |= request.network | {"start": request.start}

        # A run that goes on holds back the pairs that it began with, or has noisy images alone.
        if begun and begun.configuration["data"].get("of_scans"):
            noisy = True
            if validate is not None or page:
                _fail_noisy(f"{run}, begun with --noisy,")
        data = read_scans(folder) if noisy else register_pairs(folder)
        if begun and validate is None:
            validate = begun.configuration["data"]["held_back"]
        data, held_back = hold_back(data, validate) if validate else (data, [])
        note(what_is_trained_on(data, held_back))

        # with --self each model is saved as soon as it is trained
        with progress_bar() as bar:
            shown = Shown(bar, recipe)
            settings["on_step"] = shown.on_step
            if one_per_pair:
                settings |= {"on_pair": shown.on_pair, "save": keep_run}
                done = training.train_each(
                    run, data, recipe, resume=resume, overwrite=overwrite, **settings
                )
                last = list(done.values())[-1]
            else:
                last = training.train(data, recipe, run=opened, held_back=held_back, **settings)
                done = {".": last}

        # Models by pair are saved one by one, as they are trained.
        steps = steps_done(last.steps, recipe.steps)
        what = "the model is"
        if one_per_pair:
            what = f"the models of {len(done)} pairs are"
        elif not rank():
            keep_run(run, last, recipe, data, held_back)

        # everything is saved by now, so an exit after Ctrl-C loses nothing
        written = True
        if page and not rank():
            from aeanet.cli.pages.shared import save_page
            from aeanet.cli.pages.training import training_page

            written = save_page(page_place, training_page(run, done, recipe, data, held_back))
        if last.interrupted:
            end_interrupted(run, steps)

        # why nothing was done, which pairs have no model, and what was gained
        if begun and begun.step == last.steps and not one_per_pair:
            note("Nothing was left to do: the run had done its steps, or trained for its time.")
        if one_per_pair:
            for name, reason in training.left_out(run).items():
                if name not in data.refused:
                    warn(f"Pair {name} is left out: {reason}")
        say(f"{what_was_trained(last, steps)}; {what} in {run}.")
        if last.validation:
            psnr, ssim = last.validation["delta_psnr"], last.validation["delta_ssim"]
            say(
                "Gain over bicubic interpolation on the pairs held back: "
                f"{psnr:+.2f} dB PSNR and {ssim:+.4f} SSIM."
            )
        if not written:
            raise typer.Exit(1)


def _check_together(
    *,
    begins: bool,
    builds: bool,
    resume: bool,
    overwrite: bool,
    one_per_pair: bool,
    validates: bool,
    noisy: bool,
    page: bool,
) -> None:
    """End the command if what was given cannot go together."""
    if begins and builds:
        fail(
            "--from goes on with a network as it is: leave out --model, --references, "
            "--batch-aware and --residual."
        )
    if resume and overwrite:
        fail("--resume goes on with a run and --overwrite replaces it: give one of the two.")
    if one_per_pair and validates:
        fail("--self has one pair per model and so none to hold back: leave out --validate.")
    if noisy and (one_per_pair or validates or page):
        _fail_noisy("--noisy")


def _fail_noisy(what: str) -> NoReturn:
    """End the command, since `what` is to be compared with a clean image and has none."""
    fail(f"{what} has no clean image to compare with: leave out --self, --validate and --report.")
