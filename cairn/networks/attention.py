"""A branch that says where a backbone should look, and the backbone wrapped with it (Fukui et al. 2019).

Attention branch network, arXiv:1812.10025. The branch makes class scores of its own and, from the same maps, one map M
in (0, 1) that weights the features before they are pooled.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, cat, nn

from cairn.networks.backbones import as_map, feature_shape, features_of
from cairn.networks.params import AttentionParams


class Branches(NamedTuple):
    """What a photo gives before pooling."""

    features: Tensor  # weighted, of the backbone's own shape
    scores: Tensor  # logits of the attention branch [batch, classes]
    attention: Tensor  # M [batch, 1, height, width], in (0, 1)


MOST_CLASSES = 5000  # the branch weighs each class's map against each other's


class AttentionBranch(nn.Module):
    """Two 3x3 convolutions, BatchNorm, a map per class, ReLU; from these the class scores and M."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, classes, 1),
            nn.ReLU(),
        )
        self.score = nn.Conv2d(classes, classes, 1)
        self.map = nn.Sequential(nn.Conv2d(classes, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def attention(self, features: Tensor) -> Tensor:
        """M [batch, 1, height, width] of features [batch, channels, height, width]."""
        return self.map(self.shared(features))  # type: ignore[no-any-return]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores [batch, classes] (the global average of a 1x1 convolution), and M."""
        shared = self.shared(features)
        return self.score(shared).mean(dim=(2, 3)), self.map(shared)


class AttentionBackbone(nn.Module):
    """A timm backbone whose `forward_features` are weighted by M: an embedder takes it in the backbone's place.

    Of tokens, the patches are folded into a square map; class and register tokens pass through unchanged.
    Raises ValueError for more than MOST_CLASSES.
    """

    def __init__(self, backbone: nn.Module, image_size: int, classes: int, params: AttentionParams) -> None:
        super().__init__()
        if classes > MOST_CLASSES:
            raise ValueError(f"train.attention: {classes} landmarks, over its limit of {MOST_CLASSES}; set it to null")
        shape = feature_shape(backbone, image_size)
        self.backbone = backbone
        self.attention = AttentionBranch(shape.channels, params.width or shape.channels, classes)
        self.weighting = params.weighting
        self.num_prefix_tokens = shape.prefix_tokens

    @property
    def cls_token(self) -> Tensor | None:
        """The backbone's class token, by timm's name, if it has one."""
        return getattr(self.backbone, "cls_token", None)

    def branches(self, images: Tensor) -> Branches:
        """All that training wants of images [batch, 3, size, size]. Raises BackboneError as `folded` does."""
        features = features_of(self.backbone, images)
        scores, attention = self.attention(as_map(features, self.num_prefix_tokens))
        return Branches(self._weighted(features, attention), scores, attention)

    def forward_features(self, images: Tensor) -> Tensor:
        """The weighted features alone, shaped as `features_of` gives them; the class scores are not computed."""
        features = features_of(self.backbone, images)
        return self._weighted(features, self.attention.attention(as_map(features, self.num_prefix_tokens)))

    def _weighted(self, features: Tensor, attention: Tensor) -> Tensor:
        weights = 1 + attention if self.weighting == "residual" else attention
        if features.ndim == 4:
            return features * weights
        prefix, patches = features[:, : self.num_prefix_tokens], features[:, self.num_prefix_tokens :]
        return cat([prefix, patches * weights.flatten(2).transpose(1, 2)], dim=1)
