"""From the estimator's parameters and its inputs to the parts that `fit` runs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from ._batches import (
    ArrayRows,
    Batches,
    DatasetRows,
    Rows,
    SparseRows,
    moments,
)
from ._graph import class_beliefs, may_believe
from ._inputs import Inputs
from ._material import Material
from ._measures import VALIDATED, of_changes, of_held_out_rows
from ._net_params import argument_names, check_net_params
from ._prior import ClassPrior
from ._ranks import ALONE, Ranks
from ._rounds import Plan
from ._submodel import Submodel
from .companions import COMPANIONS
from .negatives import SELECTIONS
from .networks import MODULES
from .views import View, auto_views, identity

# Rows that the automatic views look at.
_SAMPLE = 1000
# Optimizer steps that an epoch has at least, so that small data train long enough.
_MIN_STEPS = 110
# The least that a class is believed in, by neighbors.
_TINY = 1e-9
# Pixels a side from which on images are large enough for bfloat16 to pay.
_LARGE = 16


def check_device(device: str, ranks: Ranks = ALONE) -> str:
    """Resolve "auto"; refuse a device that this machine does not have."""
    if ranks.device is not None:
        if device not in ("auto", ranks.device, ranks.device.split(":")[0]):
            raise ValueError(
                f"device={device!r} was asked for, but the accelerator trains on "
                f"{ranks.device!r} in this process. Leave device='auto' and let it "
                "choose; Accelerator(cpu=True) chooses the CPU."
            )
        return ranks.device
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.device(device).type
    available: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if kind in available and not available[kind]():
        raise ValueError(
            f"device={device!r} was asked for, but torch finds no {kind} device here. "
            "Use device='auto' for the best one there is."
        )
    return device


def make_rows(
    inputs: Inputs, device: str, net_params: dict[str, Any], seed: int = 0
) -> Rows:
    """Put the inputs behind one interface: index arrays in, batches out."""
    if inputs.is_dataset:
        prefix = "iterator_train__"
        params = {
            name.removeprefix(prefix): value
            for name, value in net_params.items()
            if name.startswith(prefix)
        }
        return DatasetRows(inputs.data, inputs.sample_shape, device, params, seed)
    if sparse.issparse(inputs.data):
        return SparseRows(inputs.data, inputs.sample_shape, device)
    return ArrayRows(inputs.data, inputs.sample_shape, device, inputs.channels_last)


def build_submodels(
    estimator, given: Material, rows: Rows, device: str, seed: int
) -> list[Submodel]:
    """Build the two submodels from one template, seeded apart."""
    inputs, validated = given.inputs, given.held_out is not None
    module, params = _module_and_params(estimator, inputs.sample_shape)
    shift, scale = _standardization(estimator.standardize, inputs, rows)
    submodels = []
    for offset in (1, 2):
        torch.manual_seed(seed + offset)
        submodel = Submodel(
            module,
            shift=shift,
            scale=scale,
            ema_decay=estimator.ema_decay,
            precision=_precision(estimator, inputs.sample_shape, device),
            optimizer=estimator.optimizer,
            lr=estimator.lr,
            max_epochs=estimator.max_epochs,
            callbacks=_cloned_callbacks(estimator.callbacks, validated),
            device=device,
            train_split=None,
            predict_nonlinearity=_softmax,
            verbose=0,
            **params,
        )
        submodels.append(submodel.initialize())
    _check_output(submodels[0], rows, len(inputs), len(estimator.classes_))
    return submodels


def _precision(estimator, shape: tuple[int, ...], device: str) -> str:
    """Resolve "auto" to bfloat16 where that was measured to be faster."""
    if estimator.precision != "auto":
        return estimator.precision
    own_network = not isinstance(estimator.module, str)
    if own_network or len(shape) != 3 or min(shape[1:]) < _LARGE or device != "cpu":
        return "float32"
    return "bfloat16" if has_fast_bfloat16() else "float32"


def has_fast_bfloat16() -> bool:
    """Tell whether the processor's flags promise instructions for bfloat16."""
    flags: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=-1)


def _module_and_params(estimator, shape: tuple[int, ...]) -> tuple[Any, dict[str, Any]]:
    module = estimator.module
    if isinstance(module, str):
        if module == "auto":
            module = "cnn" if len(shape) == 3 else "mlp"
        if module != "mlp" and len(shape) != 3:
            raise ValueError(
                f"module={module!r} needs images, but X is a table. If its rows are "
                "images, give their image_shape=(channels, height, width)."
            )
        module = MODULES[module]
    inferred = {
        ("n_features", "in_features"): math.prod(shape),
        ("n_channels", "in_channels"): shape[0],
        ("n_classes", "num_classes", "out_features"): len(estimator.classes_),
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
        # One kernel for all weights: on a CPU, AdamW's step takes a third of the time.
        params["optimizer__fused"] = True
    net_params = estimator.net_params or {}
    if {"optimizer__foreach", "optimizer__differentiable"} & net_params.keys():
        params.pop("optimizer__fused", None)
    check_net_params(net_params, module, estimator.optimizer, estimator.callbacks)
    return module, params | net_params


def renew_callbacks(estimator, given: Material, submodels: list[Submodel]) -> None:
    """Give submodels that go on the callbacks that the estimator has now."""
    for submodel in submodels:
        submodel.callbacks = _cloned_callbacks(
            estimator.callbacks, given.held_out is not None
        )
        # By hand, since skorch's set_params would initialize those from before.
        submodel.initialize_callbacks()


def _cloned_callbacks(callbacks, validated: bool) -> list:
    """Copy the callbacks, since one instance would be shared by both submodels."""
    cloned = []
    for item in callbacks or []:
        callback = _callback(item)
        monitor = getattr(callback, "monitor", None)
        is_valid = isinstance(monitor, str) and monitor.startswith("valid")
        measured = VALIDATED if validated else ()
        if is_valid and monitor not in measured:
            raise ValueError(
                f"The callback {callback!r} monitors {monitor!r}, but nothing is held "
                "out for validation. Let it monitor 'train_loss' or another column of "
                "history_; or give fit labeled rows as X_val and y_val, or set "
                "validation_fraction: both add "
                f"{', '.join(map(repr, VALIDATED))}."
            )
        callback = clone(callback, safe=False)
        cloned.append((item[0], callback) if isinstance(item, tuple) else callback)
    return cloned


def _callback(item):
    """The callback of an item that is one or a pair (name, callback)."""
    return item[1] if isinstance(item, tuple) else item


def _standardization(
    standardize: bool, inputs: Inputs, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Shift and scale of each column or channel; sparse rows are not centered."""
    if not standardize:
        return torch.zeros(1), torch.ones(1)
    mean, deviation = moments(rows, len(inputs), inputs.sample_shape)
    # What varies by less than rounding does not vary.
    constant = deviation <= 1e-7 * mean.abs()
    scale = torch.where(constant, 1.0, 1 / deviation)
    shift = torch.zeros_like(mean) if isinstance(rows, SparseRows) else mean
    return shift.float().cpu(), scale.float().cpu()


def _check_output(submodel: Submodel, rows: Rows, n_rows: int, n_classes: int) -> None:
    x = next(rows.stream([range(min(2, n_rows))]))
    with torch.no_grad():
        submodel._set_training(False)
        logits = submodel.infer(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
        raise ValueError(
            f"The module has to map a batch to logits of shape (n_rows, {n_classes}), "
            f"got {shape}."
        )
    if logits.shape[1] != n_classes:
        raise ValueError(
            f"The module puts out {logits.shape[1]} columns, but y has {n_classes} "
            "classes. Let its last layer have as many outputs as there are classes."
        )


def build_batches(
    estimator, given: Material, rows: Rows, device: str, seed: int, ranks: Ranks
) -> Batches:
    """Cut the rows into two streams of batches."""
    return Batches(
        rows,
        given.codes,
        given.weights,
        (estimator.labeled_batch_size, estimator.batch_size),
        device,
        np.random.default_rng(seed),
        given.excluded,
        given.chances,
        ranks,
        _log_beliefs(estimator, given, rows),
    )


def _log_beliefs(estimator, given: Material, rows: Rows) -> np.ndarray | None:
    """What neighbors tell of the classes of a table's rows, where negatives use it."""
    weight = estimator.graph_weight
    shape, n_rows = given.inputs.sample_shape, len(given.codes)
    is_used = weight and estimator.negative_weight
    if not is_used or not may_believe(n_rows, shape) or (given.codes >= 0).all():
        return None
    codes = given.codes.copy()
    codes[np.flatnonzero(codes >= 0)[given.weights == 0]] = -1
    beliefs = class_beliefs(rows, shape, codes, len(estimator.classes_))
    return None if beliefs is None else np.float32(weight) * np.log(beliefs.clip(_TINY))


def build_plan(
    estimator, given: Material, rows: Rows, submodels: list[Submodel], ranks: Ranks
) -> Plan:
    """Collect what the training loop needs to know."""
    weak, strong = _views(estimator, given.inputs, rows)
    select = _selection(estimator)
    shape = given.inputs.sample_shape
    measures = []
    if given.held_out is not None:
        inputs, codes = given.held_out
        held_out, device = rows, submodels[0].device
        if inputs is not given.inputs:
            held_out = make_rows(inputs, device, estimator.net_params or {})
        measures.append(of_held_out_rows(held_out, shape, codes, select, device))
    if estimator.tol is not None:
        measures.append(of_changes(rows, shape, given.codes))
    companion = _companion(estimator, submodels[0].ema_decay)
    callbacks = [_callback(item) for item in estimator.callbacks or []]
    no_prior = estimator.class_prior is None
    return Plan(
        select=select,
        weak_view=weak,
        strong_view=strong,
        exchange=estimator.exchange,
        companion=companion,
        negative_weight=estimator.negative_weight,
        balance_weight=0.0 if no_prior else estimator.balance_weight,
        rampup=estimator.rampup,
        companion_rampup=getattr(companion, "rampup", 0.0),
        lr=estimator.lr,
        anneal=not any(isinstance(callback, LRScheduler) for callback in callbacks),
        n_epochs=estimator.max_epochs,
        n_steps=steps_per_epoch(estimator, given.codes, ranks.count),
        verbose=bool(estimator.verbose),
        measures=measures,
        tol=estimator.tol,
        n_iter_no_change=estimator.n_iter_no_change,
        ranks=ranks,
    )


def _selection(estimator) -> Callable[[Tensor], Tensor]:
    selection = estimator.selection
    if isinstance(selection, type):
        raise _of_class("selection", selection)
    return SELECTIONS[selection]() if isinstance(selection, str) else selection


def steps_per_epoch(estimator, codes: np.ndarray, n_ranks: int = 1) -> int:
    """Steps in an epoch: as given, or as many as one pass takes, but enough."""
    if estimator.steps_per_epoch is not None:
        return estimator.steps_per_epoch
    n_labeled = int((codes >= 0).sum())
    return max(
        math.ceil((len(codes) - n_labeled) / (n_ranks * estimator.batch_size)),
        math.ceil(n_labeled / (n_ranks * estimator.labeled_batch_size)),
        _MIN_STEPS,
    )


def _of_class(name: str, given: type) -> ValueError:
    return ValueError(
        f"{name}={given!r} is a class. Give an object of it: {name}={given.__name__}()."
    )


def _companion(estimator, ema_decay: float | None):
    companion = estimator.companion
    if isinstance(companion, str):
        companion = COMPANIONS[companion]()
    if isinstance(companion, type):
        raise _of_class("companion", companion)
    if isinstance(companion, BaseEstimator):
        companion._validate_params()
    if getattr(companion, "needs_average", False) and ema_decay is None:
        raise ValueError(
            f"companion={estimator.companion!r} needs the average of the weights, but "
            "the submodels were built with ema_decay=None. Fit anew with a decay, for "
            "example ema_decay=0.99."
        )
    return companion


def _views(estimator, inputs: Inputs, rows: Rows) -> list[View]:
    given = [estimator.weak_view, estimator.strong_view]
    if "auto" in [view for view in given if isinstance(view, str)]:
        index = np.linspace(0, len(inputs) - 1, min(len(inputs), _SAMPLE)).astype(int)
        automatic = auto_views(next(rows.stream([index])))
        given = [
            auto if isinstance(view, str) else view
            for view, auto in zip(given, automatic, strict=True)
        ]
    if hasattr(given[0], "perturb"):
        raise ValueError(
            f"weak_view={given[0]!r} asks the student, but it is the partner that sees "
            "weak views. Give it as the strong view."
        )
    return [identity if view is None else view for view in given]


def build_prior(estimator, codes: np.ndarray, device: str, ranks: Ranks) -> ClassPrior:
    """Turn `class_prior` into the distribution that mean predictions are drawn to."""
    n_classes = len(estimator.classes_)
    prior = np.full(n_classes, 1 / n_classes)
    given = estimator.class_prior
    if isinstance(given, str):
        if given == "labeled":
            prior = np.bincount(codes[codes >= 0], minlength=n_classes)
    elif given is not None:
        if hasattr(given, "keys"):  # of a dict or a Series
            given = _in_order(given, estimator.classes_)
        prior = np.asarray(given, dtype=float)
        valid = prior.shape == (n_classes,) and np.isfinite(prior).all()
        if not valid or (prior < 0).any() or not prior.sum() > 0:
            raise ValueError(
                f"class_prior={given!r} has to hold one share, not negative, for each "
                f"of the {n_classes} classes."
            )
    shares = torch.as_tensor(prior / prior.sum(), dtype=torch.float32, device=device)
    follows = isinstance(given, str) and given == "auto"
    return ClassPrior(shares, follows, ranks)


def _in_order(shares, classes: np.ndarray) -> list[float]:
    """Return the values of a dict or Series in the order of classes.

    A Series with the default index has them in this order already.
    """
    by_class = dict(shares.items())
    if len(shares) == len(by_class) and set(by_class) == set(classes.tolist()):
        return [by_class[name] for name in classes.tolist()]
    names = list(shares.keys())
    if isinstance(shares, dict) or names != list(range(len(names))):
        raise ValueError(
            f"class_prior has shares of {names}, but the classes are "
            f"{classes.tolist()}. Name each of them once, or give an array in that "
            "order."
        )
    return list(shares)
