"""A photo at the size that features are looked for in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reduced(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """RGB uint8 [height, width, 3] with its longer side made `size` pixels; one that is smaller stays as it is.

    Raises ValueError if the image is not RGB bytes.
    """
    import cv2  # slow to import, and most who import this module compare no photos

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a photo for local features must be RGB uint8 [height, width, 3], not {image.shape}")
    scale = size / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
