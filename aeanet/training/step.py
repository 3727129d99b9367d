"""One step of a training: forward and backward pass, gradients averaged over the processes, Adam;
and the averages that follow the steps, of batch statistics and of weights.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aeanet.distributed import average_over_processes, process_count
from aeanet.imaging.precision import computing_in
from aeanet.networks.base import Network
from aeanet.networks.error import LEAST_ERROR, ErrorNetwork
from aeanet.training.progress import TrainingProgress
from aeanet.training.recipe import Loss, Recipe, RecipeError

FLOOR = 0.001
"""A quarter of a grey level of 8 bits: errors below it no longer count in the relative losses."""


class TrainingStep:
    """Called with a batch and how far the training is, it improves the model once and returns the
    MAE.

    Args:
        model: on the device to train on, in training mode.
        recipe: of the training.
        cuda_graph: record the forward and backward pass once and replay it: the CPU then launches
            one graph instead of each kernel, which pays where crops are small. Weights, gradients
            and batches keep their places in memory, so all batches must have one shape.

    Raises:
        RecipeError: a CUDA graph is asked for elsewhere than on one CUDA device, or the loss does
            not suit the network.
    """

    def __init__(self, model: Network, recipe: Recipe, *, cuda_graph: bool = False) -> None:
        # that loss and that network have an output that no other has
        self.model, self.recipe, self.cuda_graph = model, recipe, cuda_graph
        if (recipe.loss == "interval") != isinstance(model, ErrorNetwork):
            raise RecipeError(
                "The loss interval is that of the network error, which has no other: see "
                "`aeanet pretrain --from sem --loss interval`."
            )

        # the method is compiled, not the module: names of weights stay as they are in files
        self.forward: Callable[[Tensor], Tensor] = (
            torch.compile(model.forward) if recipe.compile else model.forward
        )
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=recipe.rate, betas=recipe.betas, eps=recipe.epsilon
        )

        # any weight: it says on which device and in which type the batches have to be
        self.weight = next(model.parameters())
        self.statistics = RunningStatistics(model)

        # a pass that exchanges statistics with other processes is not recorded
        self.captured: CapturedPass | None = None
        self.captured_frozen = False
        if cuda_graph and (self.weight.device.type != "cuda" or process_count() > 1):
            raise RecipeError(
                "A CUDA graph needs one process on a CUDA device: train without it here."
            )

    @property
    def rate(self) -> float:
        """The learning rate of the latest step."""
        return self.optimizer.param_groups[0]["lr"]

    def __call__(self, lr: Tensor, hr: Tensor, progress: TrainingProgress) -> Tensor:
        """lr, hr (N, 1, H, W) on any device, `progress` before this step -> the loss, a scalar
        where the model is.
        """
        # all that depends on how far the training is: the rate, and whether statistics still change
        lr, hr = lr.to(self.weight), hr.to(self.weight)
        frozen = progress.used >= self.recipe.freeze
        rate = self.recipe.learning_rate(progress.step, progress.used)
        self.optimizer.param_groups[0]["lr"] = rate

        # a recorded pass updates statistics or does not, so freezing them takes another recording
        with self.statistics.following(progress.step, frozen=frozen):
            if self.cuda_graph and (self.captured is None or self.captured_frozen != frozen):
                self.captured = None  # its memory is free before the next one takes as much
                self.captured = CapturedPass(self.loss_and_gradients, lr, hr, self.model.buffers())
                self.captured_frozen = frozen
            loss = self.captured(lr, hr) if self.captured else self.loss_and_gradients(lr, hr)

        # the mean over processes is the gradient of the joint batch; frozen weights have none
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        average_over_processes(gradients)
        self.optimizer.step()
        return loss

    def loss_and_gradients(self, lr: Tensor, hr: Tensor) -> Tensor:
        """The MAE; the gradients of the recipe's loss are left at the weights.

        No value is read on the CPU, so a CUDA graph can hold it.
        """
        # The gradients are dropped, so that `backward` writes new ones instead of adding.
        self.optimizer.zero_grad()
        with computing_in(self.recipe.precision, lr.device):
            restored = self.forward(lr)
            mae = F.l1_loss(restored[:, :1], hr)
            objective = LOSSES[self.recipe.loss](restored, hr)
        objective.backward()
        return mae.detach()


def relative_loss(restored: Tensor, hr: Tensor) -> Tensor:
    """Mean over the images (N, 1, H, W) of log(MAE + FLOOR)."""
    return (restored - hr).abs().mean((1, 2, 3)).add(FLOOR).log().mean()


def psnr_loss(restored: Tensor, hr: Tensor) -> Tensor:
    """Mean over the images (N, 1, H, W) of log(RMSE^2 + FLOOR^2) / 2: the PSNR, in other units."""
    return (restored - hr).square().mean((1, 2, 3)).add(FLOOR**2).log().mean() / 2


SHARE = 0.6827  # of the true values that a standard error holds


def interval_loss(output: Tensor, hr: Tensor) -> Tensor:
    """The least where each pixel's standard error is the quantile of 68 % of its error's size: the
    check loss of Koenker & Bassett (1978), on logarithms, so that small errors count as large ones.

    Args:
        output: of a `networks.error.ErrorNetwork` in training, (N, 2, H, W).
        hr: the truth, (N, 1, H, W).
    """
    restored, log_error = output.chunk(2, 1)
    above = ((restored - hr).abs() + LEAST_ERROR).log() - log_error
    return torch.maximum(SHARE * above, (SHARE - 1) * above).mean()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": F.l1_loss,
    "relative": relative_loss,
    "psnr": psnr_loss,
    "interval": interval_loss,
}


class CapturedPass:
    """A function of (lr, hr) recorded as a CUDA graph.

    It runs three times before it is recorded, as PyTorch asks for, on a stream of its own;
    `buffers`, which these runs change, get their values back. See "CUDA Graphs" in PyTorch's notes.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        lr: Tensor,
        hr: Tensor,
        buffers: Iterable[Tensor],
    ) -> None:
        # the places in memory from which every replay reads
        self.lr, self.hr = lr.clone(), hr.clone()
        before = [(buffer, buffer.clone()) for buffer in buffers]

        # what is allocated and chosen at first use happens in these runs and is not recorded
        stream = torch.cuda.Stream(lr.device)
        stream.wait_stream(torch.cuda.current_stream(lr.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                function(self.lr, self.hr)
        torch.cuda.current_stream(lr.device).wait_stream(stream)

        # Recording computes nothing, so only the runs before it have changed the buffers. PyTorch's
        # own stream for recordings is of the device of the process's first one. On a new one the
        # workspace of cuBLAS is memory of the graph, which nobody else frees.
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.Stream(lr.device)):
            self.loss = function(self.lr, self.hr)
        for buffer, value in before:
            buffer.copy_(value)

    def __call__(self, lr: Tensor, hr: Tensor) -> Tensor:
        self.lr.copy_(lr)
        self.hr.copy_(hr)
        self.graph.replay()
        return self.loss


WINDOW = 5  # early on, the statistics average over about the latest fifth of the steps


class RunningStatistics:
    """Lets the running statistics of a network's batch norms follow its training from the first
    step on.

    With momentum 0.003 they follow too slowly for a run of a few hundred steps: prediction would
    still use the values of the first ones. So the momentum starts at 1 and falls as 5 / (5 + step),
    which averages over about the latest fifth of the steps done, until it meets 0.003 at step
    1,662. From there on, 98 % of the paper's 120,000 steps, it is the paper's; what the early steps
    left has by then decayed to nothing. A model is thus usable after any step, interrupted ones
    included, without a pass over the data at the end.

    The average is taken here, from the statistics of each batch, which the norms leave behind with
    a momentum of 1: a momentum that changed with every step would have `torch.compile` build the
    network anew for each.
    """

    def __init__(self, model: nn.Module) -> None:
        self.momenta = {
            norm: norm.momentum or 0.0 for norm in model.modules() if isinstance(norm, _BatchNorm)
        }

    @contextmanager
    def following(self, step: int, *, frozen: bool) -> Iterator[None]:
        """Within it, the network sees the batch of `step` (from 0 on); frozen statistics are used,
        not changed.
        """
        for norm in self.momenta:
            norm.train(not frozen)
            norm.momentum = 1.0
        before = [statistic.clone() for statistic, _ in self._changing()]
        yield
        for old, (statistic, momentum) in zip(before, self._changing(), strict=True):
            statistic.copy_(old.lerp_(statistic, max(momentum, WINDOW / (WINDOW + step))))
        for norm, momentum in self.momenta.items():
            norm.momentum = momentum

    def _changing(self) -> Iterator[tuple[Tensor, float]]:
        """Running means and variances that this step changes, and the momentum they end up with."""
        for norm, momentum in self.momenta.items():
            if norm.training and norm.running_mean is not None and norm.running_var is not None:
                yield norm.running_mean, momentum
                yield norm.running_var, momentum


DECAY = 0.999


class WeightAverage:
    """Averages the weights after each step of `optimizer`, over fewer steps at the beginning.

    The averages are part of the optimizer's state, so a checkpoint holds them.
    """

    def __init__(self, model: Network, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        optimizer.register_step_post_hook(self._update)

    @torch.no_grad()
    def _update(self, *_: Any) -> None:
        for parameter, state in self.optimizer.state.items():
            if "average" not in state:
                state["average"] = parameter.clone()
            done = float(state["step"])
            state["average"].lerp_(parameter, 1 - min(DECAY, done / (done + 10)))

    @torch.no_grad()
    def network(self) -> Network:
        """A copy of the network with the averaged weights, on the CPU and in evaluation mode."""
        averaged = copy.deepcopy(self.model)
        for copied, parameter in zip(averaged.parameters(), self.model.parameters(), strict=True):
            copied.copy_(self.optimizer.state.get(parameter, {}).get("average", parameter))
        averaged.tell(None, None)
        return averaged.cpu().eval()
