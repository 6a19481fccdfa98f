"""The estimator."""

from collections.abc import Callable
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
from ..data._sampler import BatchSampler
from ..data._sources import chunks, make_source, unlabeled_chunks
from ..data._targets import known_mask, to_array
from ..data._training_data import make_training_data
from ..training._callbacks import check_callbacks, named_callbacks
from ..training._checkpoint import TrainingCheckpoint
from ..training._metrics import VALIDATED, warn_of_class_collapse
from ..training._predict import concatenate_predictions, log_probabilities
from ..utils._distributed import Processes
from ..utils._pipelines import final_step, with_final_step
from ._networks import (
    build_submodels,
    check_device,
    float32_by_default,
    own_torch_state,
    renew_callbacks,
)
from ._parameters import PARAMETER_CONSTRAINTS, NestedParameters
from ._trainer import build_class_prior, build_trainer, propagate_labels


class PNLClassifier(NestedParameters, ClassifierMixin, BaseEstimator):
    """Semi-supervised classifier: two networks teach each other what a sample is not.

    Both networks, the *submodels*, learn the labeled samples. On unlabeled samples each
    is the *teacher* of the other, its *student*. The teacher predicts on a weak view of
    a sample. Classes that it all but rules out become *pseudo-negative labels* ("this
    sample is not of class k"). The student learns them on a strong view of the same
    sample. Such labels are right far more often than pseudo-labels, so that every
    sample can teach.

    Read more in the user guide.

    Parameters
    ----------
    module : {"auto", "mlp", "cnn", "cnn13", "wrn28-2"}, nn.Module class, instance \
            or callable, default="auto"
        Network from a float32 batch to logits of shape (n_samples, n_classes). "auto"
        is :class:`~pnl_sklearn.networks.MLP` for tables and
        :class:`~pnl_sklearn.networks.SmallCNN` for images. A class or callable gets
        ``n_features``, ``n_classes`` and the like, where its signature names them; an
        instance is copied (see :class:`~pnl_sklearn.networks.ResettableHead`).
    weak_view, strong_view : "auto", View or None, default="auto"
        Random augmentations of a batch, in the units of X. "auto" is
        :class:`~pnl_sklearn.views.ImageView` for images, and
        :class:`~pnl_sklearn.views.NeighborView` and
        :class:`~pnl_sklearn.views.TableView` for tables. None changes nothing.
    selection : {"adaptive", "random", "lowest"}, Selection or callable, \
            default="adaptive"
        Choice of pseudo-negative labels: :class:`AdaptiveNegatives`,
        :class:`RandomNegatives` (the paper's), :class:`LowestNegatives`, or a function
        from probabilities (n_samples, n_classes) to a bool mask. Searched as
        ``selection__tolerance`` and the like.
    class_prior : {"auto", "uniform", "labeled"}, array-like, dict, \
            DistributionAlignment or None, default="auto"
        Class distribution that the mean prediction of unlabeled samples is regularized
        towards. "auto" is uniform unless early predictions show unbalanced classes.
        "labeled" takes the frequencies of the labels; arrays and dicts hold given ones;
        None turns the term off. :class:`DistributionAlignment` has the weight, searched
        as ``class_prior__weight``.
    graph : {"auto"}, GraphPosterior or None, default="auto"
        Class probabilities by label propagation on a graph of nearest neighbors, which
        multiply the teacher's predictions. "auto" is :class:`GraphPosterior` with its
        defaults, searched as ``graph__weight`` and the like. None does without.
    max_epochs : int, default=10
        Number of epochs.
    batch_size : int, default=64
        Unlabeled samples per step.
    lr : float, default=0.002
        Initial learning rate. It falls to 0 along half a cosine, unless `callbacks`
        hold a :class:`skorch.callbacks.LRScheduler`.
    class_weight : "balanced", dict or None, default=None
        Weights of classes in the supervised loss.
    device : str, default="auto"
        Where to train and predict. "auto" is "cuda" if there is one, else "cpu"; with
        an accelerator, its device.
    random_state : int, RandomState instance or None, default=None
        Governs initial weights, batches, selections, views and dropout.
    verbose : int, default=0
        1 prints one line per epoch, and one before a long search of neighbors.

    Other Parameters
    ----------------
    net_params : dict, default=None
        Further parameters under skorch's names: ``module__hidden``,
        ``optimizer__weight_decay``, ``iterator_train__num_workers`` (for a Dataset),
        ``callbacks__name__parameter``. They are searched by these names.
    image_shape : tuple of int, default=None
        (channels, height, width) of an image. Needed where samples are flat, and where
        the channels of four-dimensional X are ambiguous.
    standardize : bool, default=True
        Shift and scale each feature, or each channel of images, to mean 0 and standard
        deviation 1 over all samples of X; sparse samples are scaled only. It is the
        first layer of both networks.
    negative_weight : float, default=1.0
        Weight of the loss of pseudo-negative labels after the ramp-up.
    rampup : float, default=0.3
        Fraction of the training, from 0 to 1, in which the weights of the unlabeled
        terms rise.
    exchange : {"simultaneous", "alternating"} or None, default="simultaneous"
        Whether at each step both submodels are students, or one in turn (the paper's).
        None: each is its own teacher.
    consistency : {"mean_teacher", "dual_student"}, Consistency or None, default=None
        Consistency loss beside the pseudo-negative labels:
        :class:`~pnl_sklearn.objectives.MeanTeacher` or
        :class:`~pnl_sklearn.objectives.DualStudent`.
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer of each submodel.
    steps_per_epoch : int, default=None
        Optimizer steps per epoch. None: one pass over the unlabeled samples (or the
        labeled ones, if that takes more steps), but at least 110.
    labeled_batch_size : int, default=16
        Labeled samples per step.
    ema_decay : float or None, default=0.99
        Decay, per step, of the exponential moving average (EMA) of the weights, which
        predicts. None predicts with the weights themselves.
    callbacks : list, default=None
        skorch callbacks, or pairs (name, callback); each submodel gets copies. They can
        monitor the columns of `history_`. Those that cannot serve two submodels, such
        as Checkpoint and EpochScoring, are refused.
    validation_fraction : float or None, default=None
        Fraction of the labeled samples, between 0 and 1, stratified, whose labels are
        held out for the validation metrics; they count as unlabeled. Give an int
        `random_state` if ``warm_start=True`` goes on.
    warm_start : bool or "resume", default=False
        True: go on from the last fit for `max_epochs` more, with a new learning rate
        schedule and no ramp-up. "resume": finish the last fit, which was interrupted,
        with its schedules and random numbers; fit anew if there is none.
    accelerator : accelerate.Accelerator or None, default=None
        Trains in all processes that ``torchrun`` or ``accelerate launch`` started. All
        call `fit` with the same X and y; each draws `batch_size` and
        `labeled_batch_size` samples of its own per step. Clones share it, pickles leave
        it out.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes convolutions and linear layers in that type, by torch's
        autocast. It is faster for large networks on GPUs and on CPUs with AMX. Settled
        when the networks are built.
    compile : bool or "auto", default="auto"
        "auto": on a CUDA device, steps are captured as CUDA graphs if network, views
        and selection are this package's. True: also if they are your own, and layers
        are compiled by torch.compile. False: neither.
    classes : array-like, default=None
        All classes, in the order wanted, where y may lack some. None: those in y,
        sorted.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The classes, in the order of the columns of `predict_proba`.
    n_features_in_ : int
        Number of features; of images, of values in one.
    feature_names_in_ : array of str
        Names of the features, where X has them.
    input_shape_ : tuple of int
        (n_features,) or (channels, height, width).
    submodels_ : list of two skorch.NeuralNet
        The fitted submodels.
    history_ : list of dict
        One row per epoch: ``epoch``, ``train_loss``, ``supervised_loss``,
        ``negative_loss``, ``balance_loss``, ``consistency_loss``,
        ``teacher_student_agreement`` (fraction of unlabeled samples on whose class the
        student's strong and the teacher's weak view agree), ``negative_coverage``
        (fraction of unlabeled samples with a pseudo-negative label),
        ``class_distribution`` (mean prediction, a list) and ``class_coverage``
        (coverage by the teacher's class, a list), each the mean over the epoch;
        ``negative_weight`` at its end, and ``seconds``. Without unlabeled samples, the
        last four means are NaN. With `X_val` or `validation_fraction` also
        ``valid_loss`` (cross-entropy, in nats), ``valid_accuracy`` and
        ``valid_negative_precision`` (fraction of pseudo-negative labels that are right;
        NaN where there are none), without the graph posterior. Where a callback
        monitors it, also ``label_change``, the fraction of unlabeled samples whose
        predicted class has changed since the epoch before; NaN in the first.
    n_iter_ : int
        Number of epochs trained.
    transduction_ : array of shape (n_samples,)
        Labels of all samples of X, and then of `X_unlabeled`: those given, and those
        predicted for unlabeled samples, never one that `negative_labels` exclude. The
        graph posterior is used here too, so that they may differ from `predict`. Not
        set for a Dataset.

    See Also
    --------
    supervised_baseline : The same classifier with all unlabeled terms off.
    sklearn.semi_supervised.LabelSpreading : Label propagation on a graph.
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
        weak_view="auto",
        strong_view="auto",
        selection="adaptive",
        class_prior="auto",
        graph="auto",
        max_epochs=10,
        batch_size=64,
        lr=0.002,
        class_weight=None,
        device="auto",
        random_state=None,
        verbose=0,
        net_params=None,
        image_shape=None,
        standardize=True,
        negative_weight=1.0,
        rampup=0.3,
        exchange="simultaneous",
        consistency=None,
        optimizer=torch.optim.AdamW,
        steps_per_epoch=None,
        labeled_batch_size=16,
        ema_decay=0.99,
        callbacks=None,
        validation_fraction=None,
        warm_start=False,
        accelerator=None,
        precision="float32",
        compile="auto",
        classes=None,
    ):
        self.module = module
        self.weak_view = weak_view
        self.strong_view = strong_view
        self.selection = selection
        self.class_prior = class_prior
        self.graph = graph
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.class_weight = class_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params
        self.image_shape = image_shape
        self.standardize = standardize
        self.negative_weight = negative_weight
        self.rampup = rampup
        self.exchange = exchange
        self.consistency = consistency
        self.optimizer = optimizer
        self.steps_per_epoch = steps_per_epoch
        self.labeled_batch_size = labeled_batch_size
        self.ema_decay = ema_decay
        self.callbacks = callbacks
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.accelerator = accelerator
        self.precision = precision
        self.compile = compile
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
        """Train the two submodels on labeled and unlabeled samples.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs, labeled and unlabeled: a table of shape (n_samples, n_features), or
            images of shape (n_samples, height, width), (n_samples, channels, height,
            width) or (n_samples, height, width, channels), of any integer or floating
            dtype; or a :class:`torch.utils.data.Dataset` of one input per item, or of
            pairs that begin with it. NaN and infinity are refused.
        y : array-like of shape (n_samples,)
            Labels: whole numbers, bool or strings. A sample is unlabeled where y is -1,
            "-1", None, NaN, pandas.NA or a masked entry.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the labeled samples in the supervised loss, of any scale. The
            graph posterior ignores them, except that samples of weight 0 have no label
            there. Those of unlabeled samples are not used.
        X_unlabeled : array-like, sparse matrix, Tensor or Dataset, default=None
            Further unlabeled samples, of the form of X. So y need hold no -1, and what
            splits X and y by folds, such as a grid search with metadata routing, leaves
            them whole. It may be empty. It must not have as many samples as X, or as a
            training part of it: scikit-learn splits what is as long as X. A pipeline
            transforms it if told so, by ``transform_input=["X_unlabeled"]``.
        negative_labels : bool array of shape (n_samples, n_classes), or sequence of \
                collections of labels, default=None
            Classes that a sample of X is known not to be of, in the order of
            `classes_`, or by name; an empty collection, or None, where nothing is
            known. Columns of a DataFrame may be named after the classes, in any order.
        unlabeled_weight : array-like of shape (n_samples,), default=None
            How often unlabeled samples are drawn, relative to one another. A sample of
            weight 0 never is; it still counts for the standardization, the number of
            steps and the graph. For the samples of X, and then those of `X_unlabeled`,
            or for the latter alone. Those of labeled samples are not used.
            :func:`~pnl_sklearn.inspection.check_unlabeled` gives low weights to samples
            that seem to be of no labeled class.
        X_val, y_val : as X and y, default=None
            Labeled samples that are not learned, for metrics at the end of each epoch:
            ``valid_loss``, ``valid_accuracy`` and ``valid_negative_precision`` in
            `history_`, which callbacks such as EarlyStopping can monitor.

        Returns
        -------
        self : PNLClassifier

        Raises
        ------
        ValueError
            If X, y or a parameter cannot be used, or labels contradict each other; the
            message says what to do.
        TypeError
            If X holds objects that are not numbers, or `callbacks` one that is none.
        FloatingPointError
            If a loss became NaN or infinite. The estimator then holds the weights of
            the last epoch whose loss was finite, or those it began with.

        Warns
        -----
        UserWarning
            If Ctrl-C ended the fit; if X, y or `image_shape` can be read in two ways,
            or features of X vary too little for float32; if `classes` are not sorted;
            or if a fit is resumed with other samples or labels.
        UnlabeledDataWarning
            If hardly any unlabeled sample is predicted to be of some class.
        """
        processes = Processes(self.accelerator)
        warm = bool(self.warm_start) and self.__sklearn_is_fitted__()
        seed, n_before = self._begin_fit(warm, processes)
        n_done = len(self.history_) - n_before
        split, *networks, sampler, steps = _spawn_seeds(seed, processes)
        unlabeled = X_unlabeled, negative_labels, unlabeled_weight
        held_out = X_val, y_val
        data = make_training_data(
            self, X, y, sample_weight, *unlabeled, *held_out, reset=not warm, seed=split
        )
        check_callbacks(named_callbacks(self), VALIDATED if data.held_out else ())
        processes.check_same(data.codes)
        if warm and self.warm_start == "resume":
            self._checkpoint.warn_of_other_data(data)
            if n_done >= self.max_epochs:
                return self
        device = check_device(self.device, processes)
        self.classes_ = data.classes
        with own_torch_state(device):
            source = make_source(data.inputs, device, self.net_params, steps)
            submodels = vars(self).get("submodels_") or build_submodels(
                self, data, source, device, networks
            )
            torch.manual_seed(steps)
            prior = build_class_prior(self, data, device, processes)
            graph_posterior = propagate_labels(self, data, source, prior, processes)
            sizes = self.labeled_batch_size, self.batch_size
            batches = BatchSampler(
                source, data, sizes, device, sampler, graph_posterior, processes
            )
            trainer = build_trainer(
                self, data, source, submodels, prior, processes, n_before, n_done
            )
            if warm:  # after all checks: a refused fit changes nothing
                renew_callbacks(self, submodels, self._checkpoint)
            self._checkpoint.start(seed, n_before, self, data)
            vars(self).pop("transduction_", None)
            error = trainer.fit(submodels, batches, self.history_, self._checkpoint)
            self.submodels_ = submodels
            if not data.inputs.is_dataset:
                self.transduction_ = self._transduce(data, batches)
        if error is not None:
            raise error
        warn_of_class_collapse(self.history_, prior, data.classes, data.codes)
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
        return self._map_log_proba(X, torch.exp)

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
        return self._map_log_proba(X, lambda part: part)

    def predict(self, X):
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs of the form given to `fit`.

        Returns
        -------
        labels : array of shape (n_samples,)
            Entries of `classes_`.
        """
        check_is_fitted(self)
        return self._map_log_proba(X, partial(torch.argmax, dim=1), self.classes_)

    def score(self, X, y, sample_weight=None):
        """Return the accuracy on the samples whose target is known.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Inputs of the form given to `fit`.
        y : array-like of shape (n_samples,)
            Labels; unlabeled samples, marked as in `fit`, are left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

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
            raise ValueError(
                "score needs labeled samples, but every target is unlabeled."
            )
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

    @property
    def n_iter_(self):
        """Number of epochs trained."""
        return len(self.history_)

    def _begin_fit(self, warm, processes):
        """Return the seed of a fit, and the number of epochs of earlier fits.

        A resumed fit has those that it was started with.
        """
        if warm and self.warm_start == "resume":
            return self._checkpoint.seed, self._checkpoint.n_before
        if not warm:
            # A fit that is refused leaves nothing that predicts.
            vars(self).pop("submodels_", None)
            self._checkpoint, self.history_ = TrainingCheckpoint(), []
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        return processes.broadcast(seed), len(self.history_)

    def _transduce(self, data, batches):
        """Return given labels, and predictions times the graph posterior elsewhere."""
        labels = self.classes_[data.labels]
        device, shape = self.submodels_[0].device, data.inputs.sample_shape
        indices, again = tee(unlabeled_chunks(data.labels, shape, device))
        parts = log_probabilities(self.submodels_, batches.source, again)
        for index, part in zip(indices, parts, strict=True):
            if batches.log_posterior is not None:
                on_device = torch.from_numpy(index).to(device)
                part = part + batches.log_posterior[on_device]
            if data.excluded is not None:
                excluded = torch.from_numpy(data.excluded[index]).to(device)
                part = part.masked_fill(excluded, -torch.inf)
            labels[index] = self.classes_[part.argmax(dim=1).cpu().numpy()]
        return labels

    def _map_log_proba(
        self, X, function: Callable, names=None, submodels=None
    ) -> np.ndarray:
        """Apply a function to log-probabilities (float64), chunk by chunk.

        They are those of the mean of both submodels, or of those given. The function
        may return class codes, which are replaced by their `names`.
        """
        check_is_fitted(self)
        inputs = check_inputs(self, X, reset=False)
        device, shape = self.submodels_[0].device, inputs.sample_shape
        source = make_source(inputs, device, self.net_params)
        indices = chunks(range(len(inputs)), shape, device)
        parts = log_probabilities(submodels or self.submodels_, source, indices)
        with float32_by_default():
            return concatenate_predictions(map(function, parts), len(inputs), names)

    def _predict_proba_of(self, submodel, X) -> np.ndarray:
        """Return the probabilities of one submodel."""
        return self._map_log_proba(X, torch.exp, submodels=[submodel])


def _spawn_seeds(seed: int, processes: Processes) -> list[int]:
    """Return seeds of the label split, both networks, the batches, and the steps.

    The last one is different in each process.
    """
    states = np.random.SeedSequence(seed).generate_state(4 + processes.count)
    return [int(state) for state in (*states[:4], states[4 + processes.index])]


def supervised_baseline(estimator):
    """Return the same estimator with all unlabeled terms off.

    It has the same two submodels, EMAs, views of labeled samples and number of
    optimizer steps (unless a callback ends a fit). The difference in score to the
    estimator is what the unlabeled samples are worth. Give it the same X and y: the
    unlabeled samples still determine the standardization, the number of steps, the
    batches and, in tables, the neighbors of the weak view, but no loss. It learns
    `negative_labels`, which are labels, too.

    Parameters
    ----------
    estimator : PNLClassifier
        Or a pipeline that ends with one.

    Returns
    -------
    baseline : PNLClassifier or Pipeline
        Unfitted copy with ``negative_weight=0``, ``class_prior=None`` and
        ``consistency=None``.

    Examples
    --------
    >>> from pnl_sklearn import PNLClassifier, supervised_baseline
    >>> supervised_baseline(PNLClassifier(random_state=0))
    PNLClassifier(class_prior=None, negative_weight=0, random_state=0)
    """
    off = {"negative_weight": 0, "class_prior": None, "consistency": None}
    return with_final_step(estimator, clone(final_step(estimator)).set_params(**off))
