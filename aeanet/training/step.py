"""One step of a training: forward and backward pass, gradients averaged over the processes,
Adam.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from aeanet.distributed import average_over_processes, process_count
from aeanet.imaging.precision import computing_in
from aeanet.networks.base import Network
from aeanet.training.batch_norm import RunningStatistics
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
        RecipeError: a CUDA graph is asked for elsewhere than on one CUDA device.
    """

    def __init__(self, model: Network, recipe: Recipe, *, cuda_graph: bool = False) -> None:
        self.model, self.recipe, self.cuda_graph = model, recipe, cuda_graph
        self.forward: Callable[[Tensor], Tensor] = (
            torch.compile(model.forward) if recipe.compile else model.forward
        )
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=recipe.rate, betas=recipe.betas, eps=recipe.epsilon
        )
        self.weight = next(model.parameters())
        self.statistics = RunningStatistics(model)
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
        lr, hr = lr.to(self.weight), hr.to(self.weight)
        frozen = progress.used >= self.recipe.freeze
        rate = self.recipe.learning_rate(progress.step, progress.used)
        self.optimizer.param_groups[0]["lr"] = rate
        with self.statistics.following(progress.step, frozen=frozen):
            if self.cuda_graph and (self.captured is None or self.captured_frozen != frozen):
                self.captured = None  # its memory is free before the next one takes as much
                self.captured = CapturedPass(self.loss_and_gradients, lr, hr, self.model.buffers())
                self.captured_frozen = frozen
            loss = self.captured(lr, hr) if self.captured else self.loss_and_gradients(lr, hr)
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
            loss = F.l1_loss(restored, hr)
            wanted = LOSSES[self.recipe.loss](restored, hr)
        wanted.backward()
        return loss.detach()


def relative_loss(restored: Tensor, hr: Tensor) -> Tensor:
    """Mean over the images (N, 1, H, W) of log(MAE + FLOOR)."""
    return (restored - hr).abs().mean((1, 2, 3)).add(FLOOR).log().mean()


def psnr_loss(restored: Tensor, hr: Tensor) -> Tensor:
    """Mean over the images (N, 1, H, W) of log(RMSE^2 + FLOOR^2) / 2: the PSNR, in other units."""
    return (restored - hr).square().mean((1, 2, 3)).add(FLOOR**2).log().mean() / 2


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": F.l1_loss,
    "relative": relative_loss,
    "psnr": psnr_loss,
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
        self.lr, self.hr = lr.clone(), hr.clone()
        before = [(buffer, buffer.clone()) for buffer in buffers]

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                function(self.lr, self.hr)
        torch.cuda.current_stream().wait_stream(stream)

        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = function(self.lr, self.hr)
        for buffer, value in before:
            buffer.copy_(value)

    def __call__(self, lr: Tensor, hr: Tensor) -> Tensor:
        self.lr.copy_(lr)
        self.hr.copy_(hr)
        self.graph.replay()
        return self.loss
