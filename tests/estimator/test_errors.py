"""Errors of bad input say what came, what was expected, and the fix."""

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    InputShapeSetter,
    LoadInitState,
    ProgressBar,
)
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pnl_sklearn import (
    AdaptiveNegatives,
    DistributionAlignment,
    PNLClassifier,
    RandomNegatives,
)
from pnl_sklearn.graph import GraphPosterior
from pnl_sklearn.networks import CNN13
from pnl_sklearn.objectives import MeanTeacher
from pnl_sklearn.views import ImageView, RandAugmentView

RNG = np.random.default_rng(0)
Y = np.where(np.arange(30) < 12, np.arange(30) % 3, -1)
X = RNG.normal(size=(30, 4)) + 4 * np.eye(4)[np.arange(30) % 3]
IMAGES = RNG.normal(size=(30, 6, 6))


def tiny(**params):
    defaults = {"max_epochs": 1, "steps_per_epoch": 1, "random_state": 0}
    small = {"batch_size": 16, "labeled_batch_size": 8, "graph": None}
    return PNLClassifier(**(defaults | small | params))


def fit(X=X, y=Y, sample_weight=None, **params):
    return tiny(**params).fit(X, y, sample_weight)


def with_value(value, X=X):
    X = X.copy()
    X[3, 2] = value
    return X


def frame(names, X=X):
    return pytest.importorskip("pandas").DataFrame(X, columns=list(names))


def polars_frame(**columns):
    return pytest.importorskip("polars").DataFrame(columns)


def objects(samples):
    array = np.empty(len(samples), dtype=object)
    array[:] = samples
    return array


def series(values, names):
    return pytest.importorskip("pandas").Series(values, index=names)


U = np.array(["c"])
DATES = np.arange(60).astype("M8[s]")


def utc(dates):
    return dates.dt.tz_localize("UTC")


class Strings(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, index):
        return "a string", 0


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(4)


class Fixed(nn.Linear):
    """Returns seven logits, whatever the number of classes."""

    def __init__(self, n_features):
        super().__init__(n_features, 7)


def normalized():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated
        return torch.jit.trace(nn.Linear(4, 3), torch.zeros(2, 4))


class OwnCallback(Callback):
    """Is not of skorch, and so may record columns."""


class OnlyTargets:
    """Has the method of a Consistency, but not its attributes."""

    def targets(self, student, teacher, weak, strong, teacher_weak):
        raise NotImplementedError


class ListDataset(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def dataset(X):
    return TensorDataset(torch.tensor(X, dtype=torch.float32))


TARGETS = {
    "no labeled sample": (
        lambda: fit(y=np.full(30, -1)),
        "no labeled sample.*Label a few samples of each class",
    ),
    "only NaN": (lambda: fit(y=np.full(30, np.nan)), "no labeled sample"),
    "only None": (lambda: fit(y=[None] * 30), "no labeled sample"),
    "one class": (
        lambda: fit(y=np.where(Y < 0, -1, 2)),
        r"one class only, .*2.*two classes",
    ),
    "one class, all labeled": (lambda: fit(y=np.ones(30, int)), "one class only"),
    "-1 and 1": (
        lambda: fit(y=np.where(Y < 0, -1, 1)),
        r"only -1 and 1\. -1 marks unlabeled samples.*np\.where\(y == -1, 0, y\)",
    ),
    "-1.0 and 1.0": (lambda: fit(y=np.where(Y < 0, -1.0, 1.0)), "only -1 and 1"),
    '"-1" and "1"': (lambda: fit(y=np.where(Y < 0, "-1", "1")), "only -1 and 1"),
    "dates": (
        lambda: fit(y=np.array(["NaT", "2020-01-01", "2020-01-02"] * 10, "M8[D]")),
        r"Unknown label type: y is of dtype datetime64\[D\].*to strings first",
    ),
    "bytes": (lambda: fit(y=Y.astype("S")), "Unknown label type: y is of dtype .S"),
    "lengths": (lambda: fit(y=Y[:29]), r"inconsistent numbers of samples: \[30, 29\]"),
    "lengths, images": (lambda: fit(IMAGES, Y[:29]), "inconsistent numbers of samples"),
    "lengths, Dataset": (
        lambda: fit(dataset(X), Y[:29]),
        "inconsistent numbers of samples",
    ),
    "-2": (
        lambda: fit(y=np.where(Y == 0, -2, Y)),
        "negative label .*-2.*Only -1, for unlabeled samples",
    ),
    "-2.0": (lambda: fit(y=np.where(Y == 0, -2.0, Y)), "negative label .*-2.0"),
    "fractions": (
        lambda: fit(y=np.where(Y == 0, 0.5, Y)),
        "continuous.*0.5.*float labels must be whole numbers",
    ),
    "infinite": (lambda: fit(y=np.where(Y == 0, np.inf, Y)), "y contains infinity"),
    "strings and numbers": (
        lambda: fit(y=np.array(["a", 1, None] * 10, dtype=object)),
        r"y mixes \['int', 'str'\]",
    ),
    "None": (lambda: fit(y=None), "requires y to be passed, but the target y is None"),
    "not in classes": (
        lambda: fit(classes=[0, 1]),
        r"labels \[2\], which are not in classes",
    ),
    "strings not in classes": (
        lambda: fit(y=np.where(Y < 0, "-1", "c"), classes=np.array(["a", "b"])),
        r"labels \['c'\], which are not in classes",
    ),
    "strings twice in classes": (
        lambda: fit(y=["a", "b", "-1"] * 10, classes=np.array(["a", "b", "b"])),
        r"classes=\['a', 'b', 'b'\] must contain at least two classes, each once",
    ),
    "strings as negative labels": (
        lambda: tiny().fit(X, ["a", "b", "-1"] * 10, negative_labels=[U] * 30),
        r"negative_labels contain 'c' for sample 0, .*\['a', 'b'\]",
    ),
    "classes twice": (lambda: fit(classes=[0, 1, 2, 2]), "each once"),
    "classes with -1": (
        lambda: fit(classes=np.unique(Y)),
        r"classes=\[-1, 0, 1, 2\] contains a mark of unlabeled samples",
    ),
    "classes with None": (
        lambda: fit(y=[None, "a", "b"] * 10, classes=[None, "a", "b"]),
        "contains a mark of unlabeled samples",
    ),
    "classes with NaN": (
        lambda: fit(classes=[0, 1, 2, np.nan]),
        "contains a mark of unlabeled samples",
    ),
    "classes one": (lambda: fit(classes=[0]), "at least two classes"),
    "weights negative": (
        lambda: fit(sample_weight=np.linspace(-1, 1, 30)),
        "Negative values in data passed to `sample_weight`",
    ),
    "weights zero": (
        lambda: fit(sample_weight=np.where(Y < 0, 1, 0)),
        "weights of the labeled samples are all zero",
    ),
    "weights NaN": (
        lambda: fit(sample_weight=np.where(Y < 0, 1, np.nan)),
        "sample_weight contains NaN",
    ),
    "class_weight negative": (
        lambda: fit(class_weight={0: -1, 1: 1, 2: 1}),
        "class_weight=.* contains a negative weight",
    ),
    "class_weight infinite": (
        lambda: fit(class_weight={0: np.inf, 1: 1, 2: 1}),
        "class_weight=.* is not finite",
    ),
    "weights length": (
        lambda: fit(sample_weight=np.ones(29)),
        r"sample_weight.shape == \(29,\), expected \(30,\)",
    ),
}
INPUTS = {
    "NaN": (lambda: fit(with_value(np.nan)), "contains NaN"),
    "inf": (lambda: fit(with_value(np.inf)), "contains infinity"),
    "NaN, images": (lambda: fit(with_value(np.nan, IMAGES)), "contains NaN"),
    "NaN, sparse": (
        lambda: fit(sparse.csr_matrix(with_value(np.nan))),
        "contains NaN",
    ),
    "NaN, pandas": (lambda: fit(frame("abcd", with_value(np.nan))), "contains NaN"),
    "NaN, torch": (lambda: fit(torch.tensor(with_value(np.nan))), "contains NaN"),
    "masked": (
        lambda: fit(np.ma.array(X, mask=X.max() == X)),
        r"masked array with masked values.*SimpleImputer",
    ),
    "masked, predict": (
        lambda: fit().predict(np.ma.array(X, mask=X.max() == X)),
        "masked array",
    ),
    "NaN, Dataset": (lambda: fit(dataset(with_value(np.nan))), "contains? NaN"),
    "NaN, predict": (lambda: fit().predict(with_value(np.nan)), "contains NaN"),
    "empty": (lambda: fit(X[:0], Y[:0]), "no labeled sample|0 sample"),
    "empty X": (lambda: fit(X[:0]), r"0 sample\(s\)"),
    "empty images": (lambda: fit(IMAGES[:0]), r"0 sample\(s\)"),
    "empty list": (lambda: fit([]), "Expected 2D array|0 sample"),
    "empty Dataset": (lambda: fit(dataset(X[:0])), r"0 sample\(s\)"),
    "no columns": (lambda: fit(X[:, :0]), r"0 feature\(s\)"),
    "empty, predict": (lambda: fit().predict(X[:0]), r"0 sample\(s\)"),
    "one dimension": (lambda: fit(X[:, 0]), "Expected 2D array, got 1D array"),
    "five dimensions": (
        lambda: fit(np.zeros((30, 2, 2, 2, 2))),
        r"dim 5.*\(n, h, w\), \(n, c, h, w\) or \(n, h, w, c\)",
    ),
    "ambiguous": (
        lambda: fit(np.zeros((30, 3, 5, 3))),
        r"\(30, 3, 5, 3\) may be .*image_shape=\(channels, height, width\)",
    ),
    "features": (
        lambda: fit().predict(X[:, :3]),
        "X has 3 features, but PNLClassifier is expecting 4 features",
    ),
    "features, Dataset": (
        lambda: fit().predict(dataset(X[:, :3])),
        r"shape \(3,\).*fitted on samples of shape \(4,\)",
    ),
    "image size": (
        lambda: fit(IMAGES).predict(IMAGES[:, :5]),
        r"shape \(1, 5, 6\), .* fitted on samples of shape \(1, 6, 6\)",
    ),
    "rotated image": (
        lambda: fit(IMAGES[:, :4]).predict(IMAGES[:, :, :4]),
        r"shape \(1, 6, 4\), .* fitted on samples of shape \(1, 4, 6\)",
    ),
    "table for images": (
        lambda: fit(IMAGES).predict(IMAGES.reshape(30, 36)),
        r"shape \(36,\), .* fitted on samples of shape \(1, 6, 6\)",
    ),
    "column names": (
        lambda: fit(frame("abcd")).predict(frame("abce")),
        "feature names should match.*\n.*\n.*e\n",
    ),
    "column order": (
        lambda: fit(frame("abcd")).predict(frame("badc")),
        "Feature names must be in the same order",
    ),
    "strings": (
        lambda: fit(np.full((30, 2), "red")),
        "could not convert.*OneHotEncoder",
    ),
    "objects": (
        lambda: fit(np.array([["red", 1]] * 30, dtype=object)),
        "could not convert.*OneHotEncoder",
    ),
    "string column": (
        lambda: fit(frame("abcd").assign(a="red")),
        r"not numbers in column 'a'\..*tabular_pipeline\(PNLClassifier\(\)\)",
    ),
    "columns of all kinds": (
        lambda: fit(frame("abcd", with_value(np.nan)).assign(a="red", e="x", f="y")),
        "not numbers in columns 'a', 'e', 'f', and NaN in column 'c'",
    ),
    "category": (
        lambda: fit(frame("abcd").assign(b="red").astype({"b": "category"})),
        "not numbers in column 'b'",
    ),
    "NaN column, predict": (
        lambda: fit(frame("abcd")).predict(frame("abcd", with_value(np.nan))),
        "contains NaN in column 'c'",
    ),
    "polars": (
        lambda: fit(polars_frame(a=["red", None] * 15, b=[1.0, None] * 15)),
        "not numbers in column 'a', and NaN in column 'b'",
    ),
    "sizes of images": (
        lambda: fit([np.zeros((6, 6 + i % 2)) for i in range(30)]),
        r"Item 1 of X has shape \(6, 7\), but item 0 has shape \(6, 6\).*Resize",
    ),
    "sizes of images, objects": (
        lambda: fit(objects([np.zeros((6, 6 + i // 29)) for i in range(30)])),
        r"Item 29 of X has shape \(6, 7\)",
    ),
    "large integer": (
        lambda: fit(np.array([[10**400, 1]] * 30, dtype=object)),
        "value that is too large",
    ),
    "too wide": (lambda: fit(X * 1e19), "squares.* too large .*StandardScaler"),
    "too wide, float32": (
        lambda: fit((X * 1e37).astype(np.float32)),
        "squares are too large",
    ),
    "too wide, sparse": (
        lambda: fit(sparse.csr_matrix(X * 1e19)),
        "squares are too large",
    ),
    "constant and too large": (
        lambda: fit(np.where(np.arange(4) == 1, np.float32(-3e38), X)),
        "values beyond 1e\\+19, .* squares are too large",
    ),
    "too wide, int64": (
        lambda: fit((X * 1e18).astype(np.int64)),
        "squares are too large",
    ),
    "too wide, uint64": (
        lambda: fit((np.abs(X) * 2e18).astype(np.uint64)),
        "squares are too large",
    ),
    "too wide, X_unlabeled beside X": (
        lambda: tiny().fit(X, Y, X_unlabeled=np.full((9, 4), -3e38, np.float32)),
        "far beyond those in fit",
    ),
    "too wide, X_val": (
        lambda: tiny().fit(X, Y, X_val=np.full((9, 4), -3e38, np.float32), y_val=Y[:9]),
        "far beyond those in fit",
    ),
    "too narrow": (
        lambda: fit((X * 1e-40).astype(np.float32)),
        "standard deviation .*e-4[01], which are too large or too small .*Scaler",
    ),
    "too narrow, Dataset": (
        lambda: fit(dataset(X * 1e-40)),
        "standard deviation .*e-4[01], which are too large or too small",
    ),
    "too narrow, images": (
        lambda: fit((IMAGES * 1e-40).astype(np.float32)),
        "standard deviation .*e-4[01], which are too large or too small",
    ),
    "too wide, Dataset": (
        lambda: fit(dataset(X * 1e18)),
        r"standard deviation .*e\+18, which are too large",
    ),
    "constant and too large, Dataset": (
        lambda: fit(dataset(np.full((30, 4), 1e30))),
        r"mean 1e\+30 and standard deviation 0, which are too large",
    ),
    "too large, Dataset": (
        lambda: fit(TensorDataset(torch.tensor(X) * 1e300)),
        "too large for dtype",
    ),
    "nodata, predict": (
        lambda: fit().predict(with_value(np.finfo(np.float32).min)),
        r"X has values from -3\.4e\+38 to .*, far beyond those in fit",
    ),
    "nodata, predict_proba": (
        lambda: fit().predict_proba(with_value(np.float32(1e30))),
        r"to 1e\+30, far beyond those in fit",
    ),
    "nodata, Dataset": (
        lambda: fit(X / 1e3).predict(dataset(np.vstack([X, np.full((2, 4), -3e38)]))),
        "prediction of sample 30 of X is NaN.*remove such samples",
    ),
    "too wide, X_unlabeled": (
        lambda: tiny().fit(X, Y, X_unlabeled=(X[:9] * 1e19).astype(np.float32)),
        "far beyond those in fit",
    ),
    "too wide, warm start": (
        lambda: fit(warm_start=True).fit((X * 1e19).astype(np.float32), Y),
        "far beyond those in fit",
    ),
    "too large, predict": (
        lambda: fit().predict(X * 1e40),
        "value too large for dtype",
    ),
    "image_shape": (
        lambda: fit(image_shape=(1, 3, 3)),
        r"\(1, 3, 3\) has 9 values, but X has 4 features",
    ),
    "image_shape, images": (
        lambda: fit(IMAGES, image_shape=(1, 3, 3)),
        r"\(30, 6, 6\) does not contain images of image_shape=\(1, 3, 3\)",
    ),
    "image_shape, Dataset": (
        lambda: fit(dataset(X), image_shape=(1, 3, 3)),
        r"\(1, 3, 3\) has 9 values, but X has 4 features",
    ),
    "image_shape, Dataset of images": (
        lambda: fit(dataset(np.zeros((30, 4, 4))), image_shape=(1, 2, 8)),
        r"\(30, 4, 4\) does not contain images of image_shape=\(1, 2, 8\)",
    ),
    "Dataset, layout": (
        lambda: fit(dataset(np.zeros((30, 3, 5, 3)))),
        r"\(30, 3, 5, 3\) may be .*image_shape=\(channels, height, width\)",
    ),
    "Dataset of several shapes": (
        lambda: fit(ListDataset([np.zeros((4, 4)), *[np.zeros((2, 8))] * 29])),
        r"Item \d+ of the Dataset has shape \(2, 8\), but item 0 has shape \(4, 4\)",
    ),
    "image_shape of two": (
        lambda: fit(image_shape=(2, 2)),
        r"image_shape=\(2, 2\).*channels, height, width",
    ),
    "Dataset of vectors of vectors": (
        lambda: fit(dataset(np.zeros((30, 1, 2, 2, 2)))),
        "Found array with dim 5",
    ),
}
PARAMETERS = {
    "max_epochs": (lambda: fit(max_epochs=0), "'max_epochs' parameter.*int.*Got 0"),
    "lr": (lambda: fit(lr=-1), "'lr' parameter.*float.*Got -1"),
    "batch_size": (lambda: fit(batch_size=2.5), "'batch_size' parameter.*Got 2.5"),
    "selection": (lambda: fit(selection="adaptiv"), "'selection' parameter.*adaptive"),
    "exchange": (lambda: fit(exchange="both"), "'exchange' parameter.*simultaneous"),
    "tolerance": (
        lambda: fit(selection=AdaptiveNegatives(tolerance=1.5)),
        "tolerance=1.5 is not between 0 and 1",
    ),
    "n_negatives, a fraction": (
        lambda: fit(selection=RandomNegatives(n_negatives=1.5)),
        r"n_negatives=1\.5 is less than 1 or not whole",
    ),
    "n_negatives": (
        lambda: fit(selection=RandomNegatives(n_negatives=0)),
        "n_negatives=0 is less than 1",
    ),
    "class_prior": (
        lambda: fit(class_prior=[0.5, 0.5]),
        r"class_prior=\[0.5, 0.5\].*each of the 3 classes",
    ),
    "class_prior, a frame": (
        lambda: fit(class_prior=series([0.2, 0.3, 0.5], [0, 1, 2]).to_frame().T),
        "must contain one frequency",
    ),
    "negative class_prior": (lambda: fit(class_prior=[1, 1, -1]), "not negative"),
    "infinite class_prior": (lambda: fit(class_prior=[1, 1, np.inf]), "one frequency"),
    "class_prior of other classes": (
        lambda: fit(class_prior={0: 0.5, 2: 0.5}),
        r"class_prior has frequencies of \[0, 2\], but the classes are \[0, 1, 2\]",
    ),
    "class_prior twice": (
        lambda: fit(class_prior=series([1, 2, 3], [0, 1, 1])),
        r"frequencies of \[0, 1, 1\].*each of them once",
    ),
    "selection of numbers": (
        lambda: fit(selection=lambda p: (p < 0.01).float()),
        r"selection=.* a Tensor of dtype torch.float32 and shape \(\d+, 3\).*bool",
    ),
    "selection of another shape": (
        lambda: fit(selection=lambda p: p[0] < 0.01),
        r"dtype torch.bool and shape \(3,\) for probabilities of shape \(\d+, 3\)",
    ),
    "selection of numpy": (
        lambda: fit(selection=lambda p: p.numpy() < 0.01),
        "an object of type ndarray",
    ),
    "selection of all classes": (
        lambda: fit(selection=lambda p: p < 0.4),
        "excludes every class of a sample",
    ),
    "weak view, dtype": (
        lambda: fit(weak_view=lambda x: x.double()),
        r"weak_view=.* returns a Tensor of dtype torch.float64 and shape \(\d+, 4\)",
    ),
    "strong view, small images": (
        lambda: fit(IMAGES[:, :2, :2], strong_view=RandAugmentView()),
        r"strong_view=RandAugmentView\(.*failed on a float32 batch of shape",
    ),
    "weak view, NaN": (
        lambda: fit(weak_view=lambda x: x / 0 * 0),
        "weak_view=.* returns NaN or infinite values",
    ),
    "view of images for a table": (
        lambda: fit(strong_view=ImageView(rotation=9)),
        r"ImageView.* is for images, but X is a table.*image_shape=\(channels",
    ),
    "strong view, shape": (
        lambda: fit(IMAGES, strong_view=lambda x: x[..., 1:]),
        r"strong_view=.* shape \(\d+, 1, 6, 5\) for a batch.*\(\d+, 1, 6, 6\)",
    ),
    "selection, class": (
        lambda: fit(selection=RandomNegatives),
        r"selection=.* is a class.*selection=RandomNegatives\(\)",
    ),
    "graph, class": (
        lambda: fit(graph=GraphPosterior),
        r"graph=.* is a class.*graph=GraphPosterior\(\)",
    ),
    "class_prior, class": (
        lambda: fit(class_prior=DistributionAlignment),
        r"class_prior=.* is a class.*class_prior=DistributionAlignment\(\)",
    ),
    "consistency, class": (
        lambda: fit(consistency=MeanTeacher),
        r"consistency=.* is a class.*consistency=MeanTeacher\(\)",
    ),
    "set_params of a class": (
        lambda: tiny(graph=GraphPosterior).set_params(graph__weight=0),
        r"graph=.* is a class.*graph=GraphPosterior\(\)",
    ),
    "graph": (lambda: fit(graph="knn"), "'graph' parameter.*'auto'.*Got 'knn'"),
    "graph weight": (
        lambda: fit(graph=GraphPosterior(weight=-1)),
        r"'weight' parameter of GraphPosterior must be .* \[0.0, inf\)",
    ),
    "graph weight without a graph": (
        lambda: fit(graph=GraphPosterior(weight=-1), negative_weight=0),
        r"'weight' parameter of GraphPosterior must be .* \[0.0, inf\)",
    ),
    "class_prior weight": (
        lambda: fit(class_prior=DistributionAlignment(weight=-1)),
        r"'weight' parameter of DistributionAlignment must be .* \[0.0, inf\)",
    ),
    "consistency": (
        lambda: fit(consistency="mean"),
        "'consistency' parameter.*'mean_teacher'.*Got 'mean'",
    ),
    "consistency rampup": (
        lambda: fit(consistency=MeanTeacher(rampup=2)),
        r"'rampup' parameter of MeanTeacher must be .* \[0.0, 1.0\]",
    ),
    "consistency without an EMA": (
        lambda: fit(consistency="mean_teacher", ema_decay=None),
        "needs the EMA of the weights.*ema_decay=0.99",
    ),
    "precision": (
        lambda: fit(precision="float16"),
        "'precision' parameter.*'bfloat16'.*Got 'float16'",
    ),
    "columns": (
        lambda: fit(module=Fixed),
        "returns 7 logits per sample, but y has 3 classes",
    ),
    "module of other features": (
        lambda: fit(module=nn.Linear(5, 3)),
        r"The module, a Linear, failed on a float32 batch of shape \(2, 4\): ",
    ),
    "frozen module": (
        lambda: fit(module=nn.Linear(4, 3).requires_grad_(False)),
        "The module, a Linear, has no weights that can be trained.*requires_grad_",
    ),
    "module without weights": (
        lambda: fit(module=nn.Identity()),
        "The module, a Identity, has no weights",
    ),
    "traced module": (
        lambda: fit(module=traced()),
        "module is a .*Module, which cannot be copied.*Pass the nn.Module",
    ),
    "batch_size 1 and batch normalization": (
        lambda: fit(module=normalized(), batch_size=1),
        "batch_size=1 is too small for this module, whose batch normalization",
    ),
    "labeled_batch_size 1 and batch normalization": (
        lambda: fit(module=normalized(), y=np.arange(30) % 3, labeled_batch_size=1),
        "labeled_batch_size=1 is too small for this module",
    ),
    "device": (
        lambda: fit(device="gpu"),
        "device='gpu', but torch finds no gpu device here.*'auto', 'cpu', or 'cuda'",
    ),
    "device without data": (lambda: fit(device="meta"), "no meta device here"),
    "device number": (lambda: fit(device="cuda:99"), "no cuda:99 device here"),
    "columns, instance": (
        lambda: fit(module=nn.Linear(4, 2)),
        "returns 2 logits per sample, but y has 3 classes",
    ),
    "not logits": (
        lambda: fit(IMAGES, module=nn.Linear(6, 3)),
        r"logits of shape \(n_samples, 3\), got \(2, 1, 6, 3\)",
    ),
    "cnn for a table": (lambda: fit(module="cnn"), "needs images.*image_shape"),
    "CNN13 for a table": (lambda: fit(module=CNN13), "needs images.*image_shape"),
    "set_params": (
        lambda: tiny().set_params(tolerence=0.1),
        "Invalid parameter 'tolerence' for estimator PNLClassifier",
    ),
    "set_params of the selection": (
        lambda: tiny().set_params(selection__tolerence=0.1),
        "Invalid parameter 'tolerence' for estimator AdaptiveNegatives",
    ),
    "net_params, module": (
        lambda: fit(net_params={"module__hiden": 8}),
        "unknown name 'module__hiden'; did you mean 'module__hidden'",
    ),
    "net_params, optimizer": (
        lambda: fit(net_params={"optimizer__wieght_decay": 0}),
        "'optimizer__wieght_decay'; did you mean 'optimizer__weight_decay'",
    ),
    "net_params, DataLoader": (
        lambda: fit(net_params={"iterator_train__num_worker": 1}),
        "did you mean 'iterator_train__num_workers'",
    ),
    "net_params, a parameter": (
        lambda: fit(net_params={"lr": 0.5}),
        "contains 'lr', which is a parameter of the estimator itself",
    ),
    "net_params, groups": (
        lambda: fit(
            net_params={"optimizer__param_groups": [("layers.*", {"lr": 0.5})]}
        ),
        r"pattern 'layers\.\*', which matches none.*network\.",
    ),
    "net_params, batches": (
        lambda: fit(dataset(X), net_params={"iterator_train__batch_size": 8}),
        "'iterator_train__batch_size', but PNLClassifier samples the batches itself",
    ),
    "net_params, no prefix": (
        lambda: fit(net_params={"hidden": 8}),
        "unknown name 'hidden'; did you mean 'module__hidden'",
    ),
    "net_params, set_params": (
        lambda: tiny().set_params(module__hiden=8).fit(X, Y),
        "did you mean 'module__hidden'",
    ),
    "net_params, other optimizer": (
        lambda: fit(net_params={"optimizer__momentum": 0.9}),
        "unknown name 'optimizer__momentum'",
    ),
    "net_params, instance": (
        lambda: fit(module=nn.Linear(4, 3), net_params={"module__bias": False}),
        "'module__bias', but module is an instance.*Pass its class",
    ),
    "EarlyStopping": (
        lambda: fit(callbacks=[EarlyStopping(monitor="valid_loss")]),
        "monitors 'valid_loss', but nothing is held out.*'train_loss'",
    ),
    "EarlyStopping by default": (
        lambda: fit(callbacks=[("stop", EarlyStopping())]),
        "monitors 'valid_loss'.*'train_loss'",
    ),
    "EarlyStopping, class": (
        lambda: fit(callbacks=[EarlyStopping]),
        "EarlyStopping monitors 'valid_loss', but nothing is held out",
    ),
    "EarlyStopping, unknown column": (
        lambda: fit(callbacks=[EarlyStopping("valid_acc")], validation_fraction=0.4),
        "monitors 'valid_acc', but the numeric columns.*'train_loss'.*'valid_accuracy'",
    ),
    "EarlyStopping, misspelled": (
        lambda: fit(callbacks=[EarlyStopping("trainloss")]),
        "monitors 'trainloss', but the numeric columns of.* are 'epoch', 'train_loss'",
    ),
    "EarlyStopping, a column of lists": (
        lambda: fit(callbacks=[EarlyStopping("class_distribution")]),
        "monitors 'class_distribution', but the numeric columns",
    ),
    "EarlyStopping, an entry": (
        lambda: fit(
            callbacks=[EarlyStopping("train_loss")],
            net_params={"callbacks__EarlyStopping__monitor": "valid_loss"},
        ),
        "monitors 'valid_loss', but nothing is held out",
    ),
    "EarlyStopping beside another callback": (
        lambda: fit(callbacks=[OwnCallback(), EarlyStopping()]),
        "monitors 'valid_loss', but nothing is held out",
    ),
    "Checkpoint by an entry": (
        lambda: fit(
            callbacks=[("stop", EarlyStopping("train_loss"))],
            net_params={"callbacks__stop": Checkpoint()},
        ),
        "Checkpoint cannot be used",
    ),
    "entry of no callback": (
        lambda: fit(
            callbacks=[EarlyStopping("train_loss")],
            net_params={"callbacks__early_stopping__patience": 5},
        ),
        r"'callbacks__early_stopping__patience'; the callbacks.*\['EarlyStopping'\]",
    ),
    "EarlyStopping, warm start without validation": (
        lambda: (
            fit(callbacks=[EarlyStopping()], validation_fraction=0.4, warm_start=True)
            .set_params(validation_fraction=None)
            .fit(X, Y)
        ),
        "monitors 'valid_loss', but nothing is held out",
    ),
    "Checkpoint": (
        lambda: fit(callbacks=[Checkpoint(monitor=None)]),
        "Checkpoint cannot be used. Use PNLClassifier.checkpoint='fit.ckpt'",
    ),
    "LoadInitState": (
        lambda: fit(callbacks=[("load", LoadInitState(Checkpoint()))]),
        "LoadInitState cannot be used. Use PNLClassifier.checkpoint=",
    ),
    "EpochScoring": (
        lambda: fit(callbacks=[EpochScoring("accuracy")]),
        "EpochScoring cannot be used. It scores batches.*X_val and y_val",
    ),
    "ProgressBar": (lambda: fit(callbacks=[ProgressBar()]), "verbose=1"),
    "InputShapeSetter": (
        lambda: fit(callbacks=[InputShapeSetter()]),
        "module is given n_features",
    ),
    "warm start": (
        lambda: fit(warm_start=True).fit(X, Y + (Y >= 0)),
        r"a fit with classes \[0, 1, 2\], but y contains \[1, 2, 3\]",
    ),
    "resume": (
        lambda: fit(warm_start="resume").fit(X, Y + (Y >= 0)),
        r"warm_start='resume' continues a fit with classes \[0, 1, 2\]",
    ),
    "warm start, features": (
        lambda: fit(warm_start=True).fit(X[:, :3], Y),
        "X has 3 features, but PNLClassifier is expecting 4 features",
    ),
    "score, nothing labeled": (
        lambda: fit().score(X, np.full(30, -1)),
        "score needs labeled samples",
    ),
    "score, lengths": (lambda: fit().score(X, Y[:29]), "inconsistent numbers"),
}
CASES = TARGETS | INPUTS | PARAMETERS


@pytest.mark.parametrize(("act", "message"), CASES.values(), ids=CASES)
def test_bad_input(act, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        act()


@pytest.mark.filterwarnings("ignore:Columns")
def test_large_values_of_small_range_are_learned():
    """Such as times in nanoseconds: the range counts, not the mean."""
    large, truth = X * 5e16 + 1e18, np.arange(30) % 3
    assert fit(large, steps_per_epoch=15, lr=0.02).score(large, truth) > 0.9


def test_values_too_large_for_float32():
    with pytest.raises(ValueError, match="infinity or a value too large"):
        fit(with_value(1e300))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: PNLClassifier(tolerance=0.1), "unexpected keyword .*'tolerance'"),
        (lambda: fit(np.array([[{}, 1]] * 30)), "argument must be .*string.* number"),
        (
            lambda: fit(consistency=OnlyTargets()),
            "is no pnl_sklearn.objectives.Consistency.*rampup and needs_ema",
        ),
        (lambda: fit(callbacks=["stop"]), "'stop', which is no callback of skorch"),
        (lambda: fit(DataLoader(dataset(X))), "DataLoader.*its Dataset, X.dataset"),
        (lambda: fit(Endless()), "Dataset without a length, Endless"),
        (lambda: fit(Strings()), "tensors or arrays.*got str.*ToTensor"),
        (
            lambda: fit(frame("abcd").assign(a=np.datetime64("2026-01-01"))),
            "not numbers in column 'a'",
        ),
        (
            lambda: fit(frame("ab", DATES.reshape(30, 2))),
            "not numbers in columns 'a', 'b'",
        ),
        (
            lambda: fit(frame("a", DATES[:30, None]).apply(utc)),
            "not numbers in column 'a'",
        ),
        (lambda: fit(DATES.reshape(30, 2)), "not numbers.*dates as numbers of days"),
        (
            lambda: fit(polars_frame(a=DATES[:30].tolist())),
            "not numbers in column 'a'",
        ),
    ],
    ids=[
        "unknown parameter",
        "objects",
        "consistency",
        "callback",
        "DataLoader",
        "IterableDataset",
        "Dataset of strings",
        "dates beside numbers",
        "dates",
        "dates of a time zone",
        "array of dates",
        "dates of polars",
    ],
)
def test_bad_type(act, message):
    with pytest.raises(TypeError, match=message):
        act()


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "score"]
)
def test_predict_before_fit(method):
    arguments = (X, Y) if method == "score" else (X,)
    with pytest.raises(NotFittedError, match="PNLClassifier instance is not fitted"):
        getattr(PNLClassifier(), method)(*arguments)


@pytest.mark.parametrize(
    ("device", "is_available"),
    [("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)],
)
def test_device_that_is_missing(device, is_available):
    if is_available():
        pytest.skip(f"there is a {device} device")
    with pytest.raises(ValueError, match=f"device='{device}'.*no {device} device here"):
        fit(device=device)


@pytest.mark.parametrize("before", [tiny, fit], ids=["new", "fitted"])
@pytest.mark.parametrize(
    "params", [{"module": Fixed}, {"selection": AdaptiveNegatives(tolerance=1.5)}]
)
def test_refused_fit_leaves_no_fitted_estimator(before, params):
    estimator = before().set_params(**params)
    with pytest.raises(ValueError, match=r"7 logits|tolerance=1\.5"):
        estimator.fit(X, np.where(Y < 0, Y, Y + 1))
    with pytest.raises(NotFittedError):
        estimator.predict(X)
