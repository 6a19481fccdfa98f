"""The tasks: data, labels and measure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from pnl_sklearn import AdaptiveNegatives, GraphPosterior
from pnl_sklearn.views import ImageView, RandAugmentView

from .deformable import DeformableNeighbors
from .hard_tables import GENERATED, read
from .tables import TABLES

# Label splits before this one are for tuning; results are of those from it on.
FIRST_REPORTED = 100


class Data(NamedTuple):
    """Data of a label split: `y_few` is `y` with -1 for all samples but the labeled."""

    X: np.ndarray
    y_few: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Task:
    """A data set with its settings.

    Parameters
    ----------
    name : str
    title : str
        For tables and figures.
    load : callable from (split, options) to Data
    style : str
        Task of `paper_style`.
    params : dict
        Parameters of all methods of this package.
    cuda : dict
        Parameters on a CUDA device, beside `params`.
    best : dict
        Parameters of the best setting found on the label splits for tuning, beside
        `params`; empty where nothing was better than the default.
    balanced : bool
        Whether the error is the mean of the errors of the classes.
    paper : float or None
        Error in percent that the paper reports.
    large : bool
        Whether there are too many samples for dense graphs and wide grids.
    max_iter : int
        Iterations of the logistic regression in self-training, at most.
    note : str
        Note beside its results.
    """

    name: str
    title: str
    load: Callable[[int, "Options"], Data]
    style: str
    params: dict[str, Any] = field(default_factory=dict)
    cuda: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    balanced: bool = False
    paper: float | None = None
    large: bool = False
    max_iter: int = 1000
    note: str = ""


@dataclass(frozen=True)
class Options:
    """Where the data are, and whether a small version is wanted."""

    data: Path | None = None
    download: bool = False
    small: bool = False


def draw_labels(y, per_class, rng):
    """Keep `per_class` labels of each class at random; -1 for all others.

    `per_class` is a number, or one for each class. `hide_labels` would choose others
    than the recorded results have.
    """
    classes = np.unique(y)
    counts = np.broadcast_to(per_class, len(classes))
    kept = [
        rng.permutation(np.flatnonzero(y == k))[:n]
        for k, n in zip(classes, counts, strict=True)
    ]
    hidden = np.full_like(y, -1)
    hidden[np.concatenate(kept)] = y[np.concatenate(kept)]
    return hidden


def _digits(split, options, per_class, imbalanced=False):
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X.reshape(-1, 8, 8), y, test_size=0.3, stratify=y, random_state=split
    )
    rng = np.random.default_rng(split)
    if imbalanced:  # 120 or so of each of the classes 0-4, 12 of 5-9
        few = [rng.permutation(np.flatnonzero(y == k))[:12] for k in range(5, 10)]
        rows = np.concatenate([np.flatnonzero(y < 5), *few])
        X, y = X[rows], y[rows]
    return Data(X, draw_labels(y, per_class, rng), y, X_test, y_test)


def _table(split, options, name):
    make, per_class = (TABLES | GENERATED)[name]
    rng = np.random.default_rng(split)
    X, y = make(rng)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=split
    )
    return Data(X, draw_labels(y, per_class, rng), y, X_test, y_test)


def _real(split, options, name, per_class, n_samples=None):
    """Of the file's training part, or of `n_samples` of it."""
    X, y, X_test, y_test = read(_folder(options, name) / "real" / f"{name}.npz")
    rng = np.random.default_rng(split)
    if n_samples is not None:
        rows = rng.permutation(len(y))[:n_samples]
        X, y = X[rows], y[rows]
    return Data(X, draw_labels(y, per_class, rng), y, X_test, y_test)


def _flipped(split, options, load, share):
    """Replace a share of the given labels, at least one, by other classes."""
    data = load(split, options)
    rng = np.random.default_rng([split, 1])
    classes, y_few = np.unique(data.y), data.y_few.copy()
    labeled = np.flatnonzero(y_few >= 0)
    for i in rng.choice(labeled, max(1, round(share * len(labeled))), replace=False):
        y_few[i] = rng.choice(classes[classes != y_few[i]])
    return data._replace(y_few=y_few)


def _foreign(split, options, load, n_foreign):
    """Make the last classes foreign: without labels, and a third of the unlabeled.

    They are left out of the test part.
    """
    data = load(split, options)
    rng = np.random.default_rng([split, 1])
    is_foreign = data.y > data.y.max() - n_foreign
    own, foreign = (
        np.flatnonzero(~is_foreign),
        rng.permutation(np.flatnonzero(is_foreign)),
    )
    n_unlabeled = int((data.y_few[own] < 0).sum())
    rows = np.sort(np.r_[own, foreign[: n_unlabeled // 2]])
    y_few = np.where(is_foreign, -1, data.y_few)
    known = data.y_test <= data.y.max() - n_foreign
    return Data(
        data.X[rows], y_few[rows], data.y[rows], data.X_test[known], data.y_test[known]
    )


def _folder(options, task):
    if options.data is None:
        raise SystemExit(f"{task} needs its data: --data FOLDER")
    return options.data


def _few(images, y, options, rng, n=2000):
    """All images, or n of them for a small version."""
    if not options.small:
        return images, y
    rows = rng.permutation(len(y))[:n]
    return images[rows], y[rows]


def _mnist(split, options, per_class, imbalanced=False):
    from torchvision.datasets import MNIST

    folder = _folder(options, "mnist")
    train, test = (MNIST(folder, train=t, download=options.download) for t in (1, 0))
    rng = np.random.default_rng(split)
    X, y = _few(train.data.numpy(), train.targets.numpy(), options, rng)
    if imbalanced:
        kept = [
            rng.permutation(rows)[: len(rows) if k < 5 else len(rows) // 10]
            for k in range(10)
            for rows in [np.flatnonzero(y == k)]
        ]
        rows = np.concatenate(kept)
        X, y = X[rows], y[rows]
    y_few = draw_labels(y, per_class, rng)
    return Data(X, y_few, y, test.data.numpy(), test.targets.numpy())


def _usps_to_mnist(split, options):
    """Return USPS, resized to the margins of MNIST, labeled; MNIST, unlabeled."""
    from torchvision.datasets import MNIST, USPS

    folder = _folder(options, "usps2mnist")
    usps = USPS(folder / "USPS", train=True, download=options.download)
    train, test = (MNIST(folder, train=t, download=options.download) for t in (1, 0))
    rng = np.random.default_rng(split)
    source, source_y = _few(usps.data, np.array(usps.targets), options, rng, 1000)
    target, target_y = _few(train.data.numpy(), train.targets.numpy(), options, rng)
    images = torch.from_numpy(source)[:, None].float()
    resized = F.interpolate(images, (20, 20), mode="bilinear", align_corners=False)
    source = F.pad(resized, (4, 4, 4, 4)).round().byte()[:, 0].numpy()
    X = np.concatenate([source, target])
    y_few = np.concatenate([source_y, np.full_like(target_y, -1)])
    y = np.concatenate([source_y, target_y])
    return Data(X, y_few, y, test.data.numpy(), test.targets.numpy())


def _cifar10(split, options, per_class):
    folder = _folder(options, "cifar10")
    rng = np.random.default_rng(split)
    (X, y), (X_test, y_test) = (
        _cifar10_part(folder, part, options, rng) for part in ("train", "test")
    )
    return Data(X, draw_labels(y, per_class, rng), y, X_test, y_test)


def _cifar10_part(folder, part, options, rng):
    """Images (n, 32, 32, 3) and labels, of JPEG files in .npz or of torchvision."""
    packed = folder / "CIFAR10_jpeg" / f"{part}.npz"
    if not packed.exists():
        from torchvision.datasets import CIFAR10

        found = CIFAR10(folder, train=part == "train", download=options.download)
        return _few(found.data, np.array(found.targets), options, rng)
    from torchvision.io import decode_jpeg

    with np.load(packed) as file:
        header, body = bytes(file["header"]), bytes(file["body"])
        offsets, labels = file["offsets"], file["labels"].astype(np.int64)
    where, labels = _few(np.array(list(pairwise(offsets))), labels, options, rng)
    images = [
        decode_jpeg(torch.frombuffer(bytearray(header + body[i:j]), dtype=torch.uint8))
        for i, j in where
    ]
    return torch.stack(images).permute(0, 2, 3, 1).numpy(), labels


_PLAIN = {"weak_view": None, "strong_view": ImageView(noise=0.3)}
_DEFORMABLE = DeformableNeighbors(deskew=True)
_DEFORMABLE_GRAPH = {"graph": GraphPosterior(weight=4.0, neighbors=_DEFORMABLE)}
_PLAIN_DEFORMABLE_GRAPH = {"graph": GraphPosterior(weight=3.0, neighbors=_DEFORMABLE)}
# The automatic view with noise.
_NOISY = {
    "strong_view": ImageView(
        rotation=20, scale=0.15, shear=15, shift=0.12, noise=0.5, fill=(0.0,)
    )
}
# For a large GPU. On a label split for tuning SGD was ahead of AdamW.
_CNN13_CUDA = {
    "precision": "bfloat16",
    "compile": True,
    "batch_size": 256,
    "labeled_batch_size": 64,
    "optimizer": torch.optim.SGD,
    "lr": 0.1,
    "net_params": {
        "optimizer__momentum": 0.9,
        "optimizer__nesterov": True,
        "optimizer__weight_decay": 5e-4,
        "module__dropout": 0.1,
    },
    "ema_decay": 0.999,
    "max_epochs": 200,
}
_PHOTOS = {
    "weak_view": ImageView(shift=4 / 32, flip=True),
    "strong_view": RandAugmentView(),
    "rampup": 0.1,
    "selection": AdaptiveNegatives(tolerance=0.4),
}
_JPEG = "on JPEG files of CIFAR-10 if the data folder has them"

TASKS = {
    task.name: task
    for task in [
        *(
            Task(
                f"digits-{10 * n}",
                f"digits, {10 * n} labels",
                partial(_digits, per_class=n),
                "digits",
            )
            for n in (1, 2, 5, 10, 20)
        ),
        *(
            Task(
                f"mnist-{10 * n}{suffix}",
                f"MNIST, {10 * n} labels, {words}",
                partial(_mnist, per_class=n),
                style,
                params=params,
                best=best,
                paper=0.81 if (n, suffix) == (2, "-plain") else None,
                large=True,
            )
            for n in (2, 10)
            for suffix, words, style, params, best in [
                (
                    "",
                    "augmented",
                    "mnist",
                    {},
                    _NOISY | _DEFORMABLE_GRAPH,
                ),
                (
                    "-plain",
                    "no augmentation",
                    "mnist_plain",
                    _PLAIN,
                    _PLAIN_DEFORMABLE_GRAPH,
                ),
            ]
        ),
        # The task of the study: three epochs instead of ten, and no graph posterior,
        # which would hide the effect of other settings.
        Task(
            "mnist-20-short",
            "MNIST, 20 labels, augmented, three epochs",
            partial(_mnist, per_class=2),
            "mnist",
            params={"max_epochs": 3, "graph": None},
            large=True,
        ),
        *(
            Task(
                f"cifar10-{10 * n}",
                f"CIFAR-10, {10 * n} labels",
                partial(_cifar10, per_class=n),
                "cifar10",
                params={"module": "cnn13"},
                cuda=_CNN13_CUDA,
                best=_PHOTOS,
                paper=paper,
                large=True,
                note=_JPEG,
            )
            for n, paper in [(100, 9.35), (400, 7.94)]
        ),
        Task(
            "usps2mnist",
            "USPS labeled, MNIST unlabeled",
            _usps_to_mnist,
            "mnist",
            best={"consistency": "mean_teacher"},
            large=True,
        ),
        Task(
            "digits-imbalanced",
            "digits, unbalanced 10:1, 20 labels",
            partial(_digits, per_class=2, imbalanced=True),
            "digits",
            balanced=True,
        ),
        Task(
            "mnist-imbalanced",
            "MNIST, unbalanced 10:1, 20 labels",
            partial(_mnist, per_class=2, imbalanced=True),
            "mnist",
            balanced=True,
            large=True,
        ),
        *(
            Task(
                name,
                f"{name.replace('_', ' ')}, {n} a class",
                partial(_table, name=name),
                "table",
            )
            for name, (_, n) in TABLES.items()
        ),
        *(
            Task(
                f"{name}-{n * n_classes}" + ("-10000" if n_samples else ""),
                f"{title}, {n * n_classes} labels",
                partial(_real, name=name, per_class=n, n_samples=n_samples),
                "table",
                large=True,
            )
            for name, title, n_classes, n, n_samples in [
                ("trec_minilm", "TREC questions, MiniLM embeddings", 6, 5, None),
                ("trec_minilm", "TREC questions, MiniLM embeddings", 6, 20, None),
                ("cifar10_effnet", "CIFAR-10, EfficientNet embeddings", 10, 4, None),
                ("cifar10_effnet", "CIFAR-10, EfficientNet embeddings", 10, 10, None),
                ("cifar10_effnet", "CIFAR-10, EfficientNet embeddings", 10, 25, None),
                ("satimage", "satimage", 6, 5, None),
                ("satimage", "satimage", 6, 10, None),
                ("spam", "spam", 2, 5, None),
                ("letter", "letter, 10,000 samples", 26, 5, 10_000),
                ("letter", "letter", 26, 5, None),
            ]
        ),
        *(
            Task(
                name,
                f"{name.replace('_', ' ')}, {' and '.join(map(str, np.ravel(n)))} a "
                "class",
                partial(_table, name=name),
                "digits" if name == "colored_digits" else "table",
                balanced=name == "rare_class",
                large=True,
            )
            for name, (_, n) in GENERATED.items()
        ),
    ]
}
# Wrong labels, and unlabeled samples of classes without labels.
_HARMED = {
    "digits-50": (partial(_digits, per_class=5), "digits", "digits, 50 labels", 4),
    "satimage-60": (
        partial(_real, name="satimage", per_class=10),
        "table",
        "satimage, 60 labels",
        2,
    ),
    "cifar10_effnet-100": (
        partial(_real, name="cifar10_effnet", per_class=10),
        "table",
        "CIFAR-10, EfficientNet embeddings, 100 labels",
        4,
    ),
}
for _name, (_load, _style, _title, _n_foreign) in _HARMED.items():
    for _suffix, _words, _harm in [
        ("flip5", "5 % wrong", partial(_flipped, load=_load, share=0.05)),
        ("flip20", "20 % wrong", partial(_flipped, load=_load, share=0.2)),
        (
            "foreign",
            f"{_n_foreign} classes without labels",
            partial(_foreign, load=_load, n_foreign=_n_foreign),
        ),
    ]:
        TASKS[f"{_name}-{_suffix}"] = Task(
            f"{_name}-{_suffix}", f"{_title}, {_words}", _harm, _style, large=True
        )
# From two labels a class to all.
for _n in (2, 5, 20, 100, 10_000):
    TASKS[f"satimage-each-{_n}"] = Task(
        f"satimage-each-{_n}",
        "satimage, " + ("all labels" if _n == 10_000 else f"{_n} labels a class"),
        partial(_real, name="satimage", per_class=_n),
        "table",
        large=True,
    )
GROUPS = {
    "digits": [f"digits-{n}" for n in (10, 20, 50, 100, 200)],
    "mnist": ["mnist-20", "mnist-100", "mnist-20-plain", "mnist-100-plain"],
    "cifar10": ["cifar10-1000", "cifar10-4000"],
    "imbalanced": ["digits-imbalanced", "mnist-imbalanced"],
    "tables": list(TABLES),
    "embeddings": [
        "trec_minilm-30",
        "trec_minilm-120",
        *(f"cifar10_effnet-{n}" for n in (40, 100, 250)),
    ],
    "harmed": [f"{n}-{h}" for n in _HARMED for h in ("flip5", "flip20", "foreign")],
    "more_labels": [f"satimage-each-{n}" for n in (2, 5, 20, 100, 10_000)],
    "hard": [
        "satimage-30",
        "satimage-60",
        "spam-10",
        "letter-130-10000",
        "letter-130",
        *GENERATED,
    ],
}
