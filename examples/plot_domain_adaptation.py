"""
Domain adaptation: labels of one data set, images of another
============================================================

This example shows how to classify a *target* data set without labels by the labels of a
similar *source* data set.

The source is USPS: digits scanned from letters. The target is MNIST. One ``fit`` gets
both: the source with its labels, and the target as unlabeled data.

The two data sets are read by torchvision, from a folder or from the network::

    python plot_domain_adaptation.py --data FOLDER --download

The three fits take long on a CPU. Use ``--samples 6000 --epochs 1`` for a short run.
"""

# %%
# Images of the same size
# -----------------------
# An image of MNIST has 28 x 28 pixels, with a margin of 4 pixels. An image of USPS has
# 16 x 16 pixels and no margin. So it is resized to 20 x 20 pixels and gets the same
# margin.

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
# The samples of the target get -1, which means "unlabeled". The class frequencies of
# source and target differ. The default ``class_prior="auto"`` does not use the
# frequencies of the labels, so that it can be kept.

X = np.concatenate([source, target])
y = np.concatenate([source_labels, np.full(len(target), -1)])
model = PNLClassifier(max_epochs=options.epochs, random_state=0, verbose=1)
model.fit(X, y)

# %%
# Comparison
# ----------
# The same networks are also trained in two other ways:
#
# - on the labeled source only. This is the supervised baseline;
# - on the target with all of its labels.
#
# The gap between these two accuracies is what domain adaptation can gain at most.

baseline = supervised_baseline(model).set_params(
    steps_per_epoch=model.submodels_[0].n_steps_ // model.n_iter_, verbose=0
)
fitted = {
    "source only": clone(baseline).fit(X, y),
    "source and target": model,
    "target, all labels": clone(baseline)
    .set_params(labeled_batch_size=64)
    .fit(target, target_labels),
}
accuracies = {}
for name, classifier in fitted.items():
    accuracies[name] = classifier.score(mnist_test.data.numpy(), mnist_test.targets)
    print(f"{name:20} accuracy on test images of MNIST: {100 * accuracies[name]:.2f} %")
low, ours, high = accuracies.values()
print(f"gained: {100 * (ours - low) / (high - low):.0f} % of the gap")

# %%
# The figure shows images of both data sets, and the test errors of the three fits.

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.2])
axes = left.subplots(4, 8, gridspec_kw={"wspace": 0, "hspace": 0})
for row, images in zip(axes.reshape(2, 16), (source, target), strict=True):
    for ax, image in zip(row, images, strict=False):
        ax.imshow(image, cmap="gray_r")
        ax.axis("off")
left.suptitle("USPS, labeled (above), and MNIST (below)")
ax = right.subplots()
errors = [100 * (1 - accuracy) for accuracy in accuracies.values()]
bars = ax.barh(list(accuracies), errors, color=["lightsteelblue", "C3", "silver"])
ax.bar_label(bars, fmt="%.1f %%", padding=3)
ax.invert_yaxis()
ax.margins(x=0.2)
ax.set(xlabel="error on the test images of MNIST (%)", title="Test errors")
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# The figure of a short run, ``--samples 6000 --epochs 1``:
#
# .. image:: /gallery/plot_domain_adaptation.png
#     :alt: Errors on the target of three fits.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_domain_adaptation.png"
