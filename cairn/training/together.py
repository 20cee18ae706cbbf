"""One batch over several processes, so that the loss, its gradient and all statistics are those of one process.

Each process has an equal part of every batch. Features are gathered before the loss: all processes work out the loss of
the whole batch, so that triplets, weights of classes and any other loss are what they are in one process, and a head,
however large, sends no gradients. The embedder's gradients are added up by DistributedDataParallel, and batch norm
takes its mean and variance over all parts. What differs from one process is rounding, and random numbers inside the
network (dropout), which each process draws for itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.overrides import TorchFunctionMode

from cairn.networks.embedder import Embedder, Seen
from cairn.processes import rank, world
from cairn.ranks import earlier_alike


class PartOfBatches:
    """This process's part of each batch, in order: a `batch_sampler`. All have equally many photos."""

    def __init__(self, batches: Sequence[NDArray[np.int64]], parts: int, part: int) -> None:
        """Raises ValueError if a batch cannot be split evenly."""
        sizes = {len(batch) for batch in batches}
        uneven = [size for size in sizes if size % parts]
        if uneven:
            raise ValueError(f"a batch of {uneven[0]} photos cannot be split evenly over {parts} processes")
        self.batches, self.parts, self.part = batches, parts, part

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Positions of photos, and how often each stands in the batch before."""
        for batch in self.batches:
            size = len(batch) // self.parts
            own = slice(self.part * size, (self.part + 1) * size)
            yield list(zip(batch[own].tolist(), earlier_alike(batch)[own].tolist(), strict=True))


class _Seeing(nn.Module):
    """`Embedder.seen` as a forward, for DistributedDataParallel."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        found = self.embedder.seen(images)
        return found.features, found.scores, found.attention


class Spread:
    """How the embedder is run in training: alone, or as one of several processes."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.several: nn.parallel.DistributedDataParallel | None = None
        if world() > 1 and any(p.requires_grad for p in embedder.parameters()):
            # Not every part of a network need have a say in its features: some backbones bring more than is pooled.
            self.several = nn.parallel.DistributedDataParallel(
                _Seeing(embedder), forward_sync_buffers=False, find_unused_parameters=True
            )

    def seen(self, images: Tensor, autocast: AbstractContextManager[Any]) -> Seen:
        """What the embedder sees of this process's images, its features in float32, with gradients that all share."""
        with autocast, WholeBatchNorm() if world() > 1 else nullcontext():
            found = self.embedder.seen(images) if self.several is None else Seen(*self.several(images))
        return found._replace(features=found.features.float())

    def shared(self, stepping: bool) -> AbstractContextManager[Any]:
        """Within, gradients are added up over processes, but only if a step follows; until then each keeps its own."""
        return nullcontext() if stepping or self.several is None else self.several.no_sync()  # type: ignore[no-any-return]


def gathered(seen: Seen) -> Seen:
    """What all processes saw, in the order of the whole batch, on every process; but for the attention map."""
    if world() == 1:
        return seen
    scores = None if seen.scores is None else _Gather.apply(seen.scores)
    return Seen(_Gather.apply(seen.features), scores, None)


class _Gather(torch.autograd.Function):
    """Rows of all processes, one after the other. Every process takes the gradient of the same loss: its own rows' is
    all it needs. Times their number, since DistributedDataParallel takes the mean of what is to be added.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.own = len(rows)
        found = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world())]
        distributed.all_gather(found, rows.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        own: Tensor = gradient[rank() * ctx.own : (rank() + 1) * ctx.own]
        return world() * own


def summed_up(values: Tensor) -> Tensor:
    """The sum over processes, of CPU tensors too."""
    if world() > 1:
        distributed.all_reduce(values)
    return values


class WholeBatchNorm(TorchFunctionMode):
    """Within, batch norm in train mode takes mean and variance over the parts of all processes, forward and backward.

    PyTorch's SyncBatchNorm does so on a GPU only, and takes the place of a module, of which timm has kinds of its own;
    this one stands below all of them.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Everything as it is, but for batch_norm with training=True."""
        given = kwargs or {}
        if func is nn.functional.batch_norm:
            bound = BATCH_NORM.bind(*args, **given)
            bound.apply_defaults()
            if bound.arguments["training"]:
                return _whole_batch_norm(**bound.arguments)
        return func(*args, **given)


BATCH_NORM = inspect.signature(nn.functional.batch_norm)


def _whole_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Ioffe and Szegedy 2015, arXiv:1502.03167, over `input` [batch, channels, ...] of all processes, in training."""
    found: tuple[Tensor, Tensor, Tensor] = _Normal.apply(input, eps)
    normal, mean, variance = found
    if running_mean is not None and running_var is not None:
        count = input.numel() // input.shape[1] * world()
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / max(1, count - 1)).to(running_var.dtype), momentum)
    shape = [1, -1] + [1] * (input.ndim - 2)
    if weight is not None:
        normal = normal * weight.view(shape)
    if bias is not None:
        normal = normal + bias.view(shape)
    return normal.to(input.dtype)


class _Normal(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps), with mean and variance [channels] over all processes; float32.

    Its gradient with y for the outcome: (g - mean(g) - y mean(g y)) / sqrt(variance + eps), means over all as well.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        values = values.float()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shape = [1, -1] + [1] * (values.ndim - 2)
        mean = _mean(values.mean(axes))
        centred = values - mean.view(shape)
        variance = _mean((centred * centred).mean(axes))
        scale = (variance + eps).rsqrt()
        normal = centred * scale.view(shape)
        ctx.save_for_backward(normal, scale)
        ctx.axes, ctx.shape = axes, shape
        ctx.mark_non_differentiable(mean, variance)
        return normal, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        normal, scale = ctx.saved_tensors
        both = _mean(torch.stack([gradient.mean(ctx.axes), (gradient * normal).mean(ctx.axes)]))
        mean, along = (part.view(ctx.shape) for part in both)
        return (gradient - mean - normal * along) * scale.view(ctx.shape), None


def _mean(values: Tensor) -> Tensor:
    """The mean over processes."""
    values = values.contiguous()
    distributed.all_reduce(values)
    return values / world()
