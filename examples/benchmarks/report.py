"""Tables and pages from the recorded runs."""

from collections import defaultdict

import numpy as np

from .methods import REPORTED, TITLES
from .tasks import FIRST_REPORTED, TASKS

_N_SPLITS = 5
# Methods that get the few labels only, to compare with.
_PEERS = ["baseline", "logistic", "self_training", "label_spreading"]


def reported(records, tuning=False):
    """Return the records of the reported label splits, or of those for tuning."""
    return [r for r in records if (r["split"] < FIRST_REPORTED) == tuning]


def errors_of(records, small=False):
    """Return task -> method -> setting -> split -> error."""
    errors: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for record in records:
        if record["small"] == small:
            for setting, error in record["errors"].items():
                of_method = errors[record["task"]][record["method"]]
                of_method[setting][record["split"]] = error
    return errors


def summarize(records, small=False):
    """Return task -> method -> (setting, splits, errors), at the best setting.

    A method with several settings counts with the one whose mean test error is lowest,
    among those run on all of its label splits: this favors it.
    """
    best: dict = defaultdict(dict)
    for task, methods in errors_of(records, small).items():
        for method, settings in methods.items():
            found = []
            for setting, of_split in settings.items():
                splits = sorted(of_split)
                found.append((setting, splits, np.array([of_split[d] for d in splits])))
            best[task][method] = min(found, key=lambda f: (-len(f[1]), f[2].mean()))
    return best


def table(records, names, small=False):
    """Return lines of text: mean, median, standard deviation, every label split."""
    summary = summarize(records, small)
    for name in names:
        task = TASKS[name]
        measure = "mean of the classes' errors" if task.balanced else "test error"
        yield f"\n{task.title}: {measure} in %"
        if task.note:
            yield f"({task.note})"
        if task.paper is not None:
            yield f"{'the paper':34} {task.paper:6.2f}"
        for method, title in TITLES.items():
            if method not in summary[name]:
                is_default = method == "best" and not task.best
                yield f"{title:34} {'the default' if is_default else 'not run'}"
                continue
            setting, splits, values = summary[name][method]
            spread = f"{values.std(ddof=1):5.2f}" if len(values) > 1 else "    -"
            yield (
                f"{title:34} {values.mean():6.2f}  median {np.median(values):6.2f}  "
                f"sd {spread}  {len(splits)} splits: "
                + " ".join(f"{value:.2f}" for value in values)
                + (f"  [{setting}]" if setting else "")
            )


def write_page(records, folder):
    """Write benchmarks.md and its figures into the folder of the documentation."""
    records = reported(records)
    summary = summarize(records)
    names = [name for name in TASKS if name in summary]
    if not names:
        raise SystemExit("Nothing is recorded yet; run a task without --small.")
    lines = [_HEAD]
    lines += _overview(summary, names)
    lines += _ranks(errors_of(records))
    lines += _differences(errors_of(records))
    lines += _details(records, summary, names)
    (folder / "benchmarks.md").write_text("\n".join(lines) + "\n")
    _figure(summary, names, folder / "benchmarks.png")


_HEAD = """# Benchmarks

<!-- Written by `python -m examples.benchmarks report`; do not edit. -->

Test errors in percent, at the end of the last epoch. Nothing was chosen on test
samples, except for the grids of LabelSpreading and SelfTrainingClassifier: their
settings with the lowest mean *test* error are shown, which favors them. Label splits 0
to 19 were used for tuning. Shown are label splits from 100 on, the same for all methods
of a task. The number of a label split is the seed of the test split, of the choice of
labels and of the fit. All networks of a task take the same number of optimizer steps.
On tables the supervised baseline, too, moves labeled samples toward unlabeled
neighbors.

`python -m examples.benchmarks TASK` runs a task (`digits`, `mnist`, `cifar10`,
`usps2mnist`, `imbalanced`, `tables`, `embeddings`, `hard`, or one of the names that
`--help` lists), and resumes what an earlier call did not finish. With `--minutes 9` a
call stops at the end of an epoch after nine minutes, and the same call resumes the fit.
"""


def _cell(found, bold=False):
    if found is None:
        return "not run"
    _, splits, values = found
    text = f"{values.mean():.2f}"
    text = f"**{text}**" if bold else text
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.2f}"
    return text if len(splits) == _N_SPLITS else f"{text} ({len(splits)})"


def _overview(summary, names):
    run = set().union(*(summary[name] for name in names))
    shown = [*REPORTED, *(m for m in _PEERS[1:] if m in run), "all_labels"]
    yield "## Mean and standard deviation over label splits\n"
    yield (
        "In parentheses the number of label splits where it is not five. Bold: the "
        "lowest mean of the methods that get the few labels only. \\*: paper style "
        "with the small network, where the 13-layer one was not run.\n"
    )
    yield "| task | paper | " + " | ".join(TITLES[m] for m in shown) + " |"
    yield "|---|---|" + "---|" * len(shown)
    for name in names:
        found = summary[name]
        few = {m: found[m][2].mean() for m in shown[:-1] if m in found}
        best = min(few, key=few.__getitem__, default=None)
        cells = {m: _cell(found.get(m), bold=m == best) for m in shown}
        if "paper_style" not in found and "paper_style_small" in found:
            cells["paper_style"] = _cell(found["paper_style_small"]) + " \\*"
        paper = TASKS[name].paper
        first = f"| {TASKS[name].title} | {'' if paper is None else paper} | "
        yield first + " | ".join(cells.values()) + " |"
    yield "\n![Errors of all methods](benchmarks.png)\n"
    yield (
        "A mark is the mean over the label splits that its method was run on, which "
        "may be a single one. The section on every label split has them one by one.\n"
    )


def _ranks(errors):
    """Yield mean ranks over the tables, on label splits with all four methods."""
    methods = ["default", "baseline", "self_training", "label_spreading"]
    splits = {}
    for name, task in TASKS.items():
        runs = [errors[name][method] for method in methods]
        if task.style == "table" and all(runs):
            common = set.intersection(*(set().union(*found.values()) for found in runs))
            splits |= {name: common} if common else {}
    if not splits:
        return
    each, one = [], []
    for method in methods:
        means = _means_by_setting(errors, method, splits)
        each.append(means.min(axis=0))
        one.append(means[means.mean(axis=1).argmin()])
    yield f"## Mean rank over {len(splits)} tables\n"
    yield (
        "By the mean error on the label splits that all four were run on. In the first "
        "two lines the grids count with the setting of lowest test error of each "
        "table. In the others they count with one setting for all tables, the one with "
        "the lowest mean of these test errors. PNLClassifier() always has its "
        "defaults.\n"
    )
    yield "| | " + " | ".join(TITLES[method] for method in methods) + " |"
    yield "|---|" + "---|" * len(methods)
    for title, means in [
        ("mean rank, grids at the best setting of each table", _ranked(each)),
        ("mean error in %, grids at these settings", np.array(each)),
        ("mean rank, at one setting", _ranked(one)),
        ("mean error in %, at one setting", np.array(one)),
    ]:
        cells = " | ".join(f"{mean:.2f}" for mean in means.mean(axis=1))
        yield f"| {title} | {cells} |"
    yield ""


def _differences(errors):
    """Yield the differences to the supervised baseline and to the best peer."""
    yield "## Differences on the same label splits\n"
    yield (
        "Error of PNLClassifier() minus that of its supervised baseline, and of the "
        "peer whose mean error is lowest (grids at their setting of lowest test "
        "error), in percentage points. In parentheses: the standard error of the "
        "paired difference.\n"
    )
    yield "| task | label splits | to the baseline | best peer | to the best peer |"
    yield "|---|---|---|---|---|"
    to_best = []
    for name, task in TASKS.items():
        ours = errors[name]["default"].get("", {})
        found = {}
        for method in _PEERS:
            settings = errors[name][method].values()
            paired = [_paired(ours, of_split) for of_split in settings]
            paired = [differences for differences in paired if len(differences) > 1]
            if paired:
                found[method] = max(paired, key=np.mean)
        if "baseline" not in found:
            continue
        best = max(found, key=lambda method: found[method].mean())
        to_best.append(found[best].mean())
        yield (
            f"| {task.title} | {len(found[best])} | {_difference(found['baseline'])} | "
            f"{TITLES[best]} | {_difference(found[best])} |"
        )
    if to_best:
        mean, n_lower = np.mean(to_best), sum(each < 0 for each in to_best)
        yield (
            f"\nThe mean difference to the best peer is {mean:+.2f} points. "
            f"In {n_lower} of {len(to_best)} tasks the error is below that of all "
            "peers.\n"
        )


def _paired(ours, theirs):
    """Return the differences on the label splits that both were run on."""
    return np.array([ours[split] - theirs[split] for split in ours if split in theirs])


def _difference(paired):
    return f"{paired.mean():+.2f} ({paired.std(ddof=1) / np.sqrt(len(paired)):.2f})"


def _means_by_setting(errors, method, splits):
    """Return mean errors, of shape (n_settings, n_tables); infinite if not run."""
    of_table = [errors[name][method] for name in splits]
    means = [
        [
            np.mean([found[setting].get(split, np.inf) for split in common])
            for found, common in zip(of_table, splits.values(), strict=True)
        ]
        for setting in dict.fromkeys(s for found in of_table for s in found)
    ]
    return np.array(means)


def _ranked(means):
    """Return ranks of means of shape (n_methods, n_tables); 1 is the lowest."""
    means = np.array(means)
    return 1 + (means[:, None] > means[None]).sum(axis=1)


def _details(records, summary, names):
    yield "## Every label split\n"
    yield "```text"
    yield "\n".join(table(records, names)).strip()
    yield "```\n"
    yield "## Circumstances\n"
    shown = [record for record in records if not record["small"]]
    for title, values in [
        ("Devices", {f"{r['device']}, {r['threads']} threads" for r in shown}),
        ("Commits", {r["commit"] for r in shown}),
        ("Versions", {str(r["versions"])[1:-1].replace("'", "") for r in shown}),
    ]:
        yield f"- {title}: " + "; ".join(sorted(values)) + "."


def _figure(summary, names, path):
    """Draw one line per task, one mark per method, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    marks = dict(zip(TITLES, "o*XsP|v^<Ddp", strict=True))
    height = 1.6 + 0.36 * len(names)
    fig, ax = plt.subplots(figsize=(8, height), layout="constrained")
    for method, mark in marks.items():
        rows = [i for i, name in enumerate(names) if method in summary[name]]
        means = [summary[names[i]][method][2].mean() for i in rows]
        is_ours = method == "default"
        style = {"color": "C3", "s": 90, "zorder": 3} if is_ours else {"alpha": 0.75}
        ax.scatter(means, rows, marker=mark, label=TITLES[method], **style)
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    ax.minorticks_off()
    ax.set_yticks(range(len(names)), [TASKS[name].title for name in names])
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set_xlabel("mean test error in %")
    fig.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)
