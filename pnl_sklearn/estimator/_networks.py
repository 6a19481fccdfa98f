"""Building the two submodels from the estimator's parameters and its inputs."""

import fnmatch
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data._inputs import LARGEST, WIDEST, Inputs
from ..data._sources import Source, SparseSource, moments
from ..data._training_data import TrainingData
from ..evidence._linear import LinearModel
from ..networks import MODULES
from ..training._submodel import Submodel
from ..utils._distributed import SINGLE_PROCESS, Processes
from ._parameters import argument_names, check_net_params


class Standardization(NamedTuple):
    """Standardized samples are ``(x - shift) * scale``.

    Parameters
    ----------
    shift, scale : float32 Tensor
        Tensors on the CPU that broadcast against a batch.
    """

    shift: Tensor
    scale: Tensor


def check_device(device: str, processes: Processes = SINGLE_PROCESS) -> str:
    """Return the device that "auto" stands for; raise if it is not available."""
    chosen = processes.device
    if chosen is not None:
        if device not in ("auto", chosen, chosen.split(":")[0]):
            raise ValueError(
                f"device={device!r}, but the device of the accelerator is {chosen!r} "
                "in this process. Use device='auto'. Accelerator(cpu=True) trains on "
                "the CPU."
            )
        return chosen
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r}, but torch finds no {device} device here. Use "
            "device='auto', 'cpu', or 'cuda' for a GPU of NVIDIA or AMD."
        ) from error
    # torch cannot load a pickle of tensors on "cpu:0".
    return "cpu" if torch.device(device).type == "cpu" else device


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Set torch's default dtype to float32, the dtype of batches, until exit."""
    given = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(given)


@contextmanager
def own_torch_state(device: str) -> Iterator[None]:
    """Restore torch's random states and default dtype on exit, and allow gradients."""
    n_cuda = torch.cuda.device_count() if device.startswith("cuda") else 0
    random_states = torch.random.fork_rng(devices=range(n_cuda))
    gradients = torch.inference_mode(False), torch.enable_grad()
    with random_states, float32_by_default(), gradients[0], gradients[1]:
        yield


def build_submodels(
    estimator,
    data: TrainingData,
    source: Source,
    device: str,
    seeds: Sequence[int],
    standardization: Standardization,
    linear: LinearModel | None = None,
) -> list[Submodel]:
    """Build two submodels that differ in their seeds only."""
    inputs, classes = data.inputs, data.classes
    module, params = _module_and_params(estimator, inputs.sample_shape, len(classes))
    shift, scale = standardization
    added = None
    if linear is not None:
        added = tuple(torch.from_numpy(part).float() for part in linear)
    submodels = []
    for seed in seeds:
        torch.manual_seed(seed)
        submodel = make_submodel(
            module,
            shift=shift,
            scale=scale,
            linear=added,
            sample_shape=inputs.sample_shape,
            ema_decay=estimator.ema_decay,
            precision=estimator.precision,
            optimizer=estimator.optimizer,
            lr=estimator.lr,
            max_epochs=estimator.max_epochs,
            device=device,
            **params,
        )
        submodels.append(submodel)
    _check_groups(submodels[0], estimator.net_params or {})
    _check_output(submodels[0], source, len(inputs), len(classes))
    n_unlabeled = estimator.batch_size if (data.codes < 0).any() else 0
    _check_batch_norm(submodels[0], source, n_unlabeled, estimator.labeled_batch_size)
    return submodels


def make_submodel(module, **params) -> Submodel:
    """Return an initialized submodel, without what only skorch's own loop uses."""
    submodel = Submodel(
        module, train_split=None, predict_nonlinearity=_softmax, verbose=0, **params
    )
    return submodel.initialize()


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=-1)


def check_module(estimator, shape: tuple[int, ...]) -> Any:
    """Return the module that a name stands for; check it and `net_params`."""
    module, name = estimator.module, _own_name(estimator.module, shape)
    if name is not None:
        if name != "mlp" and len(shape) != 3:
            raise ValueError(
                f"module={name!r} needs images, but X is a table. If X contains "
                "flattened images, set image_shape=(channels, height, width)."
            )
        module = MODULES[name]
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"module is a {type(module).__name__}, which cannot be copied for a fit. "
            "Pass the nn.Module from which it was compiled."
        )
    check_net_params(estimator, module)
    return module


def _module_and_params(
    estimator, shape: tuple[int, ...], n_classes: int
) -> tuple[Any, dict[str, Any]]:
    module = check_module(estimator, shape)
    inferred = {
        ("n_features", "in_features"): math.prod(shape),
        ("n_channels", "in_channels"): shape[0],
        ("n_classes", "num_classes", "out_features"): n_classes,
        ("image_shape",): shape,
    }
    takes = set() if isinstance(module, nn.Module) else argument_names(module)
    params = {
        f"module__{name}": value
        for names, value in inferred.items()
        for name in names
        if name in takes
    }
    if "fused" in argument_names(estimator.optimizer):
        # One kernel for all weights is faster, also on CPUs.
        params["optimizer__fused"] = True
    net_params = estimator.net_params or {}
    if {"optimizer__foreach", "optimizer__differentiable"} & net_params.keys():
        params.pop("optimizer__fused", None)
    others = {n: v for n, v in net_params.items() if not n.startswith("callbacks__")}
    return module, params | others


def _own_name(module, shape: tuple[int, ...]) -> str | None:
    """Return the name of a network of this package, given by its name or its class.

    "auto" is resolved by the shape of a sample. Returns None for other networks.
    """
    if module == "auto":
        return "cnn" if len(shape) == 3 else "mlp"
    if isinstance(module, str):
        return module
    return next((name for name, own in MODULES.items() if own is module), None)


def contains_linear_model(estimator, data: TrainingData) -> bool:
    """Whether a linear classifier is a part of the networks.

    It is for tables, if all classes have labels: it could not predict the other ones.
    """
    shape, n_classes = data.inputs.sample_shape, len(data.classes)
    is_mlp = len(shape) == 1 and _own_name(estimator.module, shape) == "mlp"
    has_all = np.bincount(data.codes[data.codes >= 0], minlength=n_classes).all()
    # With 10^5 sparse features, dense labeled samples would need too much memory.
    n_values = min(2000, len(data.weights)) * math.prod(shape)
    return is_mlp and bool(has_all) and n_values <= 2**25


def standardizations(
    standardize: bool, inputs: Inputs, source: Source
) -> list[Standardization]:
    """Return the default standardization, and others that held-out labels may choose.

    The first one scales each feature or channel to unit variance. For tables, the
    second one has one scale for all features, which are scaled to a mean variance of 1.
    Sparse data have no shift. Without `standardize` samples are unchanged.
    """
    if not standardize:
        return [Standardization(torch.zeros(1), torch.ones(1))]
    mean, deviation = moments(source, len(inputs), inputs.sample_shape)
    # A standard deviation below rounding errors is 0: the feature is constant.
    deviation = torch.where(deviation <= 1e-7 * mean.abs(), 0.0, deviation)
    _check_moments(mean, deviation)
    shift = torch.zeros_like(mean) if isinstance(source, SparseSource) else mean
    units = [deviation]
    if len(inputs.sample_shape) == 1:
        units.append(deviation.square().mean().sqrt().expand_as(deviation))
    return [
        Standardization(shift.float().cpu(), _inverse(unit).float().cpu())
        for unit in units
    ]


def _check_moments(mean: Tensor, deviation: Tensor) -> None:
    """Raise if a feature or channel is too large or varies too little for float32."""
    inverse = torch.where(deviation > 0, 1 / deviation, 0.0)
    strange = inverse > torch.finfo(torch.float32).max
    # Of arrays all values are checked before.
    strange |= (deviation > WIDEST / 2) | (mean.abs() > LARGEST)
    if strange.any():
        raise ValueError(
            f"A feature or channel of X has mean {mean[strange][0].item():.2g} and "
            f"standard deviation {deviation[strange][0].item():.2g}, which are too "
            "large or too small for dtype('float32'). Rescale X, for example with "
            "sklearn.preprocessing.StandardScaler."
        )


def _inverse(unit: Tensor) -> Tensor:
    return torch.where(unit > 0, 1 / unit, 1.0)


def _check_groups(submodel: Submodel, net_params: dict[str, Any]) -> None:
    """Raise if the pattern of a parameter group matches no parameter."""
    names = [name for name, _ in submodel.get_all_learnable_params()]
    for pattern, _ in net_params.get("optimizer__param_groups", []):
        if not fnmatch.filter(names, pattern):
            raise ValueError(
                f"optimizer__param_groups has the pattern {pattern!r}, which matches "
                f"none of the parameters. Their names are: {', '.join(names)}."
            )


def _check_output(
    submodel: Submodel, source: Source, n_samples: int, n_classes: int
) -> None:
    x = next(source.stream([range(min(2, n_samples))]))
    submodel._set_training(False)
    try:
        with torch.no_grad():
            logits = submodel.infer(x)
    except RuntimeError as error:
        raise ValueError(
            f"The module, a {type(submodel.module_.network).__name__}, failed on a "
            f"float32 batch of shape {tuple(x.shape)}: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
        raise ValueError(
            f"The module must map a batch to logits of shape (n_samples, "
            f"{n_classes}), got {shape}."
        )
    if logits.shape[1] != n_classes:
        raise ValueError(
            f"The module returns {logits.shape[1]} logits per sample, but y has "
            f"{n_classes} classes. The last layer needs one output per class."
        )


def _check_batch_norm(
    submodel: Submodel, source: Source, n_unlabeled: int, n_labeled: int
) -> None:
    """Raise if batch normalization gets a single value per channel in training."""
    name, size = (
        ("batch_size", n_unlabeled)
        if n_unlabeled
        else ("labeled_batch_size", n_labeled)
    )
    if size > 1:
        return
    network = deepcopy(submodel.module_).train()
    with torch.no_grad():
        try:
            network(next(source.stream([range(1)])))
        except ValueError as error:
            if "more than 1 value" not in str(error):
                raise
            raise ValueError(
                f"{name}={size!r} is too small for this module, whose batch "
                f"normalization needs more than one value per channel. Set {name}=2 or "
                "more."
            ) from error
