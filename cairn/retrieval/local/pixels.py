"""A grey photo at the size that features are looked for in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reduced(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Grey uint8 [height, width] with its longer side made `size` pixels; one that is smaller stays as it is.

    Raises ValueError if the image is not grey bytes.
    """
    import cv2  # the server's environment has none

    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"a photo for local features must be grey uint8 [height, width], not {image.shape}")
    scale = size / max(image.shape)
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
