"""The estimator."""

from dataclasses import replace
from functools import partial
from itertools import tee
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

from ..data._inputs import check_inputs
from ..data._sources import chunks, unlabeled_chunks
from ..data._targets import check_targets, known_mask, to_array, warn_of_order
from ..data._training_data import make_training_data
from ..training._callbacks import check_callbacks, named_callbacks
from ..training._checkpoint import TrainingCheckpoint
from ..training._metrics import VALIDATED, warn_of_class_collapse
from ..training._predict import concatenate_predictions, log_probabilities
from ..training._trainer import run
from ..utils._distributed import Processes
from ..utils._pipelines import final_step, with_final_step
from ._networks import (
    build_submodels,
    check_device,
    float32_by_default,
    make_source,
    renew_callbacks,
)
from ._parameters import PARAMETER_CONSTRAINTS, NamedParameters
from ._trainer import build_batches, build_plan, build_prior


class PNLClassifier(NamedParameters, ClassifierMixin, BaseEstimator):
    """Semi-supervised classifier: two networks teach each other what a row is not.

    Both networks, the *submodels*, learn the labeled rows. On unlabeled rows they take
    turns as *student* and *partner*: the partner predicts on a weak view of a row, the
    classes it all but rules out become *pseudo-negative labels* ("this row is not of
    class k"), and the student learns them on a strong view of the same row. Such labels
    are right far more often than pseudo-labels, so that every row can teach.

    Read more in the user guide, which also tells what decides accuracy.

    Parameters
    ----------
    module : {"auto", "mlp", "cnn", "cnn13", "wrn28-2"}, nn.Module class, instance \
            or callable, default="auto"
        Network from a float32 batch to logits of shape (n_rows, n_classes). "auto" is
        :class:`~pnl_sklearn.networks.MLP` for tables and
        :class:`~pnl_sklearn.networks.SmallCNN` for images, "cnn13" the paper's
        :class:`~pnl_sklearn.networks.CNN13`, and "wrn28-2" the
        :class:`~pnl_sklearn.networks.WideResNet` of the field. A class, or another
        callable that returns a module, is given what its signature names of
        ``n_features`` (``in_features``), ``n_channels`` (``in_channels``),
        ``n_classes`` (``num_classes``, ``out_features``) and ``image_shape``. An
        instance is copied for both submodels, which start from its weights; if it has a
        method ``reset_head()``, each copy calls it to draw its last layer anew.
    net_params : dict, default=None
        Further parameters under skorch's names: ``module__hidden``,
        ``optimizer__weight_decay``, ``iterator_train__num_workers`` (for a Dataset),
        ``callbacks__name__parameter``. ``set_params`` and grid searches reach its
        entries by these names.
    image_shape : tuple of int, default=None
        (channels, height, width) of an image. Needed where the rows of a table are
        images, and where the channels of four-dimensional X cannot be told.
    standardize : bool, default=True
        Shift and scale each column, or each channel of images, to mean 0 and standard
        deviation 1 over all rows of X. Sparse rows are scaled only. The first layer of
        both networks does it, so that X stays in its own units everywhere else.
    selection : {"adaptive", "random", "lowest"} or callable, default="adaptive"
        How pseudo-negative labels are chosen: :class:`AdaptiveNegatives`,
        :class:`RandomNegatives` (the paper's), :class:`LowestNegatives`, an object of
        these, or any callable from probabilities (n_rows, n_classes) to a bool mask of
        that shape.
    negative_weight : float, default=1.0
        Weight of the loss of pseudo-negative labels after the ramp-up.
    rampup : float, default=0.3
        Share of the training, from 0 to 1, in which the weights of the unlabeled terms
        rise.
    exchange : {"simultaneous", "alternating"} or None, default="simultaneous"
        Whether at each step both submodels are students of each other, or one is. None:
        nothing is exchanged, each is its own partner (then Dual Student adds nothing).
    companion : {"mean_teacher", "dual_student"}, object or None, default=None
        Consistency loss beside the pseudo-negative labels:
        :class:`~pnl_sklearn.objectives.MeanTeacher`,
        :class:`~pnl_sklearn.objectives.DualStudent`, or an object with the same
        ``guide`` method.
    class_prior : {"auto", "uniform", "labeled"}, array-like, dict or None, \
            default="auto"
        Class distribution that the mean prediction of unlabeled rows is drawn to.
        "auto" is uniform unless the first predictions show that classes are unbalanced;
        it then leaves their frequencies to the predictions. So it keeps classes from
        starving and bears imbalance. "labeled" takes the labels' frequencies. An array
        holds a share for each class, in the order of `classes_`; a dict or Series has
        them by class. None turns the term off.
    balance_weight : float, default=4
        Weight of that term after the ramp-up; "auto" lowers it where there are fewer
        than ten classes, to 0 where some are several times as frequent as others, and
        to a quarter late in training.
    graph_weight : float, default=1.0
        What near neighbors count for when negative labels are chosen. Random walks
        along a graph of neighbors lead from each row to labels, and so to beliefs about
        its class, which are as sure as they were right about the labels. They are drawn
        to `class_prior` the more, the more that tells of the labels, and hardly where
        that would part clusters; their boundaries move to where few rows are, unless
        labels speak against it. Their power of this exponent multiplies the partner's
        predictions, and those of `transduction_`. They are made once a fit, where some
        class has two labels. 0 turns them off.
    graph_features : "auto" or callable, default="auto"
        What rows are near in. "auto": the columns of tables of up to 10,000 rows, and
        :class:`~pnl_sklearn.graph.HOG` of images with one channel, of 16 to 256
        pixels a side and up to 2^27 in all; other images have no neighbors then. A
        callable makes features of shape (n_rows, n_features) of a batch in the units of
        X: ``HOG(deskew=True)`` for handwriting, ``HOG()`` for small or color images
        whose classes differ in shape, or the embedding of a pretrained network (a
        module is asked in evaluation mode). Distances are those of the features as they
        are, of more than 128 those of the first 128 principal components;
        :class:`~pnl_sklearn.graph.DeformableHOG`, and a
        :class:`~pnl_sklearn.graph.Comparer` of your own, choose among the nearest by
        a distance that takes longer. Features are for up to 100,000 rows, and 10
        million pairs of a row and one of the labels, of which a hundred are used, but
        three of each class; beyond these, "auto" does without neighbors.
    weak_view, strong_view : "auto", callable or None, default="auto"
        Views of a float32 batch in the units of X, of the same shape. "auto" is
        :class:`~pnl_sklearn.views.ImageView` for images, without flips and erased parts
        if they have one channel; for tables :class:`~pnl_sklearn.views.NeighborView` as
        the weak and :class:`~pnl_sklearn.views.TableView` as the strong view. None
        leaves the batch as it is.
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer of each submodel.
    lr : float, default=0.002
        Learning rate at the start. It falls to 0 along half a cosine, unless
        `callbacks` hold a :class:`skorch.callbacks.LRScheduler`.
    max_epochs : int, default=10
        Number of epochs.
    steps_per_epoch : int, default=None
        Optimizer steps in an epoch. None: one pass over the unlabeled rows (or over the
        labeled ones, if that takes more steps), but 110 at least.
    batch_size : int, default=64
        Unlabeled rows in a step.
    labeled_batch_size : int, default=16
        Labeled rows in a step.
    ema_decay : float or None, default=0.99
        Decay, a step, of the average of weights that predicts. None predicts with the
        weights themselves.
    class_weight : "balanced", dict or None, default=None
        Weights of classes in the supervised loss, as elsewhere in scikit-learn.
    callbacks : list, default=None
        skorch callbacks, or pairs (name, callback); each submodel gets copies. Of
        what they can monitor there are the columns of `history_`. Those that
        cannot serve two submodels, such as Checkpoint and EpochScoring, are refused.
    validation_fraction : float or None, default=None
        Share of the labeled rows, between 0 and 1, stratified, whose labels are held
        out: they are measured on as `X_val` of `fit` is, and count as unlabeled. Which,
        `random_state` decides: give an int where `warm_start=True` goes on. None holds
        out nothing: labels are few.
    warm_start : bool or "resume", default=False
        True: go on with the submodels of the last fit, for `max_epochs` more, with the
        learning rate falling anew from `lr` and no second ramp-up. "resume": take up
        the last fit, which was interrupted, and train it to its `max_epochs`, its
        schedules and random draws going on where they were; fit anew if there is no
        last fit, and return at once if that has had its epochs.
    device : str, default="auto"
        Where to train and predict: "auto" is "cuda" if there is one, else "cpu"; with
        an accelerator, what it chose.
    accelerator : accelerate.Accelerator or None, default=None
        Trains in all processes that ``torchrun`` or ``accelerate launch`` started, on
        several GPUs or machines. All call `fit` with the same X and y, and each draws
        `batch_size` and `labeled_batch_size` rows of its own at a step; all end with
        the same networks. Clones share the accelerator, pickles leave it out.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes convolutions and linear layers in that type, by torch's
        autocast; weights, losses and averages stay float32. It is faster for large
        networks on GPUs, and on CPUs that multiply matrices of it (AMX). It is settled
        when the networks are built, not by later fits that go on with them.
    compile : bool or "auto", default="auto"
        Whether a CUDA device is prepared for the steps of a fit, which are then faster.
        "auto": steps are recorded as CUDA graphs and replayed, where the network and
        all else are of this package, so that each does the same operations; the user
        guide has the exceptions. True: also where network, views or selection are your
        own, which then have to do so; and layers are compiled by torch.compile, which
        takes half a minute. False: neither. CPUs are not concerned.
    random_state : int, RandomState instance or None, default=None
        Governs initial weights, batches, selections, views and dropout.
    verbose : int, default=0
        1 prints a line an epoch, and one where near neighbors of many rows take long.
    classes : array-like, default=None
        All classes, in the order wanted, where y may lack some. None: those in y,
        sorted.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The classes, in the order of the columns of `predict_proba`.
    n_features_in_ : int
        Number of columns; of images, of values in one.
    feature_names_in_ : array of str
        Names of the columns, where X has them.
    input_shape_ : tuple of int
        (n_features,) or (channels, height, width).
    submodels_ : list of two skorch.NeuralNet
        The fitted submodels.
    history_ : list of dict
        One row an epoch: ``epoch``, ``train_loss``, ``supervised_loss``,
        ``negative_loss``, ``balance_loss``, ``consistency_loss`` (of the companion; 0
        without one), ``teacher_student_agreement`` (share of unlabeled rows on whose class the
        student's strong and the partner's weak view agree),
        ``negative_coverage`` (share of unlabeled rows with a pseudo-negative label),
        ``class_distribution`` (mean prediction, a list) and ``class_coverage`` (the
        coverage of the rows that the partner takes for each class, a list), each the
        mean over the epoch, and ``negative_weight`` at its end and ``seconds``. What
        the partner says has neighbors weighed in, if any (`graph_weight`). Without
        unlabeled rows the last four of the means are NaN. With `X_val` or
        `validation_fraction` also ``valid_loss`` (the mean cross-entropy, in nats),
        ``valid_accuracy`` and ``valid_negative_precision`` (the share of pseudo-negative
        labels that are right; NaN where there are none), of what predicts, without
        neighbors. Where a callback monitors it also ``label_change``, the share of
        unlabeled rows whose predicted class is another than an epoch before; NaN in the
        first.
    n_iter_ : int
        Number of epochs trained.
    transduction_ : array of shape (n_samples,)
        Labels of all rows of the X of `fit`, and then of its `X_unlabeled`: those
        given, and those predicted for the unlabeled rows, never one that
        `negative_labels` exclude. What neighbors tell is weighed in, if it was in
        training (`graph_weight`), so that some may differ from those of `predict`,
        which knows no neighbors. Not set for a Dataset.

    See Also
    --------
    supervised_baseline : The same classifier without what unlabeled rows add.
    sklearn.semi_supervised.LabelSpreading : Spreads labels over a graph of the rows.
    sklearn.semi_supervised.SelfTrainingClassifier : Trains a classifier on its own
        confident predictions.

    References
    ----------
    H. Xu, H. Xiao, H. Hao, L. Dong, X. Qiu and C. Peng, "Semi-Supervised Learning with
    Pseudo-Negative Labels for Image Classification", Knowledge-Based Systems 260, 2023,
    arXiv 2301.03976.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from pnl_sklearn import PNLClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> y_few = np.full_like(y, -1)
    >>> y_few[::10] = y[::10]  # labels for 15 of 150 flowers
    >>> classifier = PNLClassifier(max_epochs=2, random_state=0).fit(X, y_few)
    >>> bool(classifier.score(X, y) > 0.8)
    True
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
        consistency=None,
        class_prior="auto",
        balance_weight=4,
        graph_weight=1.0,
        graph_features="auto",
        weak_view="auto",
        strong_view="auto",
        optimizer=torch.optim.AdamW,
        lr=0.002,
        max_epochs=10,
        steps_per_epoch=None,
        batch_size=64,
        labeled_batch_size=16,
        ema_decay=0.99,
        class_weight=None,
        callbacks=None,
        validation_fraction=None,
        warm_start=False,
        device="auto",
        accelerator=None,
        precision="float32",
        compile="auto",
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
        self.consistency = consistency
        self.class_prior = class_prior
        self.balance_weight = balance_weight
        self.graph_weight = graph_weight
        self.graph_features = graph_features
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
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.accelerator = accelerator
        self.precision = precision
        self.compile = compile
        self.random_state = random_state
        self.verbose = verbose
        self.classes = classes

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        X_unlabeled=None,
        negative_labels=None,
        unlabeled_weight=None,
        X_val=None,
        y_val=None,
    ):
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
            Labels: whole numbers, bool or strings; -1, "-1", None, NaN, pandas.NA or a
            masked entry where a row is unlabeled.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the labeled rows in the supervised loss, of any scale; neighbors
            do not look at them, but for rows of weight 0, which have no label. Those of
            unlabeled rows are not used.
        X_unlabeled : array-like, sparse matrix, Tensor or Dataset, default=None
            Further unlabeled rows, of the form of X. So y need hold no -1, and what
            splits X and y by folds, such as a grid search with metadata routing, leaves
            them whole. It may be empty. It must not have as many rows as X, or as a
            training part of it: scikit-learn splits what is as long as X. A pipeline
            transforms it if told so, by ``transform_input=["X_unlabeled"]``.
        negative_labels : bool array of shape (n_samples, n_classes), or sequence of \
                collections of labels, default=None
            Classes that a row of X is known not to be of, in the order of `classes_`,
            or by name; an empty collection, or None, where nothing is known. Columns of
            a DataFrame may be named after the classes, in any order.
        unlabeled_weight : array-like of shape (n_samples,), default=None
            How often unlabeled rows are drawn, relative to one another; a row of
            weight 0 never is, and counts for the standardization, the number of steps
            and the neighbors only. For the rows of X, and then those of
            `X_unlabeled`, or for the latter alone. Those of labeled rows are not used.
            :func:`~pnl_sklearn.inspection.check_unlabeled` gives low weights to rows that
            seem to be of no labeled class.
        X_val, y_val : as X and y, default=None
            Labeled rows to measure on at the end of each epoch, not to learn: they add
            ``valid_loss``, ``valid_accuracy`` and ``valid_negative_precision`` to
            `history_`, which callbacks such as EarlyStopping can monitor.

        Returns
        -------
        self : PNLClassifier

        Raises
        ------
        ValueError
            If X, y or a parameter cannot be used, or labels contradict each other; the
            message says how to mend it.
        TypeError
            If X holds objects that are not numbers, or `callbacks` one that is none.
        FloatingPointError
            If a loss became NaN or infinite. The estimator then holds the weights of
            the last epoch whose loss was finite, or those it began with.

        Warns
        -----
        UserWarning
            If Ctrl-C ended the fit; if X, y or `image_shape` can be read in two ways,
            or columns of X vary too little for float32; if `classes` are not sorted; or
            if a fit is taken up with other rows or labels.
        UnlabeledDataWarning
            If predictions of the unlabeled rows have all but given up a class.
        """
        ranks = Processes(self.accelerator)
        codes, classes = check_targets(y, self.classes)
        continues = self._continues(classes)
        if self.classes is not None and not continues:
            warn_of_order(classes)
        seed, n_before = self._begin(continues, ranks)
        n_done = len(self.history_) - n_before
        given = make_training_data(
            self,
            X,
            codes,
            classes,
            reset=not continues,
            seed=seed,
            sample_weight=sample_weight,
            X_unlabeled=X_unlabeled,
            negative_labels=negative_labels,
            unlabeled_weight=unlabeled_weight,
            X_val=X_val,
            y_val=y_val,
        )
        check_callbacks(named_callbacks(self), self._further_columns(given))
        ranks.check_same(given.codes)
        if continues == "resume":
            self._standing.warn_of_others(given)
            if n_done >= self.max_epochs:
                return self
        device = check_device(self.device, ranks)
        self.classes_ = classes
        n_cuda = torch.cuda.device_count() if device.startswith("cuda") else 0
        with torch.random.fork_rng(devices=range(n_cuda)), float32_by_default():
            own_seed = ranks.own_seed(seed)
            rows = make_source(given.inputs, device, self.net_params or {}, own_seed)
            if continues:
                submodels = self.submodels_
            else:
                submodels = build_submodels(self, given.inputs, rows, device, seed)
            torch.manual_seed(own_seed)
            prior = build_prior(self, given.codes, device, ranks)
            batches = build_batches(self, given, rows, device, seed, ranks, prior)
            plan = build_plan(self, given, rows, submodels, ranks)
            if continues == "resume":
                plan = replace(plan, n_done=n_done)
            if n_before:
                plan = replace(plan, rampup=0.0, companion_rampup=0.0)
            if continues and not self._standing.has(self):
                renew_callbacks(self, submodels)
            self._standing.begin(seed, n_before, self, given)
            expected, is_known = prior.prior, not prior.follows
            vars(self).pop("transduction_", None)
            try:
                error = run(
                    submodels, batches, prior, plan, self.history_, self._standing
                )
            finally:
                self.n_iter_ = len(self.history_)
            self.submodels_ = submodels
            if not given.inputs.is_dataset:
                self.transduction_ = self._transduce(given, batches)
        if error is not None:
            raise error
        warn_of_class_collapse(self.history_, expected, is_known, classes, given.codes)
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
        return self._predict_parts(X, torch.exp)

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
        return self._predict_parts(X, lambda part: part)

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
        return self._predict_parts(X, partial(torch.argmax, dim=1), names_classes=True)

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
        labels = np.asarray(y[known].tolist())  # objects get a dtype of their own
        return accuracy_score(labels, predicted[known], sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self):
        # Pickles are read in processes of their own, without Accelerate perhaps.
        return super().__getstate__() | {"accelerator": None}

    def __sklearn_is_fitted__(self):
        return "submodels_" in vars(self)

    def _continues(self, classes):
        """Tell whether, and how, fit goes on with the submodels there are."""
        if not self.warm_start or not self.__sklearn_is_fitted__():
            return False
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start={self.warm_start!r} goes on with classes "
                f"{self.classes_!r}, but y holds {classes!r}. Name all of them by "
                "classes=..., or fit anew."
            )
        return self.warm_start

    def _begin(self, continues, ranks):
        """Return the seed of a fit, and how many epochs of earlier fits are behind it.

        If the last fit is taken up they are its own.
        """
        if continues == "resume":
            return self._standing.seed, self._standing.n_before
        if not continues:
            # A fit that is refused leaves nothing that predicts.
            vars(self).pop("submodels_", None)
            self._standing, self.history_ = TrainingCheckpoint(), []
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        return ranks.of_first(seed), len(self.history_)

    def _further_columns(self, given):
        """Return the columns of `history_` that only some fits have."""
        return VALIDATED if given.held_out is not None else ()

    def _transduce(self, given, batches):
        """Label all rows: as given, or else as predicted, with neighbors weighed in."""
        labels = self.classes_[given.labels]
        device, shape = self.submodels_[0].device, given.inputs.sample_shape
        indices, again = tee(unlabeled_chunks(given.labels, shape, device))
        parts = log_probabilities(self.submodels_, batches.rows, again)
        for index, part in zip(indices, parts, strict=True):
            if batches.log_beliefs is not None:
                part = part + batches.log_beliefs[torch.from_numpy(index).to(device)]
            if given.excluded is not None:
                excluded = torch.from_numpy(given.excluded[index]).to(device)
                part = part.masked_fill(excluded, -torch.inf)
            labels[index] = self.classes_[part.argmax(dim=1).cpu().numpy()]
        return labels

    def _predict_parts(self, X, function, names_classes=False, submodels=None):
        """Return what a function makes of log-probabilities, part by part of the rows.

        They are float64, of the mean of both submodels or of those given. What it makes
        may be the classes' positions, for which their names are returned.
        """
        check_is_fitted(self)
        inputs = check_inputs(self, X, reset=False)
        device, shape = self.submodels_[0].device, inputs.sample_shape
        rows = make_source(inputs, device, self.net_params or {})
        indices = chunks(range(len(inputs)), shape, device)
        parts = log_probabilities(submodels or self.submodels_, rows, indices)
        names = self.classes_ if names_classes else None
        with float32_by_default():
            return concatenate_predictions(map(function, parts), len(inputs), names)


def supervised_baseline(estimator):
    """Return the same estimator with every unlabeled term off.

    It has the same two submodels, weight averages, views of labeled rows and number of
    optimizer steps (unless a callback ends a fit), so that what differs is what the
    unlabeled rows are worth. Give it the same X and y: the unlabeled rows still set the
    standardization, the number of steps, the batches and, in tables, the neighbors of
    the weak view, but no loss. It learns `negative_labels`, which are labels, too.

    Parameters
    ----------
    estimator : PNLClassifier
        Or a pipeline that ends with one.

    Returns
    -------
    twin : PNLClassifier or Pipeline
        Unfitted copy with ``negative_weight=0``, ``balance_weight=0`` and
        ``consistency=None``.

    Examples
    --------
    >>> from pnl_sklearn import PNLClassifier, supervised_baseline
    >>> supervised_baseline(PNLClassifier(random_state=0))
    PNLClassifier(balance_weight=0, negative_weight=0, random_state=0)
    """
    off = {"negative_weight": 0, "balance_weight": 0, "consistency": None}
    return with_final_step(estimator, clone(final_step(estimator)).set_params(**off))
