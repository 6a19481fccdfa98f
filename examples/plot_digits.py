"""
Twenty labels on the digits
===========================

This example shows how to fit :class:`~pnl_sklearn.PNLClassifier` to images with few
labels, how to compare it with other methods, and how to read its ``history_``.

The data are scikit-learn's digits: 1,797 images in ten classes. Two images of each
class keep their label. Four methods get the same images and labels:

- the *supervised baseline*: the same networks, trained on the labeled images only;
- :class:`~sklearn.semi_supervised.SelfTrainingClassifier`;
- :class:`~sklearn.semi_supervised.LabelSpreading`;
- :class:`~pnl_sklearn.PNLClassifier` with its default parameters.

The results depend on which images are labeled. So all methods are compared on three
label splits. This takes a few minutes on a CPU.
"""

# %%
# The label splits
# ----------------
# A label split is identified by its seed. The seed determines the test set and the
# labeled images. The helper ``make_label_split`` of ``examples/label_splits.py`` splits
# off the test set, which holds 30 % of the images. Then it hides most labels of the
# training set. The label -1 means "unlabeled".

import argparse
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from label_splits import make_label_split
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from pnl_sklearn import PNLClassifier, supervised_baseline

parser = argparse.ArgumentParser(description="Twenty labels on the digits.")
parser.add_argument("--splits", type=int, nargs="+", default=[100, 101, 102])
parser.add_argument("--epochs", type=int, default=None, help="default: PNLClassifier's")
args = parser.parse_args()

X, y = load_digits(return_X_y=True)
flat, images = {}, {}
for seed in args.splits:
    flat[seed] = make_label_split(X / 16, y, n_labeled=20, seed=seed)
    images[seed] = make_label_split(X.reshape(-1, 8, 8), y, n_labeled=20, seed=seed)

# %%
# The methods of scikit-learn
# ---------------------------
# The two methods of scikit-learn get flat samples of 64 features, scaled to [0, 1].
# Their accuracy depends on their parameters, and twenty labels are too few to choose
# these by cross-validation.
#
# LabelSpreading is fast, so it is fitted with many settings. The setting with the
# lowest *test* error is reported, which favors LabelSpreading. SelfTrainingClassifier
# gets a logistic regression with little regularization.


def fit_and_test(model, data):
    """Return the test error in percent and the seconds that the fit took."""
    X_train, X_test, _, y_test, y_few = data
    begin = time.perf_counter()
    model.fit(X_train, y_few)
    seconds = time.perf_counter() - begin
    return 100 * (1 - model.score(X_test, y_test)), seconds


def best_of(candidates):
    """Fit every candidate to every label split; return the results of the best."""
    print(f"{type(candidates[0]).__name__}, {len(candidates)} settings ...", flush=True)
    results = []
    with warnings.catch_warnings():
        # Some settings do not converge.
        warnings.simplefilter("ignore")
        for model in candidates:
            results.append([fit_and_test(model, flat[seed]) for seed in args.splits])
    best = int(np.argmin(np.mean(results, axis=1)[:, 0]))
    print(f"  best: {candidates[best]}", flush=True)
    return results[best]


kernels = [{"kernel": "rbf", "gamma": gamma} for gamma in (1, 3, 10, 20)]
kernels += [{"kernel": "knn", "n_neighbors": n} for n in (5, 7, 10)]
results = {
    "SelfTrainingClassifier": best_of(
        [SelfTrainingClassifier(LogisticRegression(C=10, max_iter=1000))]
    ),
    "LabelSpreading": best_of(
        [
            LabelSpreading(**kernel, alpha=alpha, max_iter=100)
            for kernel in kernels
            for alpha in (0.5, 0.9, 0.99)
        ]
    ),
}

# %%
# The two networks
# ----------------
# ``PNLClassifier`` gets the images as they are, of shape (n, 8, 8) and not scaled. By
# default its networks for images are convolutional. The augmentations are random
# shifts, rotations and changes of size and slant. The images are not flipped.

model = PNLClassifier(random_state=0)
if args.epochs is not None:
    model.set_params(max_epochs=args.epochs)
fitted = {}
for name, template in {
    "supervised baseline": supervised_baseline(model),
    "PNLClassifier": model,
}.items():
    results[name] = []
    for seed in args.splits:
        print(f"{name}, label split {seed} ...", end=" ", flush=True)
        fitted[name, seed] = clone(template)
        error, seconds = fit_and_test(fitted[name, seed], images[seed])
        results[name].append((error, seconds))
        print(f"{error:.1f} % test error, {seconds:.0f} s", flush=True)

# %%
# Test errors
# -----------

order = [
    "supervised baseline",
    "SelfTrainingClassifier",
    "LabelSpreading",
    "PNLClassifier",
]
errors = pd.DataFrame({name: [e for e, _ in results[name]] for name in order}).T
errors.columns = [f"split {seed}" for seed in args.splits]
table = errors.assign(
    mean=errors.mean(axis=1),
    seconds=[np.mean([s for _, s in results[name]]) for name in order],
)
print("\nTest error in %, and seconds of one fit:\n")
print(table.round(1).to_string(), "\n")

# %%
# History and test errors
# -----------------------
# ``history_`` has one entry per epoch. The left panel shows four of its quantities, for
# the first label split:
#
# - ``teacher_student_agreement``: the fraction of unlabeled images for which teacher
#   and student predict the same class;
# - ``negative_coverage``: the fraction with at least one pseudo-negative label;
# - ``supervised_loss``: the loss of the labeled images;
# - ``negative_loss``: the loss of the pseudo-negative labels.
#
# In the right panel each dot is a label split.

history = pd.DataFrame(fitted["PNLClassifier", args.splits[0]].history_)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")

fractions, losses = left, left.twinx()
for name, style in {
    "teacher_student_agreement": "o-",
    "negative_coverage": "s-",
}.items():
    fractions.plot(history["epoch"], 100 * history[name], style, label=name, ms=4)
for name, color in {"supervised_loss": "tab:green", "negative_loss": "tab:red"}.items():
    losses.plot(history["epoch"], history[name], "--", color=color, label=name)
fractions.set(xlabel="epoch", ylabel="unlabeled images (%), solid lines", ylim=(0, 102))
losses.set(ylabel="loss (nats), dashed lines")
losses.set_ylim(bottom=0)
fractions.xaxis.get_major_locator().set_params(integer=True)
fractions.set_title(f"PNLClassifier in training, label split {args.splits[0]}")
lines = [*fractions.lines, *losses.lines]
names = [line.get_label() for line in lines]
losses.legend(lines, names, loc="upper right", bbox_to_anchor=(1, 0.8))

position = np.arange(len(order))
right.barh(position, errors.mean(axis=1), color="lightsteelblue", label="mean")
for i, column in enumerate(errors):
    label = "one label split" if i == 0 else None
    right.plot(errors[column], position, "o", color="black", ms=5, label=label)
right.set(xlabel="test error (%)", title="Twenty labels", yticks=position)
means = errors.mean(axis=1)
right.set_yticklabels([f"{name}\nmean {means[name]:.1f} %" for name in order])
right.invert_yaxis()
right.legend(loc="lower right")

path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_digits.png
#     :alt: Metrics of a fit by epoch, and test errors of four methods.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_digits.png"
