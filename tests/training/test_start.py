"""The start from pretrained features: a half-whitened neck and class means, each recomputed in numpy."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cairn.networks.necks import NECKS
from cairn.training.start import WHITENING, start_neck

FEATURES = (np.random.default_rng(0).normal(size=(400, 6)) * [5, 3, 2, 1, 0.5, 0.2] + 4).astype(np.float32)


def test_the_neck_gives_centred_uncorrelated_dimensions_of_softened_variance() -> None:
    neck = NECKS["linear"](6, 4).eval()
    start_neck(neck, FEATURES)
    out = neck(torch.from_numpy(FEATURES)).detach().numpy()
    variances = np.sort(np.linalg.eigvalsh(np.cov(FEATURES.T, bias=True)))[::-1][:4]
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(
        np.cov(out.T, bias=True), np.diag(variances ** (1 - 2 * WHITENING)), rtol=0.02, atol=0.02
    )


def test_dimensions_that_the_photos_do_not_span_keep_what_else_a_photo_shows() -> None:
    """Two of eight features vary; dimensions 2 to 7 must see the other six, and those beyond eight stay random."""
    neck = NECKS["linear"](8, 10).eval()
    assert isinstance(neck, nn.Sequential)
    flat = np.ones((400, 8), np.float32)
    flat[:, :2] = FEATURES[:, :2]
    before = neck[0].weight[8:].clone()
    start_neck(neck, flat)
    mean = np.var(flat[:, :2], axis=0, dtype=np.float64).mean()
    rows = neck[0].weight[2:8].detach().double().numpy()
    np.testing.assert_allclose(rows @ rows.T, np.eye(6) * mean ** (-2 * WHITENING), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(rows[:, :2], 0, atol=1e-4)
    assert torch.equal(neck[0].weight[8:], before)
    strange = torch.from_numpy(np.concatenate([flat[:1, :2], np.full((1, 6), 3, np.float32)], axis=1))
    seen = (neck(strange) - neck(torch.from_numpy(flat[:1])))[0, 2:8].square().sum().item()
    np.testing.assert_allclose(seen, 6 * 2**2 * mean ** (-2 * WHITENING), rtol=1e-2)


def test_on_a_fake_gpu_a_neck_meets_no_tensor_of_the_cpu() -> None:
    """Of fake tensors it is known where they lie, and nothing is computed: this shows devices, and no numbers."""
    neck = NECKS["linear"](6, 4)
    assert isinstance(neck, nn.Sequential)
    with FakeTensorMode(allow_non_fake_inputs=True):
        start_neck(neck.to("cuda"), FEATURES)
    assert {tensor.device.type for tensor in neck.state_dict().values()} == {"cuda"}
