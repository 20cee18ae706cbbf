"""Where training starts from pretrained features: a whitened neck, so that the first step already sees embeddings as
good as the backbone's own.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WHITENING = 0.25  # 0.5 would whiten wholly and lift noise; 0 leaves the few strong directions in charge


@torch.no_grad()
def start_neck(neck: nn.Module, features: NDArray[np.float32]) -> None:
    """Set a neck that may start from features: `linear` to the principal components of `features` [photos, width],
    each scaled by its variance to the power -WHITENING (Jegou and Chum 2012, with a softer power). `none` has nothing
    to set.

    Where photos are too few to span as many dimensions, the next ones are random directions at right angles to those,
    scaled as the components are on average. Without them a distractor would be seen by what it has in common with
    landmarks alone, and look like one. Dimensions beyond the width keep their random start.
    """
    if not isinstance(neck, nn.Sequential):
        return
    linear, norm = neck[0], neck[1]
    if not (isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d)):
        raise TypeError(f"a linear neck is Linear and BatchNorm1d, not {neck}")
    mean = features.mean(axis=0, dtype=np.float64)
    _, singular, components = np.linalg.svd(features - mean, full_matrices=False)
    variances = singular**2 / len(features)
    kept = min(linear.out_features, int((variances > variances[0] * 1e-6).sum()))
    scaled = components[:kept] * variances[:kept, None] ** -WHITENING
    spread = variances[:kept].mean()
    beyond = _beyond(torch.from_numpy(components[:kept]), linear.weight[kept:].cpu().double())
    filled = kept + len(beyond)
    linear.weight[:kept] = torch.from_numpy(_signed(scaled)).float()
    linear.weight[kept:filled] = (beyond * spread**-WHITENING).float()
    projected = torch.from_numpy(features).float() @ linear.weight.cpu().T
    variance = projected.var(dim=0)
    variance[kept:filled] = spread ** (1 - 2 * WHITENING)  # these photos have none there
    # The norm divides by the deviation; its weight gives the scale back, so that it starts as a mere shift.
    state = {"running_mean": projected.mean(dim=0), "running_var": variance, "weight": (variance + norm.eps).sqrt()}
    norm.load_state_dict(norm.state_dict() | state)


def _beyond(components: Tensor, directions: Tensor) -> Tensor:
    """Of `directions` [count, width] what is at right angles to the unit vectors `components` [kept, width], as unit
    vectors at right angles to each other: float64 [the smaller of count and width - kept, width].
    """
    rest = directions[: components.shape[1] - len(components)]
    found: Tensor = torch.linalg.qr((rest - rest @ components.T @ components).T).Q.T
    return found


def _signed(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row with its largest entry positive: a decomposition leaves the sign open."""
    largest = np.abs(components).argmax(axis=1)
    signs: NDArray[np.float64] = np.sign(components[np.arange(len(components)), largest])[:, None]
    return components * signs
