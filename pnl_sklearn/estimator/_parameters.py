"""What the parameters may be, and how nested ones are read and set."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from numbers import Integral, Real

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch import nn
from torch.utils.data import DataLoader

from ..networks import MODULES
from ..objectives._consistency import CONSISTENCIES
from ..objectives._selection import SELECTIONS

_positive = Interval(Integral, 1, None, closed="left")
_share = Interval(Real, 0, 1, closed="both")
_weight = Interval(Real, 0, None, closed="left")

PARAMETER_CONSTRAINTS: dict = {
    "module": [StrOptions({"auto", *MODULES}), callable],
    "net_params": [dict, None],
    "image_shape": ["array-like", None],
    "standardize": ["boolean"],
    "selection": [StrOptions(set(SELECTIONS)), callable],
    "negative_weight": [_weight],
    "rampup": [_share],
    "exchange": [StrOptions({"simultaneous", "alternating"}), None],
    "consistency": [StrOptions(set(CONSISTENCIES)), HasMethods("guide"), None],
    "class_prior": [
        StrOptions({"auto", "uniform", "labeled"}),
        "array-like",
        dict,
        None,
    ],
    "balance_weight": [_weight],
    "graph_weight": [_weight],
    "graph_features": [StrOptions({"auto"}), callable],
    "weak_view": [StrOptions({"auto"}), callable, None],
    "strong_view": [StrOptions({"auto"}), callable, None],
    "optimizer": [callable],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "max_epochs": [_positive],
    "steps_per_epoch": [_positive, None],
    "batch_size": [_positive],
    "labeled_batch_size": [_positive],
    "ema_decay": [Interval(Real, 0, 1, closed="left"), None],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "callbacks": [list, None],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "warm_start": ["boolean", StrOptions({"resume"})],
    "device": [str],
    "accelerator": [HasMethods(["prepare_model", "free_memory"]), None],
    "precision": [StrOptions({"float32", "bfloat16"})],
    "compile": ["boolean", StrOptions({"auto"})],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "classes": ["array-like", None],
}


_NAMED: dict[str, dict] = {"selection": SELECTIONS, "consistency": CONSISTENCIES}


class NamedParameters:
    """Reads and sets entries of `net_params`, `selection` and `consistency` by name."""

    def get_params(self, deep=True):
        """Return the parameters; if deep, the entries of `net_params` by name too.

        Parameters
        ----------
        deep : bool, default=True
            Also list the parameters of `selection` and of `consistency`, and the entries
            of `net_params`.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        if deep and isinstance(self.net_params, dict):
            params |= self.net_params
        return params

    def set_params(self, **params):
        """Set parameters, also of `selection` and `consistency`, and in `net_params`.

        Parameters
        ----------
        **params : dict
            Besides the constructor's names: ``selection__tolerance`` and the like
            (a selection given by name becomes the object it names), the same of
            `consistency`, and skorch's
            ``module__...``, ``optimizer__...``, ``iterator_train__...`` and
            ``callbacks__...``, which are kept in `net_params`.

        Returns
        -------
        self : PNLClassifier
        """
        net = {n: v for n, v in params.items() if n.startswith(NET_PREFIXES)}
        prefixes = tuple(f"{name}__" for name in _NAMED)
        nested = {n: v for n, v in params.items() if n.startswith(prefixes)}
        own = {n: v for n, v in params.items() if n not in net and n not in nested}
        super().set_params(**own)
        if net:
            self.net_params = (self.net_params or {}) | net
        for name in {n.split("__")[0] for n in nested}:
            value = getattr(self, name)
            if isinstance(value, str) and value in _NAMED[name]:
                setattr(self, name, _NAMED[name][value]())
        super().set_params(**nested)
        return self


NET_PREFIXES = ("module__", "optimizer__", "iterator_train__", "callbacks__")

# What a DataLoader draws batches by, or reads.
_OF_BATCHES = {
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


def argument_names(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters)


def check_net_params(estimator, module) -> None:
    """Refuse names that nothing takes, with the nearest one that is taken.

    Those of callbacks are looked at elsewhere.
    """
    net_params, optimizer = estimator.net_params or {}, estimator.optimizer
    if isinstance(module, nn.Module):
        for name in net_params:
            if name.startswith("module__"):
                raise ValueError(
                    f"net_params holds {name!r}, but module is an instance, which is "
                    "used as it is. Give its class instead, or set it up yourself."
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
    known -= _OF_BATCHES
    for name in net_params:
        if name in _OF_BATCHES:
            raise ValueError(
                f"net_params holds {name!r}, but batches are drawn here. batch_size "
                "and labeled_batch_size, parameters of the estimator, say how large "
                "they are, unlabeled_weight how often a row is drawn."
            )
        if name in estimator.get_params(deep=False):
            raise ValueError(
                f"net_params holds {name!r}, which is a parameter of the estimator "
                f"itself: give {name}=... beside net_params."
            )
        if name not in known and not name.startswith("callbacks__"):
            nearest = get_close_matches(name, known, n=1, cutoff=0)
            raise ValueError(
                f"net_params holds the unknown name {name!r}; did you mean "
                f"{nearest[0]!r}?"
            )
