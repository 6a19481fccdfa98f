"""Fits with random data and parameters, many of them invalid. Run by ``make fuzz``.

A fit of valid arguments predicts probabilities that sum to 1 and can be pickled. All
other arguments are refused by a check: with a ValueError or a TypeError that is raised
by a statement of this package or of scikit-learn, not by an operation inside.

    python tests/system/random_fits.py 300 0  # number of fits, first seed
"""

import linecache
import pickle
import sys
import traceback
import warnings
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import torch
from scipy import sparse
from skorch.callbacks import (
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
)
from torch import nn
from torch.utils.data import TensorDataset

from pnl_sklearn import AdaptiveNegatives, DistributionAlignment, PNLClassifier
from pnl_sklearn.views import AdversarialView, ImageView, RandAugmentView, TableView

DTYPES = "float64 float32 float16 longdouble bool complex64 >f8 S3 object M8[s] m8[s] "
DTYPES += "uint8 uint16 uint32 uint64 int8 int16 int32 int64"
EXTREMES = [1e-310, 1e-45, 1e-40, 1e-30, 1e-10, 1e10, 1e17, 1e19, 1e30, 3e38, 1e300]


class Normalized(nn.Sequential):
    """Has batch normalization and lazy layers."""

    def __init__(self, n_classes):
        flat = nn.Flatten(), nn.LazyLinear(6), nn.BatchNorm1d(6), nn.ReLU()
        super().__init__(*flat, nn.LazyLinear(n_classes))


def no_network(n_classes):
    return nn.Flatten()


class Draw:
    """Random choices."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def one(self, *values):
        return values[self.rng.integers(len(values))]

    def seldom(self, p=0.1):
        return bool(self.rng.random() < p)

    def shape(self):
        """Return the shape of a sample; images have up to 12 pixels a side."""
        if self.seldom(0.6):
            return (self.one(1, 2, 3, 8, 30),)
        sides = tuple(int(side) for side in self.rng.integers(1, 13, size=2))
        if self.seldom(0.4):
            return sides
        return self.one((3, *sides), (*sides, 3), (1, *sides), (2, *sides))

    def values(self, n, shape):
        """Return samples in three clusters, with the faults of real data."""
        X = self.rng.normal(size=(n, *shape)) + 2 * self.rng.integers(
            3, size=n
        ).reshape(n, *[1] * len(shape))
        kind = self.one(*["normal"] * 9, "bytes", "time", "scale", "mixed", "one")
        if kind == "bytes":
            X = np.abs(X * 40).clip(0, 255).round()
        elif kind == "time":
            X = X.round() + self.one(1.7e9, 1.7e18)
        elif kind == "scale":
            X = X * self.one(*EXTREMES)
        elif kind == "mixed":
            X = X * self.rng.choice(EXTREMES, size=shape)
        elif kind == "one":
            X[...] = self.one(0, 1, 1e30, -1e-40)
        if self.seldom(0.05):
            self.spoil(X)
        return X

    def spoil(self, X):
        """Set values of one or of all samples to a mark."""
        mark = self.one(np.nan, np.inf, *np.finfo(np.float32).max * np.array([1, -1]))
        X[self.one(0, slice(None))] = mark
        return X

    def form(self, X):
        """Return samples as an object that `fit` takes, or nearly."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.seldom(0.3):
                X = X.astype(self.one(*DTYPES.split()))
        choices = [lambda: X] * 9 + [
            X.tolist,
            lambda: list(X),
            lambda: np.asfortranarray(X),
            lambda: X[::-1],
            lambda: np.ma.masked_array(X),
        ]
        if X.ndim == 2:
            names = [f"feature {i}" for i in range(X.shape[1])]
            choices += [
                lambda: pd.DataFrame(X, columns=names),
                lambda: pd.DataFrame(X).convert_dtypes(),
                lambda: pd.DataFrame(X).assign(last=self.one("red", None, pd.NaT, 1)),
                lambda: pl.DataFrame(X, schema=names),
                lambda: sparse.csr_matrix(X),
                lambda: sparse.coo_array(X),
            ]
        if X.dtype.kind in "fiub" and X.dtype.itemsize <= 8 and X.dtype.isnative:
            dtype = self.one(torch.float32, torch.bfloat16, torch.float64, torch.uint8)
            tensor = torch.from_numpy(np.ascontiguousarray(X))
            choices += [lambda: tensor, lambda: tensor.to(dtype)]
            choices += [lambda: TensorDataset(tensor, torch.zeros(len(X)))]
        try:
            return self.one(*choices)()
        except (TypeError, ValueError, pl.exceptions.PolarsError):
            return X  # no such object of this dtype

    def targets(self, n):
        n_classes = int(self.one(2, 2, 3, 3, 3, 8))
        truth = self.rng.permutation(np.arange(n) % n_classes)
        n_labeled = self.one(n_classes, 2 * n_classes, 20, n)
        hidden = np.ones(n, dtype=bool)
        hidden[np.argsort(truth, kind="stable")[:: max(n // n_labeled, 1)]] = False
        y = np.where(hidden, -1, truth)
        names = np.array(list("abcdefgh"))
        if self.seldom(0.15):
            return self.one(
                y.astype(self.one("uint8", "M8[D]", "complex64", "S2")),
                np.where(hidden, self.one("", "unlabeled"), names[truth]),
                np.where(hidden, 5, truth - 1),
                np.where(truth == 0, 0, -1),
                np.full(n, -1),
                y[:-1],
                truth + 0.5,
                None,
            )
        return self.one(
            *[y] * 5,
            torch.from_numpy(y),
            y.astype(np.float32),
            y.tolist(),
            y[:, None],
            np.where(hidden, np.nan, truth),
            np.where(hidden, None, names[truth]),
            np.where(hidden, "-1", names[truth]),
            np.where(hidden, None, truth % 2 == 0),
            pd.Series(np.where(hidden, pd.NA, truth)),
            pd.Categorical.from_codes(y, names[:n_classes]),
        )

    def parameters(self, n_classes):
        """Return a few parameters that are not the default."""
        views = None, TableView(noise=0.2), ImageView(rotation=9), RandAugmentView()
        views += AdversarialView(), abs, "auto"
        choices = {
            "module": self.one(
                "mlp", "cnn", Normalized, Normalized(3), nn.Linear, nn.Linear(8, 3)
            ),
            "weak_view": self.one(*views),
            "strong_view": self.one(*views),
            "selection": self.one("random", "lowest", AdaptiveNegatives(0.9), "none"),
            "class_prior": self.one(
                None,
                "uniform",
                "labeled",
                [1e308, 1e308],
                DistributionAlignment({"a": 1, "b": 2}),
            ),
            "callbacks": self.callbacks(),
            "batch_size": self.one(1, 2, 300),
            "labeled_batch_size": self.one(1, 2, 300),
            "lr": self.one(1e-30, 0.1, 1e3),
            "class_weight": self.one("balanced", {0: 1e308, 1: 0}, {"a": -1}),
            "device": self.one("cpu", "gpu", "meta", "cpu:0", "cuda:7"),
            "image_shape": self.one((1, 2, 4), (3, 5, 2), (4,), [1, 1, 8]),
            "standardize": False,
            "negative_weight": self.one(0, 0.5, 1e3),
            "rampup": self.one(0, 1, 2),
            "exchange": self.one(None, "alternating"),
            "consistency": self.one("mean_teacher", "dual_student"),
            "optimizer": self.one(torch.optim.SGD, torch.optim.RMSprop),
            "ema_decay": self.one(None, 0.0, 1.0),
            "validation_fraction": self.one(0.5, 0.1),
            "precision": "bfloat16",
            "classes": self.one([0, 1, 2], ["b", "a"], list(range(8)), [0, -1]),
            "net_params": self.one(
                {"module__hidden": 4}, {"module__hiden": 4}, {"optimizer__lr": 1}, {}
            ),
        }
        names = self.rng.permutation(sorted(choices))[: self.one(0, 1, 1, 2)]
        return {name: choices[name] for name in names}

    def callbacks(self):
        """Return a list of callbacks."""
        choices = [
            EarlyStopping("train_loss", load_best=True),
            EarlyStopping("valid_loss"),
            EarlyStopping,
            EpochScoring("accuracy"),
            Freezer(self.one("network.0*", "*head*", "*")),
            GradientNormClipping(self.one(0.1, 0)),
            LRScheduler(self.one("WarmRestartLR", "StepLR"), step_size=1),
            PassthroughScoring(self.one("train_loss", "valid_loss"), on_train=True),
            ("log", PrintLog(sink=[].append)),
            "PrintLog",
        ]
        return [self.one(*choices) for _ in range(self.one(0, 1, 1, 2))]

    def fit_parameters(self, n, shape, y):
        weights = self.rng.random(n) * self.one(0, 1, 1, 5e-324, 1e308)
        choices = {
            "sample_weight": self.one(weights, -weights, weights[1:], weights * np.nan),
            "unlabeled_weight": self.one(weights, -weights, weights[1:], "a", 1.0),
            "X_unlabeled": self.form(self.values(self.one(1, 7, n), shape)),
            "negative_labels": self.one(
                self.rng.random((n, 3)) < 0.2,
                [["a"]] * n,
                [[0]] * n,
                [None] * n,
                [1] * n,
            ),
            "X_val": self.form(self.values(n, shape)),
        }
        names = self.rng.permutation(sorted(choices))[: self.one(0, 0, 0, 1)]
        chosen = {name: choices[name] for name in names}
        return chosen | ({"y_val": y} if "X_val" in chosen else {})


def check_fit(seed):
    """Fit and predict with random arguments; tell whether the fit was not refused.

    Raise
    -----
    AssertionError
        If predictions are no probabilities, or if an error was not raised by a check.
    """
    draw = Draw(seed)
    n, shape = int(draw.one(2, 9, 30, 60)), draw.shape()
    X = draw.values(n, shape)
    y = draw.targets(n)
    params = draw.parameters(3) | {"max_epochs": 1, "steps_per_epoch": 2}
    params |= {} if draw.seldom(0.2) else {"graph": None}
    fit_params = draw.fit_parameters(n, shape, y)
    given = draw.form(X)
    others = [
        draw.form(X[: draw.one(1, n)]),
        draw.form(draw.values(3, shape)),
        draw.form(draw.spoil(X[:2].copy())),
        draw.one(X[:0], X[..., :-1], X[0], "a", None, draw.form(X[None])),
    ]
    estimator = PNLClassifier(random_state=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)  # numpy's overflows
        # Of scikit-learn, which adds all values to find out if one is infinite.
        warnings.filterwarnings("ignore", "invalid value encountered in reduce")
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        if is_refused(lambda: estimator.fit(given, y, **fit_params), params):
            return False
        loaded = pickle.loads(pickle.dumps(estimator))
        assert len(estimator.transduction_) >= n
        assert set(estimator.transduction_) <= set(estimator.classes_)
        for other in [given, *others]:
            is_refused(partial(check_predictions, estimator, loaded, other))
    return True


def check_predictions(estimator, loaded, X):
    probabilities = estimator.predict_proba(X)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(loaded.predict_proba(X), probabilities)
    assert set(estimator.predict(X)) <= set(estimator.classes_)


def is_refused(act, params=()):
    """Tell whether a call is refused by a check; raise other errors."""
    try:
        act()
    except FloatingPointError:
        # Only an excessive learning rate or weight may make a loss infinite.
        assert {"lr", "negative_weight", "standardize", "optimizer"} & set(params)
    except (TypeError, ValueError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        statement = linecache.getline(frame.filename, frame.lineno).strip()
        # Both packages have this in their name.
        by_check = "sklearn" in frame.filename and statement.startswith("raise")
        if not by_check or "np.str_(" in str(error):
            raise AssertionError(f"not raised by a check: {error}") from error
    else:
        return False
    return True


if __name__ == "__main__":
    n_fits, first = map(int, sys.argv[1:])
    failed = []
    for seed in range(first, first + n_fits):
        try:
            check_fit(seed)
        except Exception:
            failed.append(seed)
            print(f"seed {seed}", traceback.format_exc(), sep="\n")
    print(f"{n_fits} fits, {len(failed)} failed: seeds {failed}")
    sys.exit(bool(failed))
