"""Names in `net_params`: which there are, and what is said of others."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches

from torch import nn
from torch.utils.data import DataLoader

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
