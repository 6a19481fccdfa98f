"""The state of a fit as numpy arrays and plain values, and back, and as a file.

It is the same for pickles, files of skops and checkpoints. It does not depend on the
device, and contains all that predictions, ``warm_start=True`` and
``warm_start="resume"`` need.
"""

import os
import pickle
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import config_context
from skorch.history import History
from torch import Tensor

from ..data._inputs import to_numpy
from ..networks import MODULES
from ..training._checkpoint import TrainingCheckpoint
from ..training._submodel import Submodel
from ._networks import make_submodel, own_torch_state

# Increase it with each change of the state that `restore_fit` could not read.
FORMAT_VERSION = 1

# Beginning of a checkpoint. The checksum of what follows comes next, in four bytes.
_HEADER = b"pnl_sklearn checkpoint\n"
# Parameters that may differ when a fit is resumed.
_FREE = {
    "accelerator",
    "callbacks",
    "checkpoint",
    "compile",
    "device",
    "max_epochs",
    "verbose",
    "warm_start",
}
# Attributes that a fit sets after its last epoch.
_OF_FINISHED_FIT = ("evidence_", "temperature_", "transduction_")


def fit_state(
    submodels: list[Submodel], checkpoint: TrainingCheckpoint
) -> dict[str, Any]:
    """Return the state of a fit, also of one that is not finished.

    Parameters
    ----------
    submodels : list of Submodel
    checkpoint : TrainingCheckpoint

    Returns
    -------
    state : dict
        Dicts, lists and tuples of numpy arrays and plain values. Objects of the user
        are contained as they are: the class of the optimizer, the parameters in
        `net_params`, and the module, unless it is of this package.
    """
    return {
        "format_version": FORMAT_VERSION,
        "submodels": [_submodel_state(submodel) for submodel in submodels],
        "history": list(submodels[0].history),
        "checkpoint": _map(vars(checkpoint), Tensor, to_numpy),
    }


def restore_fit(state: dict[str, Any]) -> tuple[list[Submodel], TrainingCheckpoint]:
    """Build the submodels and the checkpoint from the state of a fit.

    The submodels are on the device of the fit if it is available, else on the CPU.
    torch's random states do not change.

    Parameters
    ----------
    state : dict
        Returned by :func:`fit_state`. It is not changed.

    Returns
    -------
    submodels : list of Submodel
    checkpoint : TrainingCheckpoint

    Raises
    ------
    ValueError
        If it is no state of a fit, of another version, or damaged.
    """
    if not isinstance(state, dict) or "format_version" not in state:
        raise ValueError(
            "Expected the state of a fit of PNLClassifier, a dict with the key "
            f"'format_version', got an object of type {type(state).__name__}. Save the "
            "estimator itself, and load it with the same version of pnl_sklearn."
        )
    version = state["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(
            f"The state of the fit has format version {version!r}, but this version of "
            f"pnl_sklearn reads {FORMAT_VERSION}. Load it with the version of "
            "pnl_sklearn that saved it, or fit again."
        )
    try:
        submodels = [_restore_submodel(each) for each in state["submodels"]]
        history = History(state["history"])
        for submodel in submodels:
            submodel.history_ = history
        checkpoint = TrainingCheckpoint()
        vars(checkpoint).update(_map(state["checkpoint"], np.ndarray, torch.tensor))
    except KeyError as error:
        raise ValueError(
            f"The state of the fit is damaged: it lacks {error}."
        ) from error
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            "The state of the fit is damaged, or its module has changed since it was "
            f"saved: {error}"
        ) from error
    return submodels, checkpoint


def write_checkpoint(
    estimator,
    submodels: list[Submodel],
    checkpoint: TrainingCheckpoint,
    path: str,
    is_finished: bool,
) -> None:
    """Write the state of a fit to a file, all of it or nothing.

    A file that is there is replaced when the new one is complete.
    """
    fitted = {
        name: value
        for name, value in vars(estimator).items()
        if (name.endswith("_") or name == "_value_range")
        and (is_finished or name not in _OF_FINISHED_FIT)
    }
    fitted["submodels_"] = fit_state(submodels, checkpoint)
    content = pickle.dumps({"fitted": fitted, "parameters": _settings(estimator)})
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        file.write(_HEADER + zlib.crc32(content).to_bytes(4, "big"))
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(estimator, path: str) -> dict[str, Any]:
    """Return the fitted attributes that a file holds.

    Raises
    ------
    ValueError
        If the file is no checkpoint, is damaged, or is of a fit with other parameters.
    """
    with open(path, "rb") as file:
        header, checksum, content = file.read(len(_HEADER)), file.read(4), file.read()
    if header != _HEADER:
        raise ValueError(
            f"checkpoint={path!r} is a file that PNLClassifier has not written. Choose "
            "another path."
        )
    if zlib.crc32(content) != int.from_bytes(checksum, "big"):
        raise ValueError(
            f"checkpoint={path!r} is damaged, for example by an incomplete copy. "
            "Delete the file to start a new fit."
        )
    state = pickle.loads(content)
    ours, theirs = _settings(estimator), state["parameters"]
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"checkpoint={path!r} is of a fit with {name}={theirs.get(name)}, but the "
            f"estimator has {name}={ours[name]}. Set the same parameters to resume it, "
            "or delete the file to start a new fit."
        )
    fitted = state["fitted"]
    fitted["submodels_"], fitted["_checkpoint"] = restore_fit(fitted["submodels_"])
    return {"temperature_": 1.0} | fitted


def _settings(estimator) -> dict[str, str]:
    """Return the parameters as strings, without addresses of objects."""
    parameters = estimator.get_params(deep=False)
    if parameters["net_params"]:
        entries = parameters["net_params"].items()
        named = {k: v for k, v in entries if not k.startswith("callbacks__")}
        parameters["net_params"] = named
    with config_context(print_changed_only=True):
        return {
            name: re.sub(" at 0x[0-9a-fA-F]+", "", _describe(value))
            for name, value in parameters.items()
            if name not in _FREE
        }


def _describe(value) -> str:
    """Return equal strings for equal values."""
    if isinstance(value, dict):
        value = dict(sorted(value.items(), key=str)) or None
    elif isinstance(value, np.generic):
        value = value.item()
    text = repr(value)
    is_default = " at 0x" in text and hasattr(value, "__dict__")
    return f"{text} {vars(value)}" if is_default else text


def _submodel_state(submodel: Submodel) -> dict[str, Any]:
    weights = submodel.snapshot()
    if submodel.ema_decay is None:
        del weights["ema_module_"]  # it is the module itself
    module = submodel.module
    return {
        "module": next((n for n, own in MODULES.items() if own is module), module),
        "sample_shape": submodel.sample_shape,
        "ema_decay": submodel.ema_decay,
        "precision": submodel.precision,
        "optimizer": submodel.optimizer,
        "lr": submodel.common_lr_,
        "device": submodel.device,
        "net_params": {
            name: value
            for name, value in vars(submodel).items()
            if name.startswith(("module__", "optimizer__"))
        },
        "weights": _map(weights, Tensor, to_numpy),
    }


def _restore_submodel(state: dict[str, Any]) -> Submodel:
    weights = _map(state["weights"], np.ndarray, torch.tensor)
    buffers, module = weights["module_"], state["module"]
    is_linear = "coef" in buffers
    device = _available(state["device"])
    with own_torch_state(device):
        submodel = make_submodel(
            MODULES[module] if isinstance(module, str) else module,
            shift=buffers["shift"],
            scale=buffers["scale"],
            linear=(buffers["coef"], buffers["intercept"]) if is_linear else None,
            sample_shape=state["sample_shape"],
            ema_decay=state["ema_decay"],
            precision=state["precision"],
            optimizer=state["optimizer"],
            lr=state["lr"],
            device=device,
            **state["net_params"],
        )
    submodel.restore(weights)
    return submodel


def _available(device: str) -> str:
    """Return the device, or the CPU if the device is not available here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # torch may be built without CUDA
        return "cpu"
    return device


def _map(value, kind: type, function: Callable) -> Any:
    """Apply a function to all values of a type in dicts, lists and tuples."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(part, kind, function) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_map(part, kind, function) for part in value)
    return value
