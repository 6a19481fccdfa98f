"""
Your own network, views and callbacks
=====================================

This example shows how to give :class:`~pnl_sklearn.PNLClassifier` your own network,
your own augmentations, and callbacks of skorch.

The data are movements, recorded by a sensor that measures the acceleration along three
axes. The default networks and augmentations are for tables and images. So we write a
network and augmentations for recordings.
"""

# %%
# Movements
# ---------
# The recordings are generated. Each has three channels, one per axis, and 64 points in
# time. The class is the movement: it determines the shape of the three curves. The
# recordings of a movement differ in begin, speed and strength. There are six movements,
# and three recordings of each are labeled.
#
# ``X`` has to be a table or images. So a recording is an image with three channels and
# a height of 1.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from skorch.callbacks import EarlyStopping, GradientNormClipping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pnl_sklearn import PNLClassifier, supervised_baseline
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser(description="Own network, views and callbacks.")
parser.add_argument("--epochs", type=int, default=8)
args = parser.parse_args()

n_classes, n_axes, length, n_per_class = 6, 3, 64, 3
rng = np.random.default_rng(0)
shapes = rng.normal(size=(n_classes, n_axes, 4, 1))
phases = rng.uniform(0, 2 * np.pi, (n_classes, n_axes, 4, 1))


def record(n):
    """Return n recordings, shape (n, axes, 1, length), and their classes."""
    y = rng.integers(n_classes, size=n)
    speed = rng.uniform(0.7, 1.4, (n, 1, 1, 1))
    begin = rng.uniform(0, 1, (n, 1, 1, 1))
    strength = rng.uniform(0.5, 1.5, (n, 1, 1, 1))
    angle = 2 * np.pi * (speed * np.linspace(0, 1, length) + begin)
    waves = shapes[y] * np.sin(np.arange(1, 5).reshape(4, 1) * angle + phases[y])
    X = (strength * waves).sum(axis=2, keepdims=True)
    return (X + rng.normal(0, 1.0, X.shape)).astype(np.float32), y


X_train, y_train = record(1500)
X_test, y_test = record(1000)
y_few = hide_labels(y_train, n_per_class * n_classes, random_state=0)

# %%
# The network
# -----------
# The network is a module that maps a batch to logits of shape (n, n_classes). Arguments
# of its constructor that are called ``n_channels``, ``n_classes``, ``n_features`` or
# ``image_shape`` are inferred from the data. Others can be given in ``net_params``, as
# in skorch.


class MovementNet(nn.Module):
    """Convolutions over time, and a mean over time."""

    def __init__(self, n_channels, n_classes, width=32):
        super().__init__()
        layers = []
        for n_in, n_out in [(n_channels, width), (width, width), (width, 2 * width)]:
            layers += [
                nn.Conv1d(n_in, n_out, 7, padding=3, stride=2, bias=False),
                nn.BatchNorm1d(n_out),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, x):
        return self.head(self.body(x.squeeze(2)).mean(dim=2))


# %%
# The views
# ---------
# A view is a random augmentation: a function from a batch to a batch. It must not
# change the class of a sample. The teacher predicts on the weak view. The student
# learns on the strong view. Random numbers of torch are seeded by ``random_state``.


def weak_view(x):
    """Shift each recording a little in time."""
    return roll(x, torch.randint(-4, 5, (len(x),), device=x.device))


def strong_view(x):
    """Shift in time, change the strength, add noise and erase an interval."""
    n, _, _, length = x.shape
    x = roll(x, torch.randint(-16, 17, (n,), device=x.device))
    strength = 0.6 + 0.8 * torch.rand(n, 1, 1, 1, device=x.device)
    x = strength * x + 0.3 * torch.randn_like(x)
    time = torch.arange(length, device=x.device)
    begin = torch.randint(length, (n, 1, 1, 1), device=x.device)
    return torch.where((time >= begin) & (time < begin + 12), 0.0, x)


def roll(x, shift):
    """Shift each recording in time by its own number of points."""
    time = torch.arange(x.shape[3], device=x.device)
    index = (time - shift.view(-1, 1, 1, 1)) % x.shape[3]
    return x.gather(3, index.expand(x.shape))


# %%
# Callbacks
# ---------
# Each submodel gets a copy of each callback. ``LRScheduler`` replaces the default
# schedule of the learning rate. ``EarlyStopping`` monitors a quantity of ``history_``,
# here the training loss. To monitor ``valid_loss``, hold out labels with
# ``validation_fraction``.

model = PNLClassifier(
    MovementNet,
    weak_view=weak_view,
    strong_view=strong_view,
    net_params={"module__width": 32, "optimizer__weight_decay": 0.05},
    callbacks=[
        GradientNormClipping(gradient_clip_value=1.0),
        LRScheduler(CosineAnnealingLR, T_max=args.epochs),
        EarlyStopping(monitor="train_loss", patience=3),
    ],
    max_epochs=args.epochs,
    steps_per_epoch=40,
    random_state=0,
    verbose=2,
)
model.fit(X_train, y_few)

# %%
# Results
# -------
# The supervised baseline has the same network, views, callbacks and number of steps. It
# does not learn from the unlabeled recordings. Its test error is far higher.

baseline = supervised_baseline(model).set_params(verbose=0).fit(X_train, y_few)
fitted = {"supervised baseline": baseline, "PNLClassifier": model}
errors = {name: 100 * (1 - m.score(X_test, y_test)) for name, m in fitted.items()}
print(f"\nTest error in %, {n_per_class} labels for each of {n_classes} movements:\n")
print(pd.Series(errors).round(1).to_string(), "\n")

# %%
# The left panel shows the two views of a recording. The right panel shows two
# quantities of ``history_``. ``teacher_student_agreement`` is the fraction of unlabeled
# recordings for which teacher and student predict the same class.
# ``negative_coverage`` is the fraction with at least one pseudo-negative label.

history = pd.DataFrame(model.history_)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
with torch.random.fork_rng():
    torch.manual_seed(0)
    recording = torch.from_numpy(X_train[:1])
    views = {
        "recording": recording,
        "weak view": weak_view(recording),
        "strong view": strong_view(recording),
    }
for i, (name, x) in enumerate(views.items()):
    left.plot(x[0, 0, 0] - 8 * i, color=f"C{i}", label=name)
left.set(xlabel="time (points)", ylabel="acceleration along the first axis")
left.set(title="One recording and its views", yticks=[])
left.legend(loc="upper right", ncols=3, fontsize="small")
left.margins(y=0.15)
right.plot("epoch", "teacher_student_agreement", "o-", data=history)
right.plot("epoch", "negative_coverage", "s-", data=history)
right.set(xlabel="epoch", ylabel="fraction of unlabeled recordings", ylim=(0, 1.02))
right.set_title("PNLClassifier in training")
right.legend(loc="lower right")

path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_own_network.png
#     :alt: Views of a recording, and metrics of the fit.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_own_network.png"
