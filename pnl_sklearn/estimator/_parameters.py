"""Constraints of the parameters, and how nested ones are read and set."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from numbers import Integral, Real
from os import PathLike
from typing import Any

from sklearn.utils._param_validation import HasMethods, Hidden, Interval, StrOptions
from torch import nn
from torch.utils.data import DataLoader

from ..graph._posterior import GraphPosterior
from ..networks import MODULES
from ..objectives._class_prior import DistributionAlignment
from ..objectives._consistency import CONSISTENCIES
from ..objectives._selection import SELECTIONS

_positive = Interval(Integral, 1, None, closed="left")
_fraction = Interval(Real, 0, 1, closed="both")
# `as_object` raises an error that says what to pass.
_class = Hidden(type)

PARAMETER_CONSTRAINTS: dict = {
    "module": [StrOptions({"auto", *MODULES}), callable],
    "weak_view": [StrOptions({"auto"}), callable, None],
    "strong_view": [StrOptions({"auto"}), callable, None],
    "selection": [StrOptions(set(SELECTIONS)), callable],
    "class_prior": [
        StrOptions({"auto", "uniform", "labeled"}),
        "array-like",
        dict,
        DistributionAlignment,
        _class,
        None,
    ],
    "graph": [StrOptions({"auto"}), GraphPosterior, _class, None],
    "max_epochs": [_positive],
    "batch_size": [_positive],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "net_params": [dict, None],
    "image_shape": ["array-like", None],
    "standardize": ["boolean"],
    "negative_weight": [Interval(Real, 0, None, closed="left")],
    "rampup": [_fraction],
    "exchange": [StrOptions({"simultaneous", "alternating"}), None],
    "consistency": [StrOptions(set(CONSISTENCIES)), HasMethods("targets"), None],
    "optimizer": [callable],
    "steps_per_epoch": [_positive, None],
    "labeled_batch_size": [_positive],
    "ema_decay": [Interval(Real, 0, 1, closed="left"), None],
    "callbacks": [list, None],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "warm_start": ["boolean", StrOptions({"resume"})],
    "checkpoint": [str, PathLike, None],
    "accelerator": [HasMethods(["prepare_model", "free_memory"]), None],
    "precision": [StrOptions({"float32", "bfloat16"})],
    "compile": ["boolean", StrOptions({"auto"})],
    "classes": ["array-like", None],
}

# Parameters with nested parameters, and the objects that their strings stand for.
_NESTED: dict[str, Mapping[str, Callable]] = {
    "selection": SELECTIONS,
    "consistency": CONSISTENCIES,
    "graph": {"auto": GraphPosterior},
    "class_prior": {},
}

NET_PREFIXES = ("module__", "optimizer__", "iterator_train__", "callbacks__")

# Arguments of a DataLoader that the batch sampler sets.
_SAMPLER_ARGUMENTS = {
    f"iterator_train__{name}"
    for name in (
        "dataset",
        "batch_size",
        "shuffle",
        "sampler",
        "batch_sampler",
        "drop_last",
    )
}


def as_object(name: str, value) -> Any:
    """Return the object that a nested parameter's value stands for, None for None."""
    if isinstance(value, type):
        raise ValueError(
            f"{name}={value!r} is a class. Pass an instance of it: "
            f"{name}={value.__name__}()."
        )
    if name == "class_prior":
        is_object = value is None or isinstance(value, DistributionAlignment)
        return value if is_object else DistributionAlignment(value)
    if not isinstance(value, str):
        return value
    if value not in _NESTED[name]:
        raise ValueError(
            f"{name}={value!r} is unknown. Use one of {list(_NESTED[name])}."
        )
    return _NESTED[name][value]()


class NestedParameters:
    """Get and set nested parameters, also of values given in short form.

    ``selection="adaptive"`` has the nested parameter ``selection__tolerance``. If it is
    set, the string is replaced by the object that it stands for. Entries of
    `net_params` are parameters, too.
    """

    def get_params(self, deep=True):
        """Get the parameters of the estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include nested parameters, such as ``selection__tolerance``, and
            the entries of `net_params`.

        Returns
        -------
        params : dict
            Names and values of the parameters.
        """
        params = super().get_params(deep=deep)
        if deep:
            for name in _NESTED:
                value = getattr(self, name)
                with suppress(ValueError):  # fit raises it
                    nested = as_object(name, value)
                    if nested is not value:
                        nested = nested.get_params()
                        params |= {f"{name}__{key}": v for key, v in nested.items()}
            if isinstance(self.net_params, dict):
                params |= self.net_params
        return params

    def set_params(self, **params):
        """Set parameters of the estimator.

        Parameters
        ----------
        **params : dict
            Parameters of the constructor, nested parameters such as
            ``selection__tolerance``, and names of skorch, which are stored in
            `net_params`: ``module__...``, ``optimizer__...``, ``iterator_train__...``
            and ``callbacks__...``.

        Returns
        -------
        self : PNLClassifier
            The estimator.

        Raises
        ------
        ValueError
            If a name is unknown, or if a nested parameter of None is set.
        """
        net = {n: v for n, v in params.items() if n.startswith(NET_PREFIXES)}
        prefixes = tuple(f"{name}__" for name in _NESTED)
        nested = {n: v for n, v in params.items() if n.startswith(prefixes)}
        own = {n: v for n, v in params.items() if n not in net and n not in nested}
        super().set_params(**own)
        if net:
            self.net_params = (self.net_params or {}) | net
        for name in {n.split("__")[0] for n in nested}:
            value = as_object(name, getattr(self, name))
            if not hasattr(value, "set_params"):
                keys = [key for key in nested if key.startswith(f"{name}__")]
                raise ValueError(
                    f"{name}={value!r} has no parameters, so {', '.join(keys)} cannot "
                    f"be set. Set {name}, too."
                )
            setattr(self, name, value)
        super().set_params(**nested)
        return self


def argument_names(function: Callable) -> set[str]:
    """Return the names of a function's parameters."""
    return set(inspect.signature(function).parameters)


def check_net_params(estimator, module) -> None:
    """Raise for unknown names in `net_params`, and suggest the most similar known one.

    Names of callbacks are checked with the callbacks.
    """
    net_params, optimizer = estimator.net_params or {}, estimator.optimizer
    if isinstance(module, nn.Module):
        for name in net_params:
            if name.startswith("module__"):
                raise ValueError(
                    f"net_params contains {name!r}, but module is an instance, which "
                    "is copied without changes. Pass its class, or set the parameter "
                    "in the instance."
                )
    owners = {"optimizer__": optimizer, "iterator_train__": DataLoader}
    if not isinstance(module, nn.Module):
        owners["module__"] = module
    known = {"optimizer__param_groups"}
    for prefix, owner in owners.items():
        parameters = inspect.signature(owner).parameters.values()
        known |= {prefix + p.name for p in parameters}
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            known |= {name for name in net_params if name.startswith(prefix)}
    known -= _SAMPLER_ARGUMENTS
    for name in net_params:
        if name in _SAMPLER_ARGUMENTS:
            raise ValueError(
                f"net_params contains {name!r}, but PNLClassifier samples the batches "
                "itself. Set its parameters batch_size and labeled_batch_size, or pass "
                "unlabeled_weight to fit."
            )
        if name in estimator.get_params(deep=False):
            raise ValueError(
                f"net_params contains {name!r}, which is a parameter of the estimator "
                f"itself. Pass {name}=... to PNLClassifier."
            )
        if name not in known and not name.startswith("callbacks__"):
            nearest = get_close_matches(name, known, n=1, cutoff=0)
            raise ValueError(
                f"net_params contains the unknown name {name!r}; did you mean "
                f"{nearest[0]!r}?"
            )
