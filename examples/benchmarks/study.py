"""The study behind the defaults: one setting changed at a time.

``python -m examples.benchmarks digits-20 --first 0 --splits 3 --methods study`` runs it
on one task. Its label splits are those for tuning, not those of reported results.
"""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from pnl_sklearn import (
    AdaptiveNegatives,
    DistributionAlignment,
    GraphPosterior,
    LowestNegatives,
    PNLClassifier,
    RandomNegatives,
)
from pnl_sklearn.estimator._trainer import steps_per_epoch
from pnl_sklearn.networks import MLP, SmallCNN
from pnl_sklearn.objectives import candidate_loss
from pnl_sklearn.views import AdversarialView, ImageView, TableView


class ConfidentPseudoLabels(BaseEstimator):
    """FixMatch's rule as a selection: all other classes, where one exceeds a threshold.

    K. Sohn et al., "FixMatch", NeurIPS 2020.
    """

    loss = staticmethod(candidate_loss)

    def __init__(self, threshold=0.95):
        self.threshold = threshold

    def __call__(self, probabilities):
        """Return the mask of pseudo-negative labels."""
        top = probabilities.max(dim=1, keepdim=True).values
        return (probabilities < top) & (top > self.threshold)


class FirstNetwork(PNLClassifier):
    """Predicts with the first of its two submodels only."""

    def fit(self, X, y, sample_weight=None):
        """Fit both submodels, keep one."""
        super().fit(X, y, sample_weight)
        del self.submodels_[1]
        return self


class FewerUnlabeled(ClassifierMixin, BaseEstimator):
    """Learns all labeled and `n_unlabeled` unlabeled samples, in as many steps."""

    def __init__(self, estimator, n_unlabeled):
        self.estimator = estimator
        self.n_unlabeled = n_unlabeled

    def fit(self, X, y):
        """Drop unlabeled samples, fit a copy."""
        rng = np.random.default_rng(self.estimator.random_state)
        unlabeled = rng.permutation(np.flatnonzero(y < 0))[: self.n_unlabeled]
        kept = np.sort(np.concatenate([np.flatnonzero(y >= 0), unlabeled]))
        n_steps = steps_per_epoch(self.estimator, y)
        self.estimator_ = clone(self.estimator).set_params(steps_per_epoch=n_steps)
        self.estimator_.fit(X[kept], y[kept])
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        """Predict with the copy."""
        return self.estimator_.predict(X)


class Answered(ClassifierMixin, BaseEstimator):
    """Learns further labels or negative labels, as annotators would give them."""

    def __init__(self, estimator, labels=None, negative_labels=None):
        self.estimator = estimator
        self.labels = labels
        self.negative_labels = negative_labels

    def fit(self, X, y):
        """Add the answers, fit a copy."""
        if self.labels is not None:
            y = np.where(self.labels >= 0, self.labels, y)
        self.estimator_ = clone(self.estimator)
        self.estimator_.fit(X, y, negative_labels=self.negative_labels)
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        """Predict with the copy."""
        return self.estimator_.predict(X)


class _TwoPasses:
    """In training, labeled and unlabeled samples take separate passes."""

    n_labeled, n_samples = 16, 80

    def forward(self, x):
        if not self.training or len(x) != self.n_samples:
            return super().forward(x)
        passes = x.tensor_split([self.n_labeled])
        return torch.cat([super(_TwoPasses, self).forward(part) for part in passes])


class TwoPassesCNN(_TwoPasses, SmallCNN):
    """The default network of images, in two passes."""


class TwoPassesMLP(_TwoPasses, MLP):
    """The default network of tables, in two passes."""


def _selections(_default):
    yield "adaptive, tolerance 0.01", {"selection": AdaptiveNegatives(0.01)}
    yield "adaptive, tolerance 0.02", {"selection": AdaptiveNegatives(0.02)}
    yield "adaptive, tolerance 0.1", {"selection": AdaptiveNegatives(0.1)}
    yield "adaptive, tolerance 0.2", {"selection": AdaptiveNegatives(0.2)}
    yield "adaptive, tolerance 0.4", {"selection": AdaptiveNegatives(0.4)}
    for m in (1, 2, 3, 5, 7, 9):
        yield f"random, m = {m}", {"selection": RandomNegatives(m)}
    for m in (2, 5, 8):
        yield f"lowest, m = {m}", {"selection": LowestNegatives(m)}
    yield "pseudo-labels above 0.95", {"selection": ConfidentPseudoLabels()}


def _weights(_default):
    for weight in (0.3, 3.0):
        yield f"weight {weight:g}", {"negative_weight": weight}
    for weight in (3.0, 10.0):
        params = {"negative_weight": weight, "selection": RandomNegatives(2)}
        yield f"random, m = 2, weight {weight:g}", params
    yield "no ramp-up", {"rampup": 0.0}
    yield "ramp-up over 0.8", {"rampup": 0.8}


def _exchanges(default):
    yield "alternating", {"exchange": "alternating"}
    twice = {"exchange": "alternating", "max_epochs": 2 * default.max_epochs}
    yield "alternating, twice the steps", twice
    yield "no exchange", {"exchange": None}


def _alignments(_default):
    yield "no alignment", {"class_prior": None}
    yield "uniform", {"class_prior": "uniform"}
    yield "as labeled", {"class_prior": "labeled"}
    for weight in (1, 16):
        prior = DistributionAlignment(weight=weight)
        yield f"auto, weight {weight}", {"class_prior": prior}
    off = {"class_prior": None}
    yield "no alignment, random, m = 2", off | {"selection": RandomNegatives(2)}
    yield "no alignment, pseudo-labels", off | {"selection": ConfidentPseudoLabels()}


def _consistencies(_default):
    for name in ("mean_teacher", "dual_student"):
        yield name.replace("_", " "), {"consistency": name}


def _emas(_default):
    yield "no EMA", {"ema_decay": None}
    for decay in (0.9, 0.999):
        yield f"decay {decay}", {"ema_decay": decay}


def _image_views(_default):
    def strong(width, erase=0.0):
        return ImageView(
            rotation=20 * width,
            scale=0.15 * width,
            shear=15 * width,
            shift=0.12 * width,
            erase=erase,
            fill=(0.0,),
        )

    yield "weak: identity", {"weak_view": None}
    yield "strong: as weak", {"strong_view": ImageView(5, shift=0.06, fill=(0.0,))}
    yield "strong: half as wide", {"strong_view": strong(0.5)}
    yield "strong: 1.5 times as wide", {"strong_view": strong(1.5)}
    yield "strong: parts erased", {"strong_view": strong(1, erase=0.3)}
    yield (
        "no views, noise 0.3",
        {"weak_view": None, "strong_view": ImageView(noise=0.3)},
    )
    plain = {"weak_view": None, "strong_view": AdversarialView(0.3)}
    yield "no views, adversarial", plain


def _table_views(_default):
    yield "weak: identity", {"weak_view": None}
    yield "strong: identity", {"strong_view": None}
    yield "strong: noise only", {"strong_view": TableView(noise=0.1)}
    for width in (0.05, 0.2):
        view = TableView(noise=width, corruption=width)
        yield f"strong: noise and corruption {width}", {"strong_view": view}
    yield "strong: adversarial", {"strong_view": AdversarialView(0.3)}
    for weight in (0.0, 0.2, 0.5, 2.0):
        graph = GraphPosterior(weight=weight)
        yield f"graph posterior, weight {weight:g}", {"graph": graph}
    alone = {"weak_view": None, "graph": None}
    yield "weak: identity, no graph posterior", alone


def _networks(default, is_table):
    params = default.get_params(deep=False)
    yield "one submodel", FirstNetwork(**params)
    yield "one submodel, no exchange", FirstNetwork(**params | {"exchange": None})
    module = TwoPassesMLP if is_table else TwoPassesCNN
    yield "samples in two passes", clone(default).set_params(module=module)


def _unlabeled(default, y_few):
    n_unlabeled = int((y_few < 0).sum())
    for n in (30, 100, 300, 1000, 3000, 10000):
        if n < n_unlabeled:
            yield f"{n} unlabeled samples", FewerUnlabeled(default, n)


def _answers(default, data):
    """Yield fits with answers on unlabeled samples: labels, or "no" to classes."""
    rng = np.random.default_rng(default.random_state)
    classes = np.unique(data.y)
    unlabeled = rng.permutation(np.flatnonzero(data.y_few < 0))
    # For each sample all wrong classes in random order, which are asked for in turn.
    order = rng.permuted(np.tile(classes, (len(data.y), 1)), axis=1)
    wrong = order[order != data.y[:, None]].reshape(len(data.y), -1)
    for n in (30, 90, 300, 900):
        if n > len(unlabeled):
            continue
        labels = np.full_like(data.y, -1)
        labels[unlabeled[:n]] = data.y[unlabeled[:n]]
        yield f"{n} answers: as many labels", Answered(default, labels=labels)
        for per_sample in (1, 3):
            if per_sample >= len(classes):
                continue
            mask = np.zeros((len(data.y), len(classes)), dtype=bool)
            asked = unlabeled[: n // per_sample, None]
            codes = np.searchsorted(classes, wrong[asked[:, 0], :per_sample])
            mask[asked, codes] = True
            setting = f'{n} answers: {per_sample} "no" on each of {len(asked)} samples'
            yield setting, Answered(default, negative_labels=mask)


# factor -> its title and the parameters of each setting
_CHANGES = {
    "selection": ("Selection of pseudo-negative labels", _selections),
    "weight": ("Weight of the negative loss, ramp-up", _weights),
    "exchange": ("Exchange", _exchanges),
    "balance": ("Distribution alignment", _alignments),
    "consistency": ("Consistency", _consistencies),
    "ema": ("EMA of the weights", _emas),
    "views": ("Views, and the graph posterior of tables", None),
}
FACTORS = {
    **{f"study-{factor}": title for factor, (title, _) in _CHANGES.items()},
    "study-networks": "Networks and passes",
    "study-unlabeled": "Number of unlabeled samples",
    "study-answers": "Answers on further samples",
}

# Settings of a factor that are run on large tasks, where each takes minutes.
_OF_LARGE = {
    "adaptive, tolerance 0.01",
    "adaptive, tolerance 0.2",
    "random, m = 2",
    "random, m = 9",
    "pseudo-labels above 0.95",
    "weight 3",
    "no ramp-up",
    "alternating",
    "no exchange",
    "no alignment",
    "uniform",
    "mean teacher",
    "dual student",
    "no EMA",
    "weak: identity",
    "strong: half as wide",
    "strong: 1.5 times as wide",
    "strong: parts erased",
    "no views, noise 0.3",
    "no views, adversarial",
    "one submodel",
    "samples in two passes",
    "1000 unlabeled samples",
    "10000 unlabeled samples",
    "900 answers: as many labels",
    '900 answers: 1 "no" on each of 900 samples',
}


def variations(factor, default, data, *, is_large=False):
    """Return (setting, estimator) pairs of a factor: the default with one change."""
    pairs = list(_variations(factor, default, data))
    few = [pair for pair in pairs if pair[0] in _OF_LARGE]
    return few if is_large and few else pairs


def _variations(factor, default, data):
    if default.module != "auto" or default.weak_view != "auto":
        raise SystemExit("The study changes the defaults; this task has others.")
    is_table = data.X.ndim == 2
    if factor == "study-networks":
        yield from _networks(default, is_table)
    elif factor == "study-unlabeled":
        yield from _unlabeled(default, data.y_few)
    elif factor == "study-answers":
        yield from _answers(default, data)
    else:
        _, changes = _CHANGES[factor.removeprefix("study-")]
        changes = changes or (_table_views if is_table else _image_views)
        for setting, params in changes(default):
            yield setting, clone(default).set_params(**params)
