"""
A pretrained backbone, trained or frozen
========================================

This example shows two ways to use a pretrained network, the *backbone*, with
:class:`~pnl_sklearn.PNLClassifier`:

- train all weights: give the backbone as ``module``;
- keep the weights frozen: compute the embeddings once and fit to them as a table. This
  is much faster.

The example runs without a download. **Then the weights are random**, and the test
errors do not say how good a pretrained network is. For pretrained weights give a file
of torchvision: ``python plot_pretrained.py --weights resnet18.pth``. Weights in the
cache of torchvision are found without this option.
"""

# %%
# Images
# ------
# The images are generated. They show grass, brick, water or sand, with varying colors
# and textures. Five images of each class are labeled. The images are of dtype uint8 and
# shape (n, height, width, 3). They can be given as they are.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser(description="A pretrained backbone.")
parser.add_argument("--weights", type=Path, help="state dict of torchvision's resnet18")
parser.add_argument("--steps", type=int, default=24, help="steps that train it all")
args = parser.parse_args()

names = np.array(["grass", "brick", "water", "sand"])
colors = np.array([[90, 140, 70], [150, 90, 70], [70, 120, 150], [180, 160, 110]])
rng = np.random.default_rng(0)


def make_images(n, side=32):
    """Return n images, uint8 of shape (n, side, side, 3), and their names."""
    y = rng.integers(len(names), size=n)
    down, across = np.mgrid[:side, :side][:, None] + rng.uniform(0, side, (2, n, 1, 1))
    period = rng.uniform(5, 9, (n, 1, 1))
    row = down // period
    textures = np.stack(
        [
            np.sin(6 * across / period + np.sin(down)),
            np.where((down % period < 1) | ((across + 4 * row) % 8 < 1), 2.0, -0.3),
            np.sin(6 * (down + 2 * np.sin(across / period)) / period),
            rng.normal(size=(n, side, side)),
        ]
    )
    light = 30 * textures[y, np.arange(n)] + rng.normal(0, 15, (n, side, side))
    tint = rng.normal(0, 15, (n, 1, 1, 3)) + rng.normal(0, 25, (n, 1, 1, 1))
    images = colors[y][:, None, None] + tint + light[..., None]
    return images.clip(0, 255).astype(np.uint8), names[y]


X_train, y_train = make_images(600)
X_test, y_test = make_images(400)
y_few = hide_labels(y_train, n_labeled=20, random_state=0)

# %%
# The backbone
# ------------
# The module is given as an instance, which has the pretrained weights. Each submodel is
# a copy of it. Equal copies could not teach each other. If the module has a method
# ``reset_head``, it is called on each copy, with a different seed.

cached = Path(torch.hub.get_dir()) / "checkpoints"
cached /= Path(ResNet18_Weights.DEFAULT.url).name
weights = args.weights or (cached if cached.exists() else None)
print(f"Weights: {weights or 'none, the features are random'}", flush=True)


class Backbone(nn.Module):
    """A resnet18 with a head of its own."""

    def __init__(self, n_classes, weights=None):
        super().__init__()
        self.body = resnet18()
        if weights is not None:
            self.body.load_state_dict(torch.load(weights, weights_only=True))
        n_features = self.body.fc.in_features
        self.body.fc = nn.Identity()
        self.head = nn.Linear(n_features, n_classes)

    def reset_head(self):
        self.head.reset_parameters()

    def forward(self, x):
        return self.head(self.body(x))


torch.manual_seed(0)
backbone = Backbone(len(names), weights)

# %%
# Train all weights
# -----------------
# Pretrained networks expect color channels of mean 0 and variance 1. By default,
# ``PNLClassifier`` scales them so (``standardize=True``). Pretrained weights need a
# lower learning rate than random weights.
#
# A resnet18 is large for a CPU. So the fit takes few steps with small batches. On a GPU
# use the default batch sizes and number of steps.

tuned = PNLClassifier(
    backbone,
    lr=0.001 if weights is None else 0.0001,
    max_epochs=4,
    steps_per_epoch=max(args.steps // 4, 1),
    batch_size=32,
    labeled_batch_size=16,
    random_state=0,
    verbose=1,
)
tuned.fit(X_train, y_few)
errors = {"backbone, all trained": 100 * (1 - tuned.score(X_test, y_test))}

# %%
# Frozen embeddings
# -----------------
# The backbone computes 512 features of each image once. A fit to this table is fast.
# The augmentations are those of tables.


@torch.no_grad()
def embed(images):
    """Return 512 features of each image, by the backbone before training."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    parts = ((x - mean) / deviation).split(100)
    return torch.cat([backbone.body.eval()(part) for part in parts]).numpy()


E_train, E_test = embed(X_train), embed(X_test)
frozen = PNLClassifier("mlp", steps_per_epoch=50, random_state=0)
frozen.fit(E_train, y_few)
errors["embeddings, PNLClassifier"] = 100 * (1 - frozen.score(E_test, y_test))

labeled = y_few != -1
linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
linear.fit(E_train[labeled], y_train[labeled])
errors["embeddings, LogisticRegression"] = 100 * (1 - linear.score(E_test, y_test))

# %%
# Results
# -------
# The left panel shows predictions of the fit that trains all weights. The right panel
# compares the test errors. A random prediction has an error of 75 %.

print("\nTest error in %, five labels of each class:\n")
print(pd.Series(errors).round(1).to_string(), "\n")

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.2])
predicted = tuned.predict(X_test[:12])
for i, ax in enumerate(left.subplots(3, 4).flat):
    ax.imshow(X_test[i])
    color = "black" if predicted[i] == y_test[i] else "red"
    ax.set_title(predicted[i], color=color, fontsize="small")
    ax.axis("off")
left.suptitle("backbone, all trained: predictions (red: wrong)")
ax = right.subplots()
bars = ax.barh(list(errors), list(errors.values()), color="lightsteelblue")
ax.bar_label(bars, fmt="%.1f %%", padding=4)
ax.set(xlabel="test error (%)", xlim=(0, 1.25 * max(errors.values())))
ax.set_title("random weights" if weights is None else "pretrained weights")
ax.invert_yaxis()

path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_pretrained.png
#     :alt: Predictions of test images, and test errors.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_pretrained.png"
