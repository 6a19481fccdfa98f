"""
Embeddings: features learned on other classes
=============================================

This example classifies images with few labels by their embeddings: the features that a
network has learned on other data. It compares :class:`~pnl_sklearn.PNLClassifier` and
logistic regression, on embeddings and on pixels.

The encoder is usually a large pretrained network. Here it is a small one, which is
trained in seconds: it learns to tell the digits 0 to 4, all of which are labeled. The
task is to tell the digits 5 to 9, with 25 labels.
"""

# %%
# The images
# ----------
# Digits are drawn in a random gray on another random gray. So the same pixel may be
# dark in one image and bright in another one of the same digit.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from label_splits import make_label_split
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from torch import nn

from pnl_sklearn import PNLClassifier

parser = argparse.ArgumentParser(description="Embeddings.")
parser.add_argument("--splits", type=int, default=3, help="label splits (3)")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

digits = load_digits()
y = digits.target
rng = np.random.default_rng(0)
ink, paper = rng.uniform(size=(2, len(y), 1, 1))
images = torch.from_numpy(paper + (ink - paper) * digits.images / 16).float()[:, None]

# %%
# The encoder
# -----------
# A convolutional network is trained on the digits 0 to 4. The 64 features before its
# last layer are the embedding.

torch.manual_seed(0)
torch.set_num_threads(1)
encoder = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 64),
    nn.ReLU(),
)
network = nn.Sequential(encoder, nn.Dropout(0.5), nn.Linear(64, 5))
optimizer = torch.optim.AdamW(network.parameters(), lr=0.002)
others = np.flatnonzero(y < 5)
for _ in range(500):
    batch = torch.from_numpy(rng.choice(others, 64))
    labels = torch.from_numpy(y)[batch]
    loss = nn.functional.cross_entropy(network(images[batch]), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
# Embeddings of the task
# ----------------------
# Each image is encoded once. The embeddings are a table, with one row per image.

task = y >= 5
with torch.no_grad():
    embeddings = encoder(images[task]).numpy()
pixels = images[task].flatten(1).numpy()
features = {"pixels": pixels, "embeddings": embeddings}
print({name: X.shape for name, X in features.items()})

# %%
# Comparison
# ----------
# Five images of each digit are labeled. Logistic regression learns from these only.

rows = []
for seed in range(args.splits):
    for name, X in features.items():
        X_train, X_test, _, y_test, y_few = make_label_split(X, y[task], 25, seed)
        logistic = SelfTrainingClassifier(LogisticRegression(max_iter=1000), max_iter=0)
        methods = {
            "LogisticRegression": make_pipeline(StandardScaler(), logistic),
            "PNLClassifier": PNLClassifier(max_epochs=args.epochs, random_state=seed),
        }
        for method, model in methods.items():
            error = 100 * (1 - model.fit(X_train, y_few).score(X_test, y_test))
            rows.append({"features": name, "method": method, "error": error})
errors = pd.DataFrame(rows)
means = errors.pivot_table(index="method", columns="features", values="error")
means = means[list(features)]
print("\nMean test error in %:\n")
print(means.round(1).to_string())

# %%
# What the labels tell
# --------------------
# The last model was fitted to embeddings. Its attribute ``evidence_`` compares the
# neighbors with a linear classifier, on held-out labels.

print(f"\n{model.evidence_}")

ax = means.T.plot.bar(rot=0, figsize=(6, 3.5), color=["lightsteelblue", "slategray"])
for bars in ax.containers:
    ax.bar_label(bars, fmt="%.1f %%")
ax.set(xlabel="", ylabel="test error (%)", title="Digits 5 to 9, 25 labels")
ax.margins(y=0.15)
ax.legend(title=None)

path = Path(__file__).with_suffix(".png")
ax.figure.savefig(path, dpi=100, bbox_inches="tight")
plt.close(ax.figure)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_embeddings.png
#     :alt: Errors of two methods on pixels and on embeddings.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_embeddings.png"
