"""Data on which neighbors mislead, and others that people have.

Some are read from the folder ``real`` of the data: an ``.npz`` each, with `X` and `y`,
and `X_test` and `y_test` where there is a test part. The others are generated.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import train_test_split
from torch.nn import functional as F


def mixed_table(rng, n=1500):
    """Three numeric features and two categorical ones, one-hot; a linear score.

    One of the numeric features is noise. Two thresholds of the score part three
    classes, so that no gap separates them.
    """
    age, log_income = rng.normal(45, 15, n), rng.normal(10, 0.6, n)
    city = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    plan = rng.integers(3, size=n)
    score = (age - 45) / 15 + (log_income - 10) / 0.4 + (plan == 2)
    score += np.array([1.5, -1.5, 0, 0])[city] + rng.normal(0, 0.4, n)
    columns = [
        (age - 45) / 15,
        np.exp(log_income) / 3e4,
        rng.integers(9, size=n) / 3,
        np.eye(4)[city],
        np.eye(3)[plan],
    ]
    return np.column_stack(columns).astype(np.float32), np.digitize(score, [-1.2, 1.2])


def xor(rng, n=600):
    """Two uniform features; the class is whether their signs differ."""
    X = rng.uniform(-1, 1, (n, 2))
    return X, (X.prod(axis=1) < 0).astype(int)


def misleading_clusters(rng, n=600):
    """Two clusters far apart along a feature that does not depend on the class."""
    X = rng.normal(size=(n, 6))
    X[:, 0] += 6 * rng.integers(2, size=n)
    return X, (X[:, 1] + rng.normal(0, 0.3, n) > 0).astype(int)


def one_hot(rng, n=600):
    """Five categorical features of eight values, one-hot; a linear score."""
    X = np.hstack([np.eye(8)[rng.integers(8, size=n)] for _ in range(5)])
    score = X @ rng.normal(size=X.shape[1])
    return X, (score > np.median(score)).astype(int)


def rare_class(rng, n=2000):
    """Two classes, twenty to one."""
    return make_classification(
        n,
        12,
        n_informative=5,
        weights=[0.952],
        class_sep=1.5,
        flip_y=0,
        random_state=int(rng.integers(2**31)),
    )


def colored_digits(rng, n=1000, side=32):
    """scikit-learn's digits as color images, uint8 (n, side, side, 3).

    Foreground and background are of random colors, the foreground is brighter.
    """
    digits = load_digits()
    ink = torch.from_numpy(digits.images[:n, None]).float() / 16
    ink = F.interpolate(ink, (side, side), mode="bicubic").clamp(0, 1)
    ink = ink.permute(0, 2, 3, 1).numpy()
    front = rng.integers(150, 255, (n, 1, 1, 3))
    back = rng.integers(0, 100, (n, 1, 1, 3))
    return (back + (front - back) * ink).astype(np.uint8), digits.target[:n]


# name -> (function of a generator that returns X and y, labels per class)
GENERATED = {
    "mixed_table": (mixed_table, 15),
    "xor": (xor, 10),
    "misleading_clusters": (misleading_clusters, 8),
    "one_hot": (one_hot, 15),
    "rare_class": (rare_class, (9, 1)),
    "colored_digits": (colored_digits, 5),
}


def read(path):
    """Return X, y, X_test, y_test of a file; a quarter is the test part if it has none.

    Features are float32, classes are coded from 0.
    """
    with np.load(path, allow_pickle=True) as file:  # strings may be objects
        parts = {name: file[name] for name in file.files}
    X, (classes, y) = parts["X"], np.unique(parts["y"], return_inverse=True)
    X = X.astype(np.float32)
    if "X_test" in parts:
        y_test = np.searchsorted(classes, parts["y_test"])
        return X, y, parts["X_test"].astype(np.float32), y_test
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    return X, y, X_test, y_test
