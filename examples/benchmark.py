"""The figures of the README: ``python examples/benchmark.py TASK [--data DIR]``.

Every method sees the same label draws. The scikit-learn baselines are run over a grid
and reported at the setting whose mean *test* error is lowest, which favors them; both
`PNLClassifier` and its supervised twin run with their defaults and count at the end of
the last epoch. A draw is the seed of the split, of the labels and of the fit.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from pnl_sklearn import PNLClassifier, supervised_twin


def hide_labels(y, per_class, rng):
    """Keep `per_class` labels of each class at random; -1 for all others."""
    kept = [rng.permutation(np.flatnonzero(y == k))[:per_class] for k in np.unique(y)]
    hidden = np.full_like(y, -1)
    hidden[np.concatenate(kept)] = y[np.concatenate(kept)]
    return hidden


def bundled(load, per_class, shape=None, imbalanced=False):
    """Return a function from a draw to (X_train, y_few, X_test, y_test)."""

    def draw_data(draw):
        X, y = load(return_X_y=True)
        if shape:
            X = X.reshape(-1, *shape)
        X, X_test, y, y_test = train_test_split(
            X, y, test_size=0.3, stratify=y, random_state=draw
        )
        rng = np.random.default_rng(draw)
        if imbalanced:  # 120 or so of each of the classes 0-4, 12 of 5-9
            few = [rng.permutation(np.flatnonzero(y == k))[:12] for k in range(5, 10)]
            rows = np.concatenate([np.flatnonzero(y < 5), *few])
            X, y = X[rows], y[rows]
        return X, hide_labels(y, per_class, rng), X_test, y_test

    return draw_data


def mnist(folder):
    """Return the same for MNIST: 60,000 rows, 20 labels, its own test set."""
    from torchvision.datasets import MNIST

    train, test = MNIST(folder, train=True), MNIST(folder, train=False)

    def draw_data(draw):
        y = hide_labels(train.targets.numpy(), 2, np.random.default_rng(draw))
        return train.data.numpy(), y, test.data.numpy(), test.targets.numpy()

    return draw_data


def tasks(folder):
    """Return name -> (data of a draw, score)."""
    accuracy, balanced = accuracy_score, balanced_accuracy_score
    image = (8, 8)
    found = {
        "digits20": (bundled(load_digits, 2, image), accuracy),
        "digits50": (bundled(load_digits, 5, image), accuracy),
        "table20": (bundled(load_digits, 2), accuracy),
        "imbalanced20": (bundled(load_digits, 2, image, imbalanced=True), balanced),
        "cancer10": (bundled(load_breast_cancer, 5), accuracy),
        "wine9": (bundled(load_wine, 3), accuracy),
    }
    if folder:
        found["mnist20"] = (mnist(folder), accuracy)
    return found


def baselines():
    """Yield (method, setting, estimator) over the grids."""
    for alpha in (0.2, 0.5, 0.9, 0.99):
        for k in (5, 7, 10):
            spreading = LabelSpreading(
                kernel="knn", n_neighbors=k, alpha=alpha, max_iter=500, tol=1e-2
            )
            yield "LabelSpreading", f"knn {k}, alpha {alpha}", spreading
        for gamma in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
            spreading = LabelSpreading(gamma=gamma, alpha=alpha, max_iter=500, tol=1e-2)
            yield "LabelSpreading", f"rbf {gamma}, alpha {alpha}", spreading
    for threshold in (0.6, 0.75, 0.9):
        logistic = LogisticRegression(max_iter=1000)
        forest = RandomForestClassifier(200, random_state=0)
        for name, base in [("LogisticRegression", logistic), ("RandomForest", forest)]:
            method = f"SelfTraining, {name}"
            yield method, threshold, SelfTrainingClassifier(base, threshold=threshold)


def run_baselines(draw_data, score, draws):
    """Return method -> errors over the draws at its best setting, and that setting."""
    errors = {}
    for draw in draws:
        X, y, X_test, y_test = (np.asarray(a) for a in draw_data(draw))
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
        scaler = StandardScaler().fit(X)
        forms = {"raw": (X, X_test)}
        forms["scaled"] = (scaler.transform(X), scaler.transform(X_test))
        for method, setting, estimator in baselines():
            for form, (train, test) in forms.items():
                if form == "raw" and method != "LabelSpreading":
                    continue
                error = 1 - score(y_test, estimator.fit(train, y).predict(test))
                of_method = errors.setdefault(method, {})
                of_method.setdefault(f"{form}, {setting}", []).append(100 * error)
    best = {}
    for method, settings in errors.items():
        setting = min(settings, key=lambda s, of=settings: np.mean(of[s]))
        best[f"{method} ({setting})"] = settings[setting]
    return best


def run_nets(draw_data, score, draws, twin=True):
    """Return method -> errors over the draws, printing each fit as it ends."""
    results = {}
    for draw in draws:
        X, y, X_test, y_test = draw_data(draw)
        ours = PNLClassifier(random_state=draw)
        methods = {"PNLClassifier()": ours}
        if twin:
            methods["supervised twin"] = supervised_twin(ours)
        for name, estimator in methods.items():
            begin = time.perf_counter()
            estimator.fit(X, y)
            seconds = time.perf_counter() - begin
            error = 100 * (1 - score(y_test, estimator.predict(X_test)))
            results.setdefault(name, []).append(error)
            print(f"  draw {draw}: {name} {error:.2f} %, {seconds:.1f} s", flush=True)
    return results


def main():
    """Run one task and print every draw, the mean and the worst."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("--data", help="folder of torchvision's MNIST")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--no-twin", action="store_true")
    options = parser.parse_args()
    draw_data, score = tasks(options.data)[options.task]
    draws = range(options.first, options.first + options.draws)
    results = run_nets(draw_data, score, draws, twin=not options.no_twin)
    if not options.no_baselines:
        results |= run_baselines(draw_data, score, draws)
    ours = np.array(results["PNLClassifier()"])
    print(f"\n{options.task}, draws {draws[0]}-{draws[-1]}, test errors in %")
    for name, errors in results.items():
        difference = ours - np.array(errors)
        spread = difference.std(ddof=1) / np.sqrt(len(draws)) if len(draws) > 1 else 0
        print(
            f"{name:45} mean {np.mean(errors):6.2f}  median {np.median(errors):6.2f}  "
            f"worst {max(errors):6.2f}  ours minus it {difference.mean():+.2f} "
            f"(standard error {spread:.2f})  {np.round(errors, 2).tolist()}"
        )


if __name__ == "__main__":
    main()
