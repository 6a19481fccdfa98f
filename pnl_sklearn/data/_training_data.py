"""Training data: everything that `fit` is given, checked and put together."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _num_samples, check_consistent_length
from torch.utils.data import ConcatDataset

from ._inputs import Inputs, check_inputs
from ._negative_labels import check_negative_labels
from ._targets import check_targets, labeled_weights, warn_of_order


@dataclass
class TrainingData:
    """The samples of `fit`, and what is known of each.

    Parameters
    ----------
    classes : array of shape (n_classes,)
    inputs : Inputs
        All samples, those of `X_unlabeled` last.
    labels : int array of shape (n_samples,)
        Class codes as given, -1 where there is none.
    codes : int array of shape (n_samples,)
        Class codes to learn: `labels` without those that are held out.
    weights : float array of shape (n_labeled,)
        Weights of the samples with a code, in their order, in the supervised loss.
    excluded : bool array of shape (n_samples, n_classes) or None
        Given negative labels.
    sampling_weights : float array of shape (n_samples,) or None
        How often unlabeled samples are drawn, relative to one another.
    held_out : tuple of Inputs and int array, or None
        Samples of the validation metrics, and their class codes.
    """

    classes: np.ndarray
    inputs: Inputs
    labels: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    excluded: np.ndarray | None
    sampling_weights: np.ndarray | None
    held_out: tuple[Inputs, np.ndarray] | None


def make_training_data(
    estimator,
    X,
    y,
    sample_weight,
    X_unlabeled,
    negative_labels,
    unlabeled_weight,
    X_val,
    y_val,
    *,
    reset: bool,
    seed: int,
) -> TrainingData:
    """Check what `fit` is given, encode y, and put the samples together.

    Parameters
    ----------
    estimator : PNLClassifier
    X, y, sample_weight, X_unlabeled, negative_labels, unlabeled_weight, X_val, y_val
        As `fit` takes them.
    reset : bool
        Whether classes and the form of X are new, not compared with an earlier fit's.
    seed : int
        Governs which labels are held out.

    Returns
    -------
    data : TrainingData
    """
    codes, classes = check_targets(y, estimator.classes)
    if not reset and not np.array_equal(classes, estimator.classes_):
        raise ValueError(
            f"warm_start={estimator.warm_start!r} goes on with classes "
            f"{estimator.classes_!r}, but y holds {classes!r}. Name all of them by "
            "classes=..., or fit anew."
        )
    if reset and estimator.classes is not None:
        warn_of_order(classes)
    excluded = check_negative_labels(negative_labels, codes, classes)
    inputs = check_inputs(estimator, X, reset=reset, learned=True)
    check_consistent_length(inputs, codes)
    labels, held = codes, np.zeros(len(codes), dtype=bool)
    if estimator.validation_fraction is not None:
        held = _held_out_mask(labels, estimator.validation_fraction, seed)
        codes = np.where(held, -1, labels)
    weights = labeled_weights(codes, classes, sample_weight, estimator.class_weight)
    n_added = 0
    if X_unlabeled is not None and _num_samples(X_unlabeled):
        n_own = len(inputs)
        inputs = append_unlabeled(estimator, inputs, X_unlabeled)
        n_added = len(inputs) - n_own
        labels, codes = (pad(c, n_added, -1) for c in (labels, codes))
        excluded, held = (pad(m, n_added, False) for m in (excluded, held))
    sampling_weights = check_unlabeled_weight(unlabeled_weight, labels, n_added)
    if sampling_weights is not None and held.any():
        others = sampling_weights[labels < 0]
        of_held_out = others.mean() if len(others) else 1.0
        sampling_weights = np.where(held, of_held_out, sampling_weights)
    held_out = None
    if X_val is not None or y_val is not None:
        held_out = check_validation(estimator, X_val, y_val, classes)
    elif held.any():
        held_out = inputs, np.where(held, labels, -1)
    return TrainingData(
        classes, inputs, labels, codes, weights, excluded, sampling_weights, held_out
    )


def append_unlabeled(estimator, inputs: Inputs, X_unlabeled) -> Inputs:
    """Append the samples of `X_unlabeled`, which have to be of the form of X."""
    more = check_inputs(estimator, X_unlabeled, reset=False, learned=True)
    if len(more) == len(inputs):
        raise ValueError(
            f"X_unlabeled has as many samples as X, or as this training part of it, "
            f"{len(inputs)}. scikit-learn's cross-validation takes what is as long as "
            "X for one value per sample and splits it by folds, so this is refused. "
            "Leave out one of its samples, or put them into X, with -1 in y."
        )
    if inputs.is_dataset != more.is_dataset:
        raise TypeError(
            "X and X_unlabeled have to be both Datasets, or both arrays or matrices."
        )
    if inputs.channels_last != more.channels_last:
        if sparse.issparse(more.data):
            inputs = _move_channels(inputs)
        else:
            more = _move_channels(more)
    parts = [inputs.data, more.data]
    data: Any
    if inputs.is_dataset:
        data = ConcatDataset(parts)
    elif any(sparse.issparse(part) for part in parts):
        data = sparse.vstack(parts, format="csr")
    else:
        data = np.concatenate(parts)
    return replace(inputs, data=data)


def _move_channels(images: Inputs) -> Inputs:
    """Put the channels of images last if they are first, or first if they are last."""
    n_channels, height, width = images.sample_shape
    if images.channels_last:
        data = images.data.reshape(-1, height, width, n_channels).transpose(0, 3, 1, 2)
    else:
        data = images.data.reshape(-1, n_channels, height, width).transpose(0, 2, 3, 1)
    data = data.reshape(len(data), -1)
    return replace(images, data=data, channels_last=not images.channels_last)


def pad(values: np.ndarray | None, n_added: int, fill) -> Any:
    """Append so many entries to an array with one entry per sample; None stays."""
    if values is None:
        return None
    widths = [(0, n_added)] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, widths, constant_values=fill)


def check_validation(
    estimator, X_val, y_val, classes: np.ndarray
) -> tuple[Inputs, np.ndarray]:
    """Check validation samples; return them and their class codes."""
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val belong together; one of them is missing.")
    if estimator.validation_fraction is not None:
        raise ValueError(
            f"validation_fraction={estimator.validation_fraction!r} and X_val both ask "
            "for validation samples. Give one of the two."
        )
    codes, _ = check_targets(y_val, classes)
    inputs = check_inputs(estimator, X_val, reset=False)
    check_consistent_length(inputs, codes)
    return inputs, codes


def _held_out_mask(codes: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Mask the labeled samples whose labels are held out, some of each class."""
    labeled = np.flatnonzero(codes >= 0)
    classes, places = np.unique(codes[labeled], return_inverse=True)
    mask = np.zeros(len(codes), dtype=bool)
    with suppress(ValueError):  # one label of a class, or fewer samples than classes
        _, held = train_test_split(
            labeled, test_size=fraction, stratify=places, random_state=seed
        )
        mask[held] = True
    counts = [np.bincount(places[mask[labeled] == part]) for part in (True, False)]
    if any(len(count) < len(classes) or not count.all() for count in counts):
        raise ValueError(
            f"validation_fraction={fraction!r} of {len(labeled)} labeled samples of "
            f"{len(classes)} classes leaves a class without a label to learn or to "
            "validate on. Label more samples, or hold out another fraction; give "
            "labeled samples as X_val and y_val; or do without: let EarlyStopping "
            "monitor 'label_change', and compare settings by SemiSupervisedSplit."
        )
    return mask


def check_unlabeled_weight(
    unlabeled_weight, codes: np.ndarray, n_added: int
) -> np.ndarray | None:
    """Return the sampling weights of all samples, float64.

    Those of labeled samples are not used. They may be given for the last `n_added`
    samples alone, those of `X_unlabeled`.
    """
    if unlabeled_weight is None:
        return None
    weights = np.asarray(unlabeled_weight, dtype=np.float64)
    if n_added and len(weights) == n_added:
        weights = np.concatenate([np.ones(len(codes) - n_added), weights])
    check_consistent_length(weights, codes)
    unlabeled = weights[codes < 0]
    if weights.ndim != 1 or not np.isfinite(unlabeled).all() or (unlabeled < 0).any():
        raise ValueError(
            "unlabeled_weight has to hold one number for each sample, not negative."
        )
    if len(unlabeled) and not unlabeled.sum() > 0:
        raise ValueError(
            "The weights of the unlabeled samples are all zero. Use "
            "supervised_baseline to train without them."
        )
    return weights
