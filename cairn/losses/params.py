"""Params of each loss. They stand apart from the losses so that params can be read without importing torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Margin = Annotated[float, Field(ge=0, lt=3.15)]  # radians


class LossParams(BaseModel):
    """Immutable, and no key but the ones named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ArcFaceParams(LossParams):
    """Deng et al. 2019, arXiv:1801.07698."""

    scale: Annotated[float, Field(gt=0)]
    margin: Margin


class SubCenterParams(LossParams):
    """Deng et al. 2020 (ECCV, "Sub-center ArcFace") with the margins of Ha et al. 2020, arXiv:2010.05350."""

    scale: Annotated[float, Field(gt=0)]
    margin_low: Margin  # of the largest classes
    margin_high: Margin  # of the smallest ones
    centres: Annotated[int, Field(ge=1, le=16)]  # of each class

    @model_validator(mode="after")
    def _in_order(self) -> SubCenterParams:
        if self.margin_high < self.margin_low:
            raise ValueError(f"margin_high {self.margin_high} must be at least margin_low {self.margin_low}")
        return self


class SoftmaxParams(LossParams):
    """Cross-entropy of a linear classifier."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)]  # Szegedy et al. 2016, arXiv:1512.00567


class TripletParams(LossParams):
    """Hermans et al. 2017, arXiv:1703.07737."""

    memory: Annotated[float, Field(ge=0, lt=1)]  # share of a class's running mean that a batch with it leaves in place
