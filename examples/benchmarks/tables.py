"""Tables that need no download: scikit-learn's own, and generated ones."""

from functools import partial

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_moons,
)


def waves(n_samples, rng):
    """Breiman's waveforms: 21 noisy points of a mixture of two of three triangles.

    L. Breiman et al., "Classification and Regression Trees", 1984, section 2.6.2.
    """
    points = np.arange(1, 22)
    triangles = np.stack([np.maximum(6 - abs(points - c), 0) for c in (11, 15, 7)])
    y = rng.integers(3, size=n_samples)
    share = rng.random((n_samples, 1))
    first, second = np.array([(0, 1), (0, 2), (1, 2)])[y].T
    means = share * triangles[first] + (1 - share) * triangles[second]
    return means + rng.normal(size=means.shape), y


def two_normals(n_samples, rng):
    """Breiman's twonorm: two overlapping normal classes in 20 dimensions.

    L. Breiman, "Bias, Variance, and Arcing Classifiers", 1996.
    """
    y = rng.integers(2, size=n_samples)
    return rng.normal(size=(n_samples, 20)) + (2 * y - 1)[:, None] * 2 / np.sqrt(20), y


def clusters(n_samples, rng, n_classes, n_clusters, n_features=20, separation=1.5):
    """Clusters around corners of a hypercube, with uninformative features."""
    return make_classification(
        n_samples,
        n_features,
        n_informative=n_features // 2,
        n_redundant=n_features // 4,
        n_classes=n_classes,
        n_clusters_per_class=n_clusters,
        class_sep=separation,
        flip_y=0,
        random_state=int(rng.integers(2**31)),
    )


def moons(n_samples, rng):
    """Two interleaved half circles, with noise."""
    return make_moons(n_samples, noise=0.15, random_state=int(rng.integers(2**31)))


def _bundled(load, _rng):
    return load(return_X_y=True)


# name -> (function of a generator that returns X and y, labels per class)
TABLES = {
    "iris": (partial(_bundled, load_iris), 4),
    "wine": (partial(_bundled, load_wine), 3),
    "breast_cancer": (partial(_bundled, load_breast_cancer), 5),
    "digits_as_table": (partial(_bundled, load_digits), 2),
    "moons": (partial(moons, 1000), 5),
    "waves": (partial(waves, 2000), 5),
    "two_normals": (partial(two_normals, 2000), 5),
    "four_clusters": (partial(clusters, 2000, n_classes=4, n_clusters=1), 5),
    "eight_clusters": (partial(clusters, 2000, n_classes=4, n_clusters=2), 10),
    "ten_classes": (
        partial(clusters, 3000, n_classes=10, n_clusters=1, n_features=30),
        5,
    ),
}
