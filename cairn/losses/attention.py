"""How the two branches of an attention branch network are trained together, and scored where they are mixed.

Fukui et al. 2019, arXiv:1812.10025. The perception branch is a loss head over the embedder's features, shaped as in
`LossHead`; the attention branch gives logits [batch, classes].
"""

from __future__ import annotations

from torch import Tensor

from cairn.losses.base import LossHead
from cairn.losses.partial import Part, partial_loss


def summed(head: LossHead, features: Tensor, attention: Tensor, classes: Tensor, part: Part | None = None) -> Tensor:
    """L = L_attention + L_perception, as published: a mean cross-entropy, of all classes, and the head's own loss, with
    a `part` that of its classes; float32 [].
    """
    own = head(features, classes) if part is None else partial_loss(head, part, features, classes)
    return head.cross_entropy(attention.float(), classes) + own  # type: ignore[no-any-return]


def mixed_scores(attention: Tensor, perception: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha softmax(attention) + beta softmax(perception), of logits [batch, classes]: float32 [batch, classes], rows
    that sum to alpha + beta.
    """
    return alpha * attention.float().softmax(dim=1) + beta * perception.float().softmax(dim=1)


def mixed(head: LossHead, features: Tensor, attention: Tensor, classes: Tensor, alpha: float, beta: float) -> Tensor:
    """Mean cross-entropy that takes `mixed_scores` for logits: float32 []. Raises TypeError as `head.logits` does.

    Not the paper's, but that of a system compared with. The second softmax sees scores in [0, alpha + beta] only, so
    the loss never falls below log(1 + (classes - 1) exp(-alpha - beta)), and gradients fade long before.
    """
    return head.cross_entropy(mixed_scores(attention, head.logits(features), alpha, beta), classes)
