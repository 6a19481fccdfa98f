"""Training data: all data arguments of `fit`, checked and combined."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _num_samples, check_consistent_length
from torch.utils.data import ConcatDataset

from ._inputs import Inputs, check_inputs, check_spans, warn_of_scale
from ._negative_labels import check_negative_labels
from ._targets import check_targets, labeled_weights, relative_weights, warn_of_order


@dataclass
class TrainingData:
    """Samples of a fit with their labels and weights.

    Parameters
    ----------
    classes : array of shape (n_classes,)
    inputs : Inputs
        All samples: those of X, followed by those of `X_unlabeled`.
    labels : int array of shape (n_samples,)
        Class codes of the given labels, -1 for unlabeled samples.
    codes : int array of shape (n_samples,)
        Class codes to train on: `labels` without held-out labels.
    weights : float array of shape (n_labeled,)
        Weights in the supervised loss of the samples that have a class code.
    excluded : bool array of shape (n_samples, n_classes) or None
        Given negative labels.
    sampling_weights : float array of shape (n_samples,) or None
        Sampling weights of unlabeled samples.
    held_out : tuple of Inputs and int array, or None
        Validation samples and their class codes.
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
    """Check the arguments of `fit`, encode y, and combine the samples.

    Parameters
    ----------
    estimator : PNLClassifier
    X, y, sample_weight, X_unlabeled, negative_labels, unlabeled_weight, X_val, y_val
        Arguments of `fit`.
    reset : bool
        Whether this is a new fit. Otherwise the classes and the shape of X are compared
        with those of the earlier fit.
    seed : int
        Determines which labels are held out.

    Returns
    -------
    data : TrainingData
    """
    codes, classes = check_targets(y, estimator.classes)
    if not reset and not np.array_equal(classes, estimator.classes_):
        raise ValueError(
            f"warm_start={estimator.warm_start!r} continues a fit with classes "
            f"{estimator.classes_.tolist()}, but y contains {classes.tolist()}. Set "
            "classes to all classes, or start a new fit with warm_start=False."
        )
    if reset and estimator.classes is not None:
        warn_of_order(classes)
    excluded = check_negative_labels(negative_labels, codes, classes)
    inputs = check_inputs(estimator, X, reset=reset)
    if not reset:
        warn_of_scale(estimator, inputs, "X")
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
    check_spans(inputs, *([held_out[0]] if held_out else []))
    return TrainingData(
        classes, inputs, labels, codes, weights, excluded, sampling_weights, held_out
    )


def append_unlabeled(estimator, inputs: Inputs, X_unlabeled) -> Inputs:
    """Append the samples of `X_unlabeled`, which must be of the same form as X."""
    more = check_inputs(estimator, X_unlabeled, reset=False)
    warn_of_scale(estimator, more, "X_unlabeled")
    if len(more) == len(inputs):
        raise ValueError(
            f"X_unlabeled has as many samples as X, or as this training set of it: "
            f"{len(inputs)}. This is not allowed, since scikit-learn's "
            "cross-validation would split an array that is as long as X. Remove one of "
            "its samples, or add them to X, with -1 in y."
        )
    if inputs.is_dataset != more.is_dataset:
        raise TypeError(
            "X and X_unlabeled must be both Datasets, or both arrays or matrices."
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
    lows, highs = zip(inputs.value_range, more.value_range, strict=True)
    return replace(inputs, data=data, value_range=(min(lows), max(highs)))


def _move_channels(images: Inputs) -> Inputs:
    """Move the channels of images from the first to the last axis, or back."""
    n_channels, height, width = images.sample_shape
    if images.channels_last:
        data = images.data.reshape(-1, height, width, n_channels).transpose(0, 3, 1, 2)
    else:
        data = images.data.reshape(-1, n_channels, height, width).transpose(0, 2, 3, 1)
    data = data.reshape(len(data), -1)
    return replace(images, data=data, channels_last=not images.channels_last)


def pad(values: np.ndarray | None, n_added: int, fill) -> Any:
    """Append `n_added` entries to an array with one entry per sample, if not None."""
    if values is None:
        return None
    widths = [(0, n_added)] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, widths, constant_values=fill)


def check_validation(
    estimator, X_val, y_val, classes: np.ndarray
) -> tuple[Inputs, np.ndarray]:
    """Check validation samples; return them and their class codes."""
    if X_val is None or y_val is None:
        raise ValueError(
            "X_val and y_val belong together, but one of them is None. Pass both."
        )
    if estimator.validation_fraction is not None:
        raise ValueError(
            f"validation_fraction={estimator.validation_fraction!r} and X_val both set "
            "the validation samples. Use one of them."
        )
    codes, _ = check_targets(y_val, classes)
    inputs = check_inputs(estimator, X_val, reset=False)
    warn_of_scale(estimator, inputs, "X_val")
    check_consistent_length(inputs, codes)
    return inputs, codes


def _held_out_mask(codes: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask of the samples whose labels are held out, some of each class."""
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
            f"{len(classes)} classes leaves a class without a label for training or "
            "for validation. Label more samples, change the fraction, or pass labeled "
            "samples as X_val and y_val. Without validation samples, EarlyStopping can "
            "monitor 'label_change', and SemiSupervisedSplit can compare settings."
        )
    return mask


def check_unlabeled_weight(
    unlabeled_weight, codes: np.ndarray, n_added: int
) -> np.ndarray | None:
    """Return the float64 sampling weights of all samples.

    Weights of labeled samples are ignored. The given weights may be those of the last
    `n_added` samples only, which are the samples of `X_unlabeled`.
    """
    if unlabeled_weight is None:
        return None
    error = ValueError(
        "unlabeled_weight must contain one finite number per sample, which is not "
        "negative."
    )
    try:
        weights = np.asarray(unlabeled_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise error from None
    if n_added and weights.shape == (n_added,):
        weights = np.concatenate([np.ones(len(codes) - n_added), weights])
    if weights.ndim != 1:
        raise error
    check_consistent_length(weights, codes)
    unlabeled = weights[codes < 0]
    if not np.isfinite(unlabeled).all() or (unlabeled < 0).any():
        raise error
    if len(unlabeled) and not unlabeled.any():
        raise ValueError(
            "The weights of the unlabeled samples are all zero. Use "
            "supervised_baseline to train without unlabeled samples."
        )
    return relative_weights(np.where(codes < 0, weights, 0.0))
