"""The estimator."""

import os
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from itertools import tee
from pathlib import Path
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

from ..data._inputs import check_inputs, warn_of_scale
from ..data._outliers import clip_outliers
from ..data._sampler import BatchSampler
from ..data._sources import chunks, make_source, unlabeled_chunks
from ..data._targets import known_mask, to_array
from ..data._training_data import make_training_data
from ..objectives._temperature import fit_temperature
from ..training._callbacks import check_callbacks, clone_callback, named_callbacks
from ..training._checkpoint import TrainingCheckpoint
from ..training._metrics import VALIDATED, warn_of_class_collapse
from ..training._predict import (
    concatenate_predictions,
    log_probabilities,
    refuse_nan,
)
from ..utils._distributed import Processes
from ..utils._pipelines import final_step, with_final_step
from ..utils._progress import Progress
from ..utils._sklearn_callbacks import CallbackSupportMixin, FitTasks, with_callbacks
from ._evidence import gather_evidence
from ._export import ProbabilityModule, write_onnx
from ._networks import (
    build_submodels,
    check_device,
    check_module,
    float32_by_default,
    own_torch_state,
)
from ._parameters import PARAMETER_CONSTRAINTS, NestedParameters
from ._state import fit_state, read_checkpoint, restore_fit, write_checkpoint
from ._trainer import FitStart, Observers, build_class_prior, build_trainer


class PNLClassifier(
    NestedParameters, CallbackSupportMixin, ClassifierMixin, BaseEstimator
):
    """Semi-supervised classifier that learns from pseudo-negative labels.

    Two neural networks, the *submodels*, are trained together. Both are trained with
    the labels of the labeled samples. On unlabeled samples, each submodel is the
    *teacher* of the other one, its *student*. The teacher predicts on a weak view
    (augmentation) of a sample. Classes of low predicted probability become
    *pseudo-negative labels* ("the sample is not of class k"). The student is trained
    with them on a strong view of the same sample. Pseudo-negative labels are more often
    correct than pseudo-labels. Samples with uncertain predictions can therefore be
    used, too.

    Read more in the :doc:`user guide </guide/quick_start>`.

    Parameters
    ----------
    module : {"auto", "mlp", "cnn", "cnn13", "wrn28-2"}, nn.Module class, instance \
            or callable, default="auto"
        Network that maps a float32 batch to logits of shape (n_samples, n_classes).
        "auto" is :class:`~pnl_sklearn.networks.MLP` for tables, to whose logits those
        of a logistic regression on the labels are added, and
        :class:`~pnl_sklearn.networks.SmallCNN` for images. A class or callable is
        called with ``n_features``, ``n_channels``, ``n_classes``, ``image_shape``, if
        it has these parameters. An instance is copied. Weights are converted to
        float32. See :doc:`/guide/own_parts`.
    weak_view, strong_view : "auto", View or None, default="auto"
        Random augmentations of a batch, in the units of X. The teacher predicts on the
        weak view, the student learns on the strong view. "auto" chooses both by the
        shape of X, and for tables by `evidence_` (see
        :func:`~pnl_sklearn.views.auto_views`). None leaves the batch unchanged.
    selection : {"adaptive", "random", "lowest"}, Selection or callable, \
            default="adaptive"
        Selection of pseudo-negative labels: :class:`AdaptiveNegatives`,
        :class:`RandomNegatives` (as in the paper) or :class:`LowestNegatives`. A
        callable maps probabilities of shape (n_samples, n_classes) to a bool mask of
        the same shape.
    class_prior : {"auto", "uniform", "labeled"}, array-like, dict, \
            DistributionAlignment or None, default="auto"
        Class distribution towards which the mean prediction of unlabeled samples is
        regularized (see :class:`DistributionAlignment`). "auto" follows the class
        frequencies of the labels if these differ by more than chance. Otherwise it is
        uniform, unless early predictions show unbalanced classes. "labeled" is the
        class frequencies of the labels. An array-like or dict holds class frequencies.
        None turns it off.
    graph : {"auto"}, GraphPosterior or None, default="auto"
        Graph posterior that multiplies the teacher's predictions. It is computed once
        per fit by label propagation on a graph of nearest neighbors. "auto" is a
        :class:`GraphPosterior` with default parameters. None turns it off, and the
        comparison of neighbors with a linear classifier. See :ref:`graph`.
    max_epochs : int, default=10
        Number of epochs. The learning rate schedule and the ramp-up depend on it.
    batch_size : int, default=64
        Number of unlabeled samples per optimizer step.
    lr : float, default=0.002
        Initial learning rate. It decreases to 0 along half a cosine, unless `callbacks`
        contains a :class:`skorch.callbacks.LRScheduler`.
    class_weight : "balanced", dict or None, default=None
        Weights of the classes in the supervised loss. "balanced" gives weights that are
        inversely proportional to the class frequencies of the labels.
    device : str, default="auto"
        Device of training and prediction. "auto" is "cuda" if it is available, else
        "cpu". With an `accelerator`, it is the device of the accelerator.
    random_state : int, RandomState instance or None, default=None
        Determines the random numbers of initial weights, batches, selections, views and
        dropout. Pass an int for reproducible results.
    verbose : int, default=0
        1: show a progress bar with the loss of each epoch, and print `evidence_`.
        2: print one line per epoch instead of the bar. 0: print nothing.

    Other Parameters
    ----------------
    net_params : dict, default=None
        Further parameters, named as in skorch: ``module__hidden``,
        ``optimizer__weight_decay``, ``iterator_train__num_workers`` (if X is a
        Dataset), ``callbacks__name__parameter``.
    image_shape : tuple of int, default=None
        Shape (channels, height, width) of an image. It is needed if X contains
        flattened images, or if the axis of the channels is ambiguous.
    standardize : bool, default=True
        Whether to standardize each feature, or each channel of images, to mean 0 and
        standard deviation 1 over all samples. The features of a table have a common
        scale instead if a linear classifier then predicts held-out labels much better.
        Sparse features are only scaled. The standardization is the first layer of both
        networks. Extreme outliers of a dense table are clipped before, with a warning,
        also if it is False.
    negative_weight : float, default=1.0
        Weight of the loss of pseudo-negative labels after the ramp-up.
    rampup : float, default=0.3
        Fraction of the training, from 0 to 1, in which the weights of the unlabeled
        losses increase.
    exchange : {"simultaneous", "alternating"} or None, default="simultaneous"
        "simultaneous": both submodels are students at each step. "alternating": one
        submodel is the student at each step, and the roles are then swapped. None: each
        submodel is its own teacher.
    consistency : {"mean_teacher", "dual_student"}, Consistency or None, default=None
        Consistency loss that is added to the other losses:
        :class:`~pnl_sklearn.objectives.MeanTeacher`,
        :class:`~pnl_sklearn.objectives.DualStudent` or your own
        :class:`~pnl_sklearn.objectives.Consistency`.
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer. Each submodel has one of its own.
    steps_per_epoch : int, default=None
        Number of optimizer steps per epoch. None is one pass over the unlabeled samples
        (or over the labeled ones, if that takes more steps), but at least 110 steps.
    labeled_batch_size : int, default=16
        Number of labeled samples per optimizer step.
    ema_decay : float or None, default=0.99
        Decay per step of the exponential moving average (EMA) of the weights. A fitted
        submodel predicts with the EMA. If None, it predicts with the last weights.
    callbacks : list, default=None
        skorch callbacks, or pairs (name, callback). They are called once an epoch, with
        a net that contains both submodels, and can monitor the numeric columns of
        `history_`. Clones get copies of callbacks that can be copied. See
        :doc:`/guide/callbacks_and_saving`.
    validation_fraction : float or None, default=None
        Fraction of the labeled samples, between 0 and 1, whose labels are held out for
        validation metrics. The split is stratified. The samples are trained on as
        unlabeled samples. If ``warm_start=True``, pass an int `random_state`, so that
        all fits hold out the same labels.
    warm_start : bool or "resume", default=False
        True: continue the last fit for `max_epochs` more epochs, with a new learning
        rate schedule and without a ramp-up. "resume": finish the last fit if it was
        interrupted, with its schedules and random numbers. Both start a new fit if the
        estimator is not fitted.
    checkpoint : str or path-like, default=None
        File to which the state of the fit is written after each epoch. With
        ``warm_start="resume"``, an estimator that is not fitted resumes the fit of this
        file, if it exists. Otherwise it is replaced. Load only files that you trust,
        since they contain a pickle. See :ref:`checkpoints`.
    accelerator : accelerate.Accelerator or None, default=None
        Trains in all processes that ``torchrun`` or ``accelerate launch`` started. Each
        process calls `fit` with the same X and y, and draws its own batches of
        `batch_size` and `labeled_batch_size` samples. Clones share the accelerator,
        pickles do not contain it. See :doc:`/guide/speed_and_scaling`.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes convolutions and linear layers in bfloat16 (automatic mixed
        precision). It is faster for large networks on GPUs, and on CPUs with AMX. A fit
        that continues with `warm_start` keeps the precision of the first fit.
    compile : bool or "auto", default="auto"
        "auto": on a CUDA device, steps are captured as CUDA graphs if the network, the
        views and the selection are of this package. True: also if they are your own,
        and layers are compiled by :func:`torch.compile`. False: neither. It has no
        effect on other devices.
    classes : array-like, default=None
        All classes, in the order of `classes_`. It is needed if y lacks a class. None
        takes the sorted classes of y.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the columns of `predict_proba`.
    n_features_in_ : int
        Number of features. For images it is the number of values of an image.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features. Defined only if X has feature names that are all strings.
    input_shape_ : tuple of int
        Shape of a sample: (n_features,) or (channels, height, width).
    submodels_ : list of two skorch.NeuralNet
        The fitted submodels.
    history_ : list of dict
        Metrics of each epoch. Losses and fractions are means over the steps of the
        epoch. The columns are:

        - ``epoch``, the number of the epoch, and ``seconds``, its duration;
        - ``train_loss``, the total loss;
        - ``supervised_loss``, ``negative_loss``, ``balance_loss`` and
          ``consistency_loss``, its terms, without ramp-ups, `negative_weight` and the
          weight of `class_prior`;
        - ``negative_weight``, the weight of ``negative_loss`` at the end of the epoch;
        - ``teacher_student_agreement``, the fraction of unlabeled samples for which
          student and teacher predict the same class;
        - ``negative_coverage``, the fraction of unlabeled samples with at least one
          negative label;
        - ``class_distribution``, the mean prediction of unlabeled samples, a list with
          one value per class;
        - ``class_coverage``, the ``negative_coverage`` by class that the teacher
          predicts, a list with one value per class.

        The last four columns are NaN if no sample is unlabeled. With validation samples
        there are three more columns, which do not use the graph posterior:

        - ``valid_loss``, the cross-entropy in nats, without `temperature_`, and
          ``valid_accuracy``;
        - ``valid_negative_precision``, the fraction of pseudo-negative labels that are
          correct. It is NaN if there are none.

        If a callback monitors it, there is also ``label_change``. It is the fraction of
        unlabeled samples whose predicted class has changed since the previous epoch. It
        is NaN in the first epoch of a fit.
    evidence_ : Evidence
        How well a linear classifier and the neighbors predict held-out labels, and what
        followed for the fit. ``print(classifier.evidence_)`` prints a summary.
    temperature_ : float
        Temperature of the predicted probabilities, at least 1. For tables it is chosen
        by the accuracy that held-out labels let expect [1]_. It does not change the
        predicted classes.
    n_iter_ : int
        Number of epochs of training, including earlier fits with `warm_start`.
    transduction_ : ndarray of shape (n_samples,)
        Labels of all samples of X, followed by those of `X_unlabeled`. They are the
        given labels of labeled samples and the predicted labels of unlabeled samples.
        The prediction is multiplied by the graph posterior and is never a class that
        `negative_labels` excludes, so that it may differ from `predict`.

    See Also
    --------
    supervised_baseline : The same classifier without losses of unlabeled samples.
    sklearn.semi_supervised.LabelSpreading : Label propagation on a graph.
    sklearn.semi_supervised.SelfTrainingClassifier : Trains a classifier on its own
        confident predictions.

    Notes
    -----
    Parameters that are objects have nested parameters, such as
    ``selection__tolerance``, ``class_prior__weight``, ``graph__weight`` and
    ``consistency__rampup``. They can be set by `set_params` and searched by
    :class:`~sklearn.model_selection.GridSearchCV`, also if the parameter is given in
    short form, such as ``selection="adaptive"``. The same holds for the entries of
    `net_params`.

    :class:`~sklearn.ensemble.VotingClassifier`,
    :class:`~sklearn.ensemble.BaggingClassifier`,
    :class:`~sklearn.ensemble.StackingClassifier`,
    :class:`~sklearn.multiclass.OneVsRestClassifier` and
    :class:`~sklearn.calibration.CalibratedClassifierCV` learn -1 as a class. Fit them
    to labeled samples, and pass the unlabeled ones as `X_unlabeled`, which all but
    StackingClassifier route to `fit`. See :doc:`/guide/model_selection`.

    References
    ----------
    H. Xu, H. Xiao, H. Hao, L. Dong, X. Qiu and C. Peng, "Semi-Supervised Learning with
    Pseudo-Negative Labels for Image Classification", Knowledge-Based Systems 260, 2023,
    arXiv 2301.03976.

    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern
       Neural Networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from pnl_sklearn import PNLClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> y_few = np.full_like(y, -1)
    >>> y_few[::10] = y[::10]  # labels of 15 of the 150 samples
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
        checkpoint=None,
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
        self.checkpoint = checkpoint
        self.accelerator = accelerator
        self.precision = precision
        self.compile = compile
        self.classes = classes

    @with_callbacks
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
        """Fit the classifier to labeled and unlabeled samples.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Labeled and unlabeled samples, without NaN and infinity. A table has shape
            (n_samples, n_features). Images have shape (n_samples, height, width),
            (n_samples, channels, height, width) or (n_samples, height, width,
            channels). Any bool, integer or floating dtype is converted to float32 batch
            by batch. The items of a :class:`torch.utils.data.Dataset` are samples, or
            tuples that begin with one.
        y : array-like of shape (n_samples,)
            Labels: whole numbers, bools or strings. The values -1, "-1", None, NaN and
            pandas.NA, and masked entries, mark unlabeled samples.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the labeled samples in the supervised loss. They are normalized
            to mean 1. Weights of unlabeled samples are ignored. The graph posterior
            ignores labels of weight 0 and does not use the other weights.
        X_unlabeled : array-like, sparse matrix, Tensor or Dataset, default=None
            Further unlabeled samples, of the same form as X. Cross-validation of
            scikit-learn does not split them (see :doc:`/guide/model_selection`). It
            would split an array that is as long as X, so their number must differ from
            that of X and of its training sets. In a pipeline, use
            ``transform_input=["X_unlabeled"]``.
        negative_labels : bool array of shape (n_samples, n_classes), or sequence of \
                collections of labels, default=None
            Given negative labels: classes that a sample of X is known not to be of. The
            columns of an array are in the order of `classes_`. The columns of a
            DataFrame may be named after the classes, in any order. In a sequence, an
            empty collection or None means that nothing is known about the sample.
        unlabeled_weight : array-like of shape (n_samples,), default=None
            Sampling weights of unlabeled samples, which are then drawn with
            replacement. Samples of weight 0 still count for the standardization, the
            number of steps and the graph. Weights of labeled samples are ignored. With
            `X_unlabeled`, pass the weights of X followed by those of `X_unlabeled`, or
            the latter alone. See :func:`~pnl_sklearn.inspection.check_unlabeled`.
        X_val, y_val : as X and y, default=None
            Validation samples and their labels, which are not trained on. They add
            ``valid_loss``, ``valid_accuracy`` and ``valid_negative_precision`` to
            `history_`. Callbacks such as EarlyStopping can monitor these columns.

        Returns
        -------
        self : PNLClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If X, y or a parameter is invalid, or if labels contradict each other.
        TypeError
            If X contains objects that are not numbers, such as dates, or if an argument
            is of a type that cannot be used, such as a DataLoader as X.
        FloatingPointError
            If a loss becomes NaN or infinite. The estimator then has the weights of the
            last epoch with finite losses, or the initial weights.

        Warns
        -----
        UserWarning
            If the fit is interrupted by Ctrl-C. If the meaning of X, y or `image_shape`
            is ambiguous. If features of X vary too little for float32. If X is a sparse
            matrix of more than 1,000 features. If images of `X_unlabeled` or `X_val`
            are on another scale than those of X, such as 0 to 1. If samples of a table
            have values far beyond those of all others, such as 1e9 among values up to
            16. In this fit, these samples are clipped to the range of the others (not
            if X is sparse or a Dataset). If `classes` is not sorted. If a fit is
            resumed with other samples, labels or weights.
        UnlabeledDataWarning
            If hardly any unlabeled sample is predicted to be of some class (class
            collapse). If neighbors predict held-out labels significantly worse than a
            linear classifier (see `evidence_`).
        """
        processes = Processes(self.accelerator)
        start = self._begin_fit(processes)
        split, *networks, sampler, steps = _spawn_seeds(start.seed, processes)
        unlabeled = X_unlabeled, negative_labels, unlabeled_weight
        given = X, y, sample_weight, *unlabeled, X_val, y_val
        with self._unfitted_after_error(start):
            data = make_training_data(self, *given, reset=not start.is_warm, seed=split)
            callbacks = named_callbacks(self)
            check_callbacks(callbacks, VALIDATED if data.held_out else ())
            processes.check_same(data.codes)
            if start.resumes and self._is_finished(data, start):
                return self
            check_module(self, data.inputs.sample_shape)
            device = check_device(self.device, processes)
        self.classes_ = data.classes
        verbose = self.verbose if processes.index == 0 else 0
        with own_torch_state(device), Progress(verbose) as progress:
            source = make_source(data.inputs, device, self.net_params, steps)
            names = getattr(self, "feature_names_in_", None)
            source = clip_outliers(source, data.inputs, names)
            prior = build_class_prior(self, data, device, processes)
            evidence, scaling, linear, log_posterior = gather_evidence(
                self, data, source, prior, processes
            )
            progress.say(str(evidence).replace("\n", " "))
            submodels = vars(self).get("submodels_") or build_submodels(
                self, data, source, device, networks, scaling, linear
            )
            torch.manual_seed(steps)
            sizes = self.labeled_batch_size, self.batch_size
            batches = BatchSampler(
                source, data, sizes, device, sampler, log_posterior, processes
            )
            write = partial(self._write_checkpoint, submodels, processes, start.path)
            observers = Observers(
                callbacks, progress, FitTasks(self, X, y, submodels), write
            )
            parts = data, source, submodels, prior, evidence, processes
            trainer = build_trainer(self, *parts, observers, start)
            self._checkpoint.start(start.seed, start.n_before, data)
            vars(self).pop("transduction_", None)
            error = trainer.fit(batches, self.history_, self._checkpoint)
            self.submodels_, self.evidence_ = submodels, evidence
            self.temperature_ = self._calibrate(data, source)
            self.transduction_ = self._transduce(data, batches)
        if error is not None:
            raise error
        write(is_finished=True)
        observers.tasks.end()
        evidence.warn()
        warn_of_class_collapse(self.history_, prior, data.classes, data.codes)
        return self

    def predict_proba(self, X):
        """Predict class probabilities: the mean of both submodels.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Samples of the same form as in `fit`.

        Returns
        -------
        probabilities : float64 array of shape (n_samples, n_classes)
            Columns in the order of `classes_`.

        Raises
        ------
        ValueError
            If X is not of the form of that in `fit`, or if a prediction is NaN, since X
            contains very large values.

        Warns
        -----
        UserWarning
            If images are on another scale than those of `fit`, such as 0 to 1.
        """
        return self._map_log_proba(X, torch.exp)

    def predict_log_proba(self, X):
        """Predict logarithms of class probabilities.

        They are accurate for small probabilities, too.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Samples of the same form as in `fit`.

        Returns
        -------
        log_probabilities : float64 array of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return self._map_log_proba(X, lambda part: part)

    def predict(self, X):
        """Predict the most probable class of each sample.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Samples of the same form as in `fit`.

        Returns
        -------
        labels : array of shape (n_samples,)
            Predicted classes, of the dtype of `classes_`.
        """
        check_is_fitted(self)
        return self._map_log_proba(X, partial(torch.argmax, dim=1), self.classes_)

    def score(self, X, y, sample_weight=None):
        """Return the accuracy on the labeled samples.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Dataset
            Samples of the same form as in `fit`.
        y : array-like of shape (n_samples,)
            True labels. Unlabeled samples, marked as in `fit`, are ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        accuracy : float
            Weighted fraction of correct predictions, from 0 to 1.

        Raises
        ------
        ValueError
            If no sample is labeled.
        """
        y = to_array(y)
        predicted = self.predict(X)
        check_consistent_length(predicted, y)
        known = known_mask(y)
        if not known.any():
            raise ValueError(
                "score needs labeled samples, but y marks every sample as unlabeled."
            )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, y)[known]
        labels = np.asarray(y[known].tolist())  # no object dtype of numbers
        return accuracy_score(labels, predicted[known], sample_weight=sample_weight)

    def to_module(self):
        """Return a torch module that predicts the probabilities of `predict_proba`.

        It contains both submodels, the standardization and `temperature_`. It is a copy
        on the CPU, in evaluation mode, and its weights do not require gradients. It
        computes in float32, also with ``precision="bfloat16"``.

        Returns
        -------
        module : torch.nn.Module
            Maps a Tensor of samples to a float32 Tensor of probabilities of shape
            (n_samples, n_classes), with columns in the order of `classes_`. The samples
            have the units and any shape of X that `predict_proba` takes.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_iris
        >>> from pnl_sklearn import PNLClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> classifier = PNLClassifier(max_epochs=1, random_state=0).fit(X, y)
        >>> classifier.to_module()(torch.tensor(X[:2])).shape
        torch.Size([2, 3])
        """
        check_is_fitted(self)
        return ProbabilityModule(self.submodels_, self.input_shape_, self.temperature_)

    def to_onnx(self, path):
        """Write the module of `to_module` to a file of ONNX.

        It has the input "X", a float32 array of shape ``(n_samples, *input_shape_)``
        for any number of samples, and the output "probabilities", a float32 array of
        shape (n_samples, n_classes). Its metadata contain "classes", `classes_` as
        JSON. It needs the extra ``onnx``: ``pip install "pnl_sklearn[onnx]"``.

        Parameters
        ----------
        path : str or path-like
            Path of the file, which is overwritten if it exists.

        Raises
        ------
        ImportError
            If onnxscript is not installed.
        torch.export.UserError
            If a module of your own is not one that :func:`torch.export.export`
            supports for any number of samples. Use for example ``x.shape[0]`` instead
            of ``len(x)``.
        """
        write_onnx(self.to_module(), self.classes_.tolist(), path)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self):
        # A pickle may be loaded in another process, where Accelerate is not installed.
        state = super().__getstate__() | {"accelerator": None}
        checkpoint = state.pop("_checkpoint", None)
        if "submodels_" in state:
            state["submodels_"] = fit_state(state["submodels_"], checkpoint)
        return state

    def __setstate__(self, state):
        if "submodels_" in state:
            submodels, checkpoint = restore_fit(state["submodels_"])
            state = state | {"submodels_": submodels, "_checkpoint": checkpoint}
        # Parameters that did not exist when the state was saved have their defaults.
        super().__setstate__(vars(PNLClassifier()) | state)

    def __sklearn_clone__(self):
        # Loggers that cannot be copied are shared by the clones.
        bare = object.__new__(type(self))
        vars(bare).update(vars(self), callbacks=None)
        copy = super(PNLClassifier, bare).__sklearn_clone__()
        if self.callbacks is not None:
            copy.callbacks = [clone_callback(callback) for callback in self.callbacks]
        return copy

    def __sklearn_is_fitted__(self):
        return "submodels_" in vars(self)

    @property
    def n_iter_(self):
        """Number of epochs of training."""
        return len(self.history_)

    def _begin_fit(self, processes):
        """Return where a fit starts; a resumed fit keeps its seed."""
        path, is_read = self._read_checkpoint()
        is_warm = bool(self.warm_start) and self.__sklearn_is_fitted__()
        if is_warm and self.warm_start == "resume":
            seed, n_before = self._checkpoint.seed, self._checkpoint.n_before
            n_done = len(self.history_) - n_before
            return FitStart(path, seed, n_before, n_done, is_warm, True, is_read)
        if not is_warm:
            # If a check raises an error, the estimator is not fitted.
            vars(self).pop("submodels_", None)
            self._checkpoint, self.history_ = TrainingCheckpoint(), []
        random_state = check_random_state(self.random_state)
        seed = processes.broadcast(int(random_state.randint(np.iinfo(np.int32).max)))
        return FitStart(path, seed, len(self.history_), 0, is_warm)

    def _is_finished(self, data, start):
        """Tell whether nothing is left of a resumed fit; check its data."""
        self._checkpoint.check_data(data, start.path if start.is_read else None)
        is_stopped = start.is_read and self._checkpoint.is_stopped
        is_done = is_stopped or start.n_done >= self.max_epochs
        return is_done and "evidence_" in vars(self)

    def _read_checkpoint(self):
        """Return the path of the checkpoint, and whether its fit is resumed.

        If so, take the state of the fit.
        """
        if self.checkpoint is None:
            return None, False
        path = Path(self.checkpoint).absolute()
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise ValueError(
                f"checkpoint={str(self.checkpoint)!r} cannot be written. It must be "
                "the path of a file, in a folder that exists and can be written to."
            )
        resumes = self.warm_start == "resume" and not self.__sklearn_is_fitted__()
        is_read = resumes and path.exists()
        if is_read:
            vars(self).update(read_checkpoint(self, str(path)))
        return str(path), is_read

    @contextmanager
    def _unfitted_after_error(self, start):
        """Forget the state that was read from a file if a check raises an error."""
        try:
            yield
        except BaseException:
            if start.is_read:
                vars(self).pop("submodels_", None)
            raise

    def _write_checkpoint(self, submodels, processes, path, is_finished=False):
        if path is not None and processes.index == 0:
            write_checkpoint(self, submodels, self._checkpoint, path, is_finished)

    def _calibrate(self, data, source, n_samples=5000):
        """Return the temperature of predictions; 1 if there is no evidence.

        With it, the mean confidence on unlabeled samples is the expected accuracy. If
        neighbors are used, it is halfway between this and the mean confidence without
        temperature, since the networks then predict better than what was expected.
        """
        unlabeled, evidence = np.flatnonzero(data.codes < 0), self.evidence_
        confidence = evidence.expected_accuracy
        if np.isnan(confidence) or not len(unlabeled):
            return 1.0
        places = np.linspace(0, len(unlabeled) - 1, min(n_samples, len(unlabeled)))
        index = unlabeled[places.astype(int)]
        indices = chunks(index, data.inputs.sample_shape, self.submodels_[0].device)
        parts = log_probabilities(self.submodels_, source, indices)
        predicted = concatenate_predictions(parts, len(index))
        if evidence.uses_neighbors and evidence.graph_weight:
            confidence = (confidence + np.exp(predicted).max(axis=1).mean()) / 2
        return fit_temperature(predicted, confidence)

    def _transduce(self, data, batches):
        """Return given labels, and predicted labels of unlabeled samples.

        The predictions are multiplied by the graph posterior.
        """
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

        The probabilities are the mean of the given submodels, by default of both. If
        the function returns class codes, they are replaced by their `names`.
        """
        check_is_fitted(self)
        inputs = check_inputs(self, X, reset=False)
        warn_of_scale(self, inputs, "X")
        device, shape = self.submodels_[0].device, inputs.sample_shape
        source = make_source(inputs, device, self.net_params)
        indices = chunks(range(len(inputs)), shape, device)
        predicted = log_probabilities(submodels or self.submodels_, source, indices)
        parts = refuse_nan(predicted)
        if submodels is None and self.temperature_ != 1:
            parts = ((p / self.temperature_).log_softmax(dim=1) for p in parts)
        with float32_by_default():
            return concatenate_predictions(map(function, parts), len(inputs), names)

    def _predict_proba_of(self, submodel, X) -> np.ndarray:
        """Return the probabilities of one submodel, without temperature."""
        return self._map_log_proba(X, torch.exp, submodels=[submodel])


def _spawn_seeds(seed: int, processes: Processes) -> list[int]:
    """Return seeds of the label split, both networks, the batches and the steps.

    The last seed differs between processes.
    """
    states = np.random.SeedSequence(seed).generate_state(4 + processes.count)
    return [int(state) for state in (*states[:4], states[4 + processes.index])]


def supervised_baseline(estimator):
    """Return the same estimator without losses of unlabeled samples.

    Compare the scores of the estimator and of its baseline, fitted to the same X and y.
    The difference is the gain from unlabeled data. Both have the same submodels, EMAs,
    number of optimizer steps (unless a callback ends a fit) and, for images, views of
    labeled samples. In the baseline, unlabeled samples still determine the
    standardization, the number of steps, the batch statistics and the temperature of
    the predicted probabilities. Neighbors are not used. The baseline learns
    `negative_labels`, too, since these are given.

    Parameters
    ----------
    estimator : PNLClassifier, or pipeline that ends with one
        Estimator to compare with. It is not changed.

    Returns
    -------
    baseline : PNLClassifier or Pipeline
        Unfitted copy with ``negative_weight=0``, ``class_prior=None`` and
        ``consistency=None``.

    See Also
    --------
    pnl_sklearn.inspection.unlabeled_gain : Compare both by cross-validation.

    Examples
    --------
    >>> from pnl_sklearn import PNLClassifier, supervised_baseline
    >>> supervised_baseline(PNLClassifier(random_state=0))
    PNLClassifier(class_prior=None, negative_weight=0, random_state=0)
    """
    off = {"negative_weight": 0, "class_prior": None, "consistency": None}
    return with_final_step(estimator, clone(final_step(estimator)).set_params(**off))
