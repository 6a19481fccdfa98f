"""What the parameters may be, and how nested ones are read and set."""

from numbers import Integral, Real

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ._net_params import NET_PREFIXES
from .companions import COMPANIONS
from .negatives import SELECTIONS
from .networks import MODULES

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
    "companion": [StrOptions(set(COMPANIONS)), HasMethods("guide"), None],
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


_NAMED: dict[str, dict] = {"selection": SELECTIONS, "companion": COMPANIONS}


class NamedParameters:
    """Reads and sets entries of `net_params`, `selection` and `companion` by name."""

    def get_params(self, deep=True):
        """Return the parameters; if deep, the entries of `net_params` by name too.

        Parameters
        ----------
        deep : bool, default=True
            Also list the parameters of `selection` and of `companion`, and the entries
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
        """Set parameters, also of `selection` and `companion`, and in `net_params`.

        Parameters
        ----------
        **params : dict
            Besides the constructor's names: ``selection__tolerance`` and the like
            (a selection given by name becomes the object it names), the same of
            `companion`, and skorch's
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
