"""The estimator."""

from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
)

from ._batches import Batches, chunks
from ._build import (
    build_plan,
    build_prior,
    build_submodels,
    check_device,
    make_rows,
)
from ._params import PARAMETER_CONSTRAINTS, NamedParameters
from ._rounds import run
from ._submodel import log_probabilities
from ._validation import (
    check_inputs,
    check_targets,
    known_mask,
    labeled_weights,
    to_array,
)


class PNLClassifier(NamedParameters, ClassifierMixin, BaseEstimator):
    """Semi-supervised classifier: two networks teach each other what a row is not.

    DOCSTRING
    """

    _parameter_constraints: ClassVar[dict] = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        module="auto",
        *,
        net_params=None,
        image_shape=None,
        standardize=True,
        selection="adaptive",
        negative_weight=1.0,
        rampup=0.3,
        exchange="simultaneous",
        class_prior="auto",
        balance_weight=0.5,
        weak_view="auto",
        strong_view="auto",
        optimizer=torch.optim.AdamW,
        lr=0.002,
        max_epochs=10,
        steps_per_epoch=None,
        batch_size=128,
        labeled_batch_size=32,
        ema_decay=0.99,
        class_weight=None,
        callbacks=None,
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=0,
        classes=None,
    ):
        self.module = module
        self.net_params = net_params
        self.image_shape = image_shape
        self.standardize = standardize
        self.selection = selection
        self.negative_weight = negative_weight
        self.rampup = rampup
        self.exchange = exchange
        self.class_prior = class_prior
        self.balance_weight = balance_weight
        self.weak_view = weak_view
        self.strong_view = strong_view
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.labeled_batch_size = labeled_batch_size
        self.ema_decay = ema_decay
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.classes = classes

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the two submodels on labeled and unlabeled rows.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs, labeled and unlabeled: a table of shape (n_samples, n_features), or
            images of shape (n_samples, height, width), (n_samples, channels, height,
            width) or (n_samples, height, width, channels), of any integer or floating
            dtype; or a :class:`torch.utils.data.Dataset` of one input an item, or of
            pairs that begin with it. NaN and infinity are refused.
        y : array-like of shape (n_samples,)
            Labels: whole numbers, bool or strings; -1, "-1", None, NaN or pandas.NA
            where a row is unlabeled.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the labeled rows in the supervised loss, of any scale. Those of
            unlabeled rows are not used.

        Returns
        -------
        self : PNLClassifier

        Raises
        ------
        ValueError
            If X, y or a parameter cannot be used; the message says how to mend it.
        TypeError
            If X holds objects that are not numbers.
        FloatingPointError
            If a loss became NaN or infinite. The estimator then holds the weights of
            the last epoch whose loss was finite.
        """
        codes, classes = check_targets(y, self.classes)
        previous = self.submodels_ if self._continues(classes) else None
        inputs = check_inputs(self, X, reset=previous is None)
        check_consistent_length(inputs, codes)
        weights = labeled_weights(codes, classes, sample_weight, self.class_weight)
        device = check_device(self.device)
        self.classes_ = classes
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        n_cuda = torch.cuda.device_count() if device.startswith("cuda") else 0
        with torch.random.fork_rng(devices=range(n_cuda)):
            rows = make_rows(inputs, device, self.net_params or {})
            if previous is None:
                self.history_ = []
                self.submodels_ = build_submodels(self, inputs, rows, device, seed)
            torch.manual_seed(seed)
            sizes = (self.labeled_batch_size, self.batch_size)
            generator = np.random.default_rng(seed)
            batches = Batches(rows, codes, weights, sizes, device, generator)
            plan = build_plan(self, inputs, rows, int((codes < 0).sum()))
            prior = build_prior(self, codes, device)
            error = run(self.submodels_, batches, prior, plan, self.history_)
            self.n_iter_ = len(self.history_)
            if not inputs.is_dataset:
                self.transduction_ = self._transduce(inputs, rows, codes)
        if error is not None:
            raise error
        return self

    def predict_proba(self, X):
        """Return the mean of the two submodels' probabilities.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs of the form given to `fit`.

        Returns
        -------
        probabilities : float64 array of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """Return the logarithm of `predict_proba`, exact for small probabilities.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs of the form given to `fit`.

        Returns
        -------
        log_probabilities : float64 array of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return np.concatenate(list(self._log_proba_parts(X)))

    def predict(self, X):
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs of the form given to `fit`.

        Returns
        -------
        labels : array of shape (n_samples,)
            Entries of `classes_`.
        """
        codes = [part.argmax(axis=1) for part in self._log_proba_parts(X)]
        return self.classes_[np.concatenate(codes)]

    def score(self, X, y, sample_weight=None):
        """Return the accuracy on the rows whose target is known.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs of the form given to `fit`.
        y : array-like of shape (n_samples,)
            Labels; unlabeled rows, marked as in `fit`, are left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        accuracy : float
            Between 0 and 1.

        Raises
        ------
        ValueError
            If no target is known.
        """
        y = to_array(y)
        predicted = self.predict(X)
        check_consistent_length(predicted, y)
        known = known_mask(y)
        if not known.any():
            raise ValueError("score needs labeled rows, but every target is unlabeled.")
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, y)[known]
        labels = y[known].astype(self.classes_.dtype)
        return accuracy_score(labels, predicted[known], sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self):
        return "submodels_" in vars(self)

    def _continues(self, classes):
        """Tell whether fit goes on with the submodels there are."""
        if not self.warm_start or not self.__sklearn_is_fitted__():
            return False
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start=True goes on with classes {self.classes_!r}, but y holds "
                f"{classes!r}. Name all of them by classes=..., or fit anew."
            )
        return True

    def _transduce(self, inputs, rows, codes):
        """Label all rows: as given where labeled, as predicted elsewhere."""
        codes = codes.copy()
        unlabeled = np.flatnonzero(codes < 0)
        indices = chunks(unlabeled, inputs.sample_shape)
        parts = log_probabilities(self.submodels_, rows, indices)
        predicted = [part.argmax(axis=1) for part in parts]
        codes[unlabeled] = np.concatenate([*predicted, unlabeled[:0]])
        return self.classes_[codes]

    def _log_proba_parts(self, X):
        """Yield log-probabilities, float64, of part after part of the rows."""
        check_is_fitted(self)
        inputs = check_inputs(self, X, reset=False)
        rows = make_rows(inputs, self.submodels_[0].device, self.net_params or {})
        indices = chunks(np.arange(len(inputs)), inputs.sample_shape)
        yield from log_probabilities(self.submodels_, rows, indices)


def supervised_twin(estimator):
    """Return the same estimator with every unlabeled term off.

    It has the same two submodels, weight averages, views of labeled rows and number of
    optimizer steps, so that what differs is what the unlabeled rows are worth. Give it
    the same X and y: the unlabeled rows still set the standardization, the number of
    steps and the batches, but no loss.

    Parameters
    ----------
    estimator : PNLClassifier

    Returns
    -------
    twin : PNLClassifier
        Unfitted copy with ``negative_weight=0`` and ``balance_weight=0``.

    Examples
    --------
    >>> from pnl_sklearn import PNLClassifier, supervised_twin
    >>> supervised_twin(PNLClassifier(random_state=0))
    PNLClassifier(balance_weight=0, negative_weight=0, random_state=0)
    """
    return clone(estimator).set_params(negative_weight=0, balance_weight=0)
