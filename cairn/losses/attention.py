"""How the two branches of an attention branch network are scored and trained together, as functions of their logits.

Fukui et al. 2019, arXiv:1812.10025. Logits of both branches: [batch, classes]; classes: int64 [batch].
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy


def summed(attention: Tensor, perception: Tensor, classes: Tensor) -> Tensor:
    """L = L_attention + L_perception, a mean cross-entropy each, as published: float32, no dimensions."""
    return cross_entropy(attention.float(), classes) + cross_entropy(perception.float(), classes)


def mixed_scores(attention: Tensor, perception: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha softmax(attention) + beta softmax(perception): float32 [batch, classes], rows that sum to alpha + beta."""
    return alpha * attention.float().softmax(dim=1) + beta * perception.float().softmax(dim=1)


def mixed(attention: Tensor, perception: Tensor, classes: Tensor, alpha: float, beta: float) -> Tensor:
    """Mean cross-entropy that takes `mixed_scores` for logits: float32, no dimensions.

    Not the paper's, but that of a system compared with. The second softmax sees scores in [0, alpha + beta] only, so
    the loss never falls below log(1 + (classes - 1) exp(-alpha - beta)), and gradients fade long before.
    """
    return cross_entropy(mixed_scores(attention, perception, alpha, beta), classes)
