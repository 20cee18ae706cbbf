"""Params of a network's parts. They stand apart from the parts so that params can be read without importing torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PoolingName = Literal["gem", "mean", "class_mean", "flatten", "max_flatten"]
Precision = Literal["fp32", "bf16"]  # of a forward pass; bf16 is torch's autocast
NeckName = Literal["none", "linear", "linear_relu", "linear_prelu", "dropout_linear", "vgg"]


class AttentionParams(BaseModel):
    """How an attention branch is built, and how it is trained beside the embedding."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weighting: Literal["residual", "plain"] = "residual"  # features x (1 + M) as published, or x M
    width: Annotated[int, Field(ge=8, le=8192)] | None = None  # channels of the 3x3 convolutions; none: the backbone's
    loss: Literal["summed", "mixed"] = "summed"  # of `cairn.losses.attention`; mixed uses alpha and beta
    alpha: Annotated[float, Field(ge=0, le=100)] = 0.25  # weight of the attention branch's probabilities
    beta: Annotated[float, Field(gt=0, le=100)] = 1.0  # weight of the perception branch's
