"""The embedder as ONNX, in FP32 and in FP16: photos as uint8 in, FP32 unit vectors out, either way."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from cairn.answering.preprocess import Preprocessing
from cairn.files import written_aside
from cairn.networks.embedder import Embedder, mirrored
from cairn.serving.embedding import INPUT, OUTPUT


class HalfEmbedder(nn.Module):
    """The same network in FP16 between an FP32 input and an FP32 unit vector.

    TensorRT 11 takes its types from the graph, so the FP16 graph is what makes the plan FP16.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder: Embedder = copy.deepcopy(embedder).half()

    def forward(self, images: Tensor) -> Tensor:
        """Embed float32 [batch, 3, size, size] as float32 [batch, dimensions]."""
        return mirrored(self._unit, images) if self.embedder.config.mirrored else self._unit(images)

    def _unit(self, images: Tensor) -> Tensor:
        pooled = self.embedder.pooled(images.half())
        return nn.functional.normalize(self.embedder.neck(pooled.half()).float(), dim=1)


class FromPixels(nn.Module):
    """A network behind the normalisation of its input, as `cairn.answering.preprocess.normalise` does it."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, how: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(how.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(how.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """What the network makes of RGB uint8 [batch, size, size, 3]."""
        images = pixels.float().permute(0, 3, 1, 2) / 255  # cast first: TensorRT does nothing else to uint8
        made: Tensor = self.network((images - self.mean) / self.std)
        return made


def write_onnx(network: nn.Module, how: Preprocessing, path: Path, opset: int, max_batch: int) -> None:
    """Write one self-contained, checked file for batches of 1 to `max_batch`; the same network, the same bytes.

    It maps RGB uint8 [batch, size, size, 3], as `cairn.answering.preprocess.pixels` gives them, to what `network` makes
    of them when they are normalised.
    """
    example = torch.zeros(2, how.size, how.size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=max_batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            FromPixels(network, how).eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamic_shapes=({0: batch},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = without_traces(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    with written_aside(path) as aside:
        onnx.save_model(model, str(aside))


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what the exporter notes of this machine: stack traces and source paths."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    return model
