"""
Domain adaptation: labels of one data set, images of another
============================================================

This example shows how to use labels of a *source* data set for a *target* data set that
looks a little different and has no labels. The source is USPS, digits scanned from
letters. The target is MNIST. Both are given to one ``fit``: the source with its labels,
the target as unlabeled data.

The two data sets are read by torchvision, from a folder or from the network::

    python plot_domain_adaptation.py --data FOLDER --download

The three fits take long on a CPU. ``--samples 6000 --epochs 1`` is a quick version.
"""

# %%
# One scale for both
# ------------------
# Images of USPS have 16 x 16 pixels, those of MNIST 28 x 28, of which the outer 4 are
# margin. So USPS is resized to 20 x 20 and gets the same margin.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from torch.nn import functional as F
from torchvision.datasets import MNIST, USPS

from pnl_sklearn import PNLClassifier, supervised_baseline

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--download", action="store_true")
parser.add_argument("--samples", type=int, default=60_000, help="of MNIST")
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

usps = USPS(options.data / "USPS", train=True, download=options.download)
mnist = MNIST(options.data, train=True, download=options.download)
mnist_test = MNIST(options.data, train=False)


def like_mnist(images):
    """Resize uint8 images (n, 16, 16) to (n, 28, 28), with MNIST's margin."""
    images = torch.from_numpy(images)[:, None].float()
    images = F.interpolate(images, (20, 20), mode="bilinear", align_corners=False)
    return F.pad(images, (4, 4, 4, 4)).round().byte()[:, 0].numpy()


kept = np.random.default_rng(0).permutation(len(mnist.data))[: options.samples]
source, source_labels = like_mnist(usps.data), np.array(usps.targets)
target, target_labels = mnist.data.numpy()[kept], mnist.targets.numpy()[kept]

# %%
# One fit
# -------
# The source has its labels, the target has -1. The class frequencies of the target
# differ from those of the source. ``class_prior="auto"``, the default, does not use the
# frequencies of the labels.

X = np.concatenate([source, target])
y = np.concatenate([source_labels, np.full(len(target), -1)])
model = PNLClassifier(max_epochs=options.epochs, random_state=0, verbose=1)
model.fit(X, y)

# %%
# The gain
# --------
# Two fits are compared with: the same networks trained on the labels of the source
# alone (``supervised_baseline``), and on the target with all of its labels. Their
# difference is the gap that adaptation can close.

baseline = supervised_baseline(model).set_params(
    steps_per_epoch=model.submodels_[0].n_steps_ // model.n_iter_, verbose=0
)
fitted = {
    "source only": clone(baseline).fit(X, y),
    "both": model,
    "target, all labels": clone(baseline)
    .set_params(labeled_batch_size=64)
    .fit(target, target_labels),
}
accuracies = {}
for name, classifier in fitted.items():
    accuracies[name] = classifier.score(mnist_test.data.numpy(), mnist_test.targets)
    print(f"{name:20} accuracy on MNIST's test images: {100 * accuracies[name]:.2f} %")
low, ours, high = accuracies.values()
print(f"closed: {100 * (ours - low) / (high - low):.0f} % of the gap")

# %%
# The figure shows images of both data sets, and the errors.

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.2])
axes = left.subplots(4, 8, gridspec_kw={"wspace": 0, "hspace": 0})
for row, images in zip(axes.reshape(2, 16), (source, target), strict=True):
    for ax, image in zip(row, images, strict=False):
        ax.imshow(image, cmap="gray_r")
        ax.axis("off")
left.suptitle("USPS, labeled (above); MNIST, unlabeled")
ax = right.subplots()
errors = [100 * (1 - accuracy) for accuracy in accuracies.values()]
bars = ax.barh(list(accuracies), errors, color=["lightsteelblue", "C3", "silver"])
ax.bar_label(bars, fmt="%.1f %%", padding=3)
ax.invert_yaxis()
ax.margins(x=0.15)
ax.set(xlabel="error on MNIST's test images (%)", title="Errors of three fits")
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
