"""The code of README and guide runs as it stands there."""

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from matplotlib.image import imsave
from sklearn.datasets import load_breast_cancer, load_digits
from torchvision.models import resnet18

from pnl_sklearn import PNLClassifier

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
# The others have no code that runs.
PAGES = sorted(
    path.stem
    for path in GUIDE.glob("*.rst")
    if path.stem not in ("index", "how_it_works")
)


def blocks(path):
    """Return the Python blocks of a page, each below as many blank lines as precede it.

    So the line numbers of a traceback are those of the page.
    """
    text = path.read_text()
    if path.suffix == ".md":
        found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    else:
        found = re.finditer(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    for block in found:
        line = text[: block.start(1)].count("\n")
        yield "\n" * line + textwrap.dedent(block[1])


def run(path):
    """Execute the blocks of a page in one namespace, and return it."""
    names = {"__name__": path.stem}
    for block in blocks(path):
        exec(compile(block, path.name, "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory; what a page changes is set back."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    with sklearn.config_context():  # a page turns metadata routing on
        yield tmp_path
    plt.close("all")


@pytest.fixture
def short_fits(monkeypatch):
    """Two epochs of a few steps."""
    defaults = PNLClassifier.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "max_epochs", 2)
    monkeypatch.setitem(defaults, "steps_per_epoch", 8)


@pytest.fixture
def files(folder, monkeypatch):
    """What readers have: pictures, a table, texts; and encoders of random weights."""
    images, digits = load_digits(return_X_y=True)
    for i, (image, digit) in enumerate(zip(images[:120], digits, strict=False)):
        label = "unlabeled" if i >= 40 or digit > 1 else ["cat", "dog"][digit]
        path = folder / "pictures" / label / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, image.reshape(8, 8), cmap="gray")
    paths = [path for path in folder.rglob("*.png") if path.parent.name != "unlabeled"]
    lines = ["name,label", *(f"{path.name},{path.parent.name}" for path in paths)]
    (folder / "labels.csv").write_text("\n".join(lines))

    rng = np.random.default_rng(0)
    table = load_breast_cancer(as_frame=True).frame.iloc[:200]
    sizes = pd.cut(table["mean radius"], 3, labels=["small", "medium", "large"])
    table = table[["mean texture", "mean area"]].assign(size=sizes.astype(str))
    table["label"] = np.where(table["mean area"] > 700, "large", "other")
    table.loc[20:, "label"] = None
    table.loc[::7, "mean area"] = np.nan
    table.to_csv(folder / "customers.csv", index=False)

    kinds = rng.choice(["place", "number"], 120)
    texts = [
        " ".join(f"{kind}{i}" for i in rng.integers(100, size=20)) for kind in kinds
    ]
    labels = np.where(np.arange(120) < 20, kinds, None)
    questions = pd.DataFrame({"text": texts, "label": labels})
    questions.to_csv(folder / "questions.csv", index=False)

    class SentenceTransformer:
        """Stands in for the one that downloads its weights."""

        def __init__(self, name):
            assert "MiniLM" in name

        def encode(self, texts, normalize_embeddings):
            assert normalize_embeddings
            assert isinstance(texts, list)
            vectors = rng.standard_normal((len(texts), 384), np.float32)
            for text, vector in zip(texts, vectors, strict=True):
                vector[:100] += 4 if text.startswith("place") else -4
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    torch.manual_seed(0)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url",
        lambda *_, **__: resnet18().state_dict(),
    )


# What holds after the code of each page has run.
CHECKS = {
    "callbacks_and_saving": ["model.n_iter_ == 3", "len(model.history_) == 3"],
    "choosing_settings": ["model.get_params()['graph__weight'] == 2.0"],
    "domain_adaptation": ["(y_both >= 0).sum() == 930", "model.classes_.size == 10"],
    "images": [
        "set(y) == {'cat', 'dog', None}",
        "(labels.reindex(names).fillna('unlabeled') == folders).all()",
        "set(pd.read_csv('predicted.csv')['label']) == {'cat', 'dog'}",
    ],
    "imbalanced_classes": ["0 <= scores.min() <= scores.max() <= 1"],
    "labels": ["len(set(ask)) == 10", "(y_few[issues.indices] >= 0).all()"],
    "model_selection": [
        "0.3 < search.best_score_ <= 1",
        "stack.score(X, y_all) > 0.3",
        "scaled.predict_proba(X).shape == (len(X), 10)",
    ],
    "own_parts": ["model.submodels_[0].module_.network.layers[0].out_features == 64"],
    "paper": ["model.transduction_.shape == y.shape"],
    "quick_start": ["np.allclose(probabilities.sum(axis=1), 1)"],
    "speed_and_scaling": ["joblib.load('model.joblib').score(digits, y_true) > 0.2"],
    "tables": ["len(model[-1].transduction_) == len(table)"],
    "text_and_embeddings": [
        "X.shape == (120, 384)",
        "X_images.shape == (120, 512)",
        "set(model_of_images.transduction_) == {'cat', 'dog'}",
    ],
    "unlabeled_data": [
        "report.out_of_class < 0.1",
        "len(gain.scores) == 6",
        "0.5 < audited.history_[-1]['valid_negative_precision'] <= 1",
    ],
}


def test_every_page_has_code_and_checks():
    assert all(any(blocks(GUIDE / f"{name}.rst")) for name in PAGES)
    assert sorted(CHECKS) == PAGES


@pytest.mark.slow
@pytest.mark.usefixtures("files", "short_fits")
@pytest.mark.parametrize("page", PAGES)
def test_code_of_the_guide_runs(page):
    names = run(GUIDE / f"{page}.rst") | {"np": np}
    for check in CHECKS[page]:
        assert eval(check, names), check


@pytest.mark.slow
def test_code_of_the_readme_prints_what_it_says(folder, capsys):
    run(ROOT / "README.md")
    printed = capsys.readouterr().out
    promised = re.search(
        r"It prints `test accuracy ([\d.]+)`", (ROOT / "README.md").read_text()
    )
    found = re.search(r"test accuracy ([\d.]+)", printed)
    # Rounding differs between processors.
    assert float(found[1]) == pytest.approx(float(promised[1]), abs=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("folder", "short_fits")
def test_code_of_the_start_page_runs():
    names = run(ROOT / "docs" / "index.rst")
    assert names["model"].transduction_.shape == (1797,)
