"""A fitted classifier as a torch module, and its export to ONNX."""

import json
import math
import os
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..training._submodel import Submodel


class ProbabilityModule(nn.Module):
    """Map samples to the class probabilities that a fitted classifier predicts.

    It is on the CPU and in evaluation mode.

    Parameters
    ----------
    submodels : list of Submodel
        Fitted submodels, which are copied.
    sample_shape : tuple of int
        (n_features,) or (channels, height, width).
    temperature : float
        Temperature of the probabilities.
    """

    def __init__(
        self,
        submodels: list[Submodel],
        sample_shape: tuple[int, ...],
        temperature: float,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(deepcopy(s.ema_module_) for s in submodels)
        self.sample_shape = sample_shape
        self.temperature = temperature
        self.cpu().eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to probabilities.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            Samples in the units of X, in any shape that `predict_proba` takes.

        Returns
        -------
        probabilities : float32 Tensor of shape (n_samples, n_classes)
        """
        given, expected = tuple(x.shape[1:]), self.sample_shape
        others: list[tuple[int, ...]] = [(math.prod(expected),)]
        if expected[0] == 1:
            others.append(expected[1:])
        if given == (*expected[1:], expected[0]) != expected:
            x = x.permute(0, 3, 1, 2)
        elif given != expected and given not in others:
            raise ValueError(
                f"x has samples of shape {given}, but the classifier was fitted on "
                f"samples of shape {expected}."
            )
        x = x.float().reshape(x.shape[0], *expected)
        each = torch.stack([network(x).log_softmax(dim=1) for network in self.networks])
        # softmax normalizes the sum over the submodels.
        return (each.logsumexp(dim=0) / self.temperature).softmax(dim=1)


def write_onnx(
    module: ProbabilityModule, classes: list, path: str | os.PathLike
) -> None:
    """Write the module to a file of ONNX, with its classes as metadata."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "to_onnx needs the package onnxscript. Install it by pip install "
            "'pnl_sklearn[onnx]'."
        ) from error
    # Two samples, since torch takes a size of 1 for a constant.
    example = torch.zeros(2, *module.sample_shape, dtype=torch.float32)
    axes = [{0: torch.export.Dim("n_samples")}]
    exported = torch.export.export(module, (example,), dynamic_shapes=axes)
    program: Any = torch.onnx.export(
        exported,
        input_names=["X"],
        output_names=["probabilities"],
        dynamic_shapes=axes,
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props["classes"] = json.dumps(classes)
    program.save(path)
