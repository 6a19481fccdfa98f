"""Tables and figures of the study, from the recorded runs."""

from collections import defaultdict

import numpy as np

from .methods import TITLES
from .report import reported, summarize
from .study import FACTORS
from .tasks import GROUPS, TASKS

_HEAD = """# Study of the settings

<!-- Written by `python -m examples.benchmarks report`; do not edit. -->

One setting is changed at a time; all others are the defaults. Every setting is fitted
on the same label splits, those with seeds below 100, which also tuned the defaults. The
[benchmarks](benchmarks.md) are of other seeds. The error is that of the test samples at
the end of the last epoch. There are few label splits: differences of less than two
standard errors say nothing. All settings of a task take the same number of steps,
unless they say otherwise.

The figures are of earlier versions of the package. Digits as a table were studied with
the graph posterior at half of its weight, and MNIST without it, with three epochs and
one label split: there only large differences say something.

`python -m examples.benchmarks digits-20 --first 0 --splits 2 --methods
default,baseline,study` runs the study on one task. MNIST's is `mnist-20-short`, with
`--data FOLDER`.
"""


def changes(records):
    """Return task -> factor -> setting -> {split: error}, of the splits for tuning.

    The factor "default" holds the default itself, and the supervised baseline. Tasks
    without any other factor are left out.
    """
    found: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for record in reported(records, tuning=True):
        method = record["method"]
        of_task = found[record["task"]]
        for setting, error in ({} if record["small"] else record["errors"]).items():
            if method in FACTORS:
                of_task[method][setting][record["split"]] = error
            elif method in ("default", "baseline"):
                of_task["default"][method][record["split"]] = error
    return {
        name: of_task
        for name, of_task in found.items()
        if "default" in of_task["default"] and len(of_task) > 1
    }


def paired(errors, default):
    """Return mean, mean difference to the default, its standard error, and errors."""
    splits = sorted(errors.keys() & default.keys())
    values = np.array([errors[split] for split in splits])
    difference = values - [default[split] for split in splits]
    spread = np.nan
    if len(splits) > 1:
        spread = difference.std(ddof=1) / np.sqrt(len(splits))
    return values.mean(), difference.mean(), spread, values


def write_study(records, folder):
    """Write study.md and its figures into the folder of the documentation."""
    lines = [_HEAD]
    for name, of_task in changes(records).items():
        lines += _tables(name, of_task)
        _figure(of_task, folder / f"study_{name}.png")
    panels = _curves(records)
    if panels:
        _curves_figure(panels, folder / "study_curves.png")
        lines.insert(1, "![Error by number of samples](study_curves.png)")
    (folder / "study.md").write_text("\n".join(lines) + "\n")


def _rows(of_task):
    """Yield (title of the factor, [(setting, errors), ...]) in the order of FACTORS."""
    first = {"default": "the default", "baseline": "supervised baseline"}
    of_default = of_task["default"].items()
    yield "", [(first[method], errors) for method, errors in of_default]
    for factor, title in FACTORS.items():
        if factor in of_task:
            yield title, list(of_task[factor].items())


def _tables(name, of_task):
    default = of_task["default"]["default"]
    splits = "label splits " + ", ".join(str(split) for split in sorted(default))
    splits += "; in parentheses the number of label splits where it is smaller"
    if len(default) == 1:
        (split,) = default
        splits = f"one label split, {split}: small differences say nothing"
    yield f"\n## {TASKS[name].title}: every setting\n"
    yield f"Test error in percent, {splits}.\n"
    yield f"![Error of each setting](study_{name}.png)\n"
    yield "| | setting | error | difference | standard error |"
    yield "|---|---|---|---|---|"
    for title, settings in _rows(of_task):
        for setting, errors in settings:
            mean, difference, spread, values = paired(errors, default)
            cells = [f"{mean:.2f}"]
            if len(values) < len(default):
                cells[0] += f" ({len(values)})"
            is_default = errors is default
            cells.append("" if is_default else f"{difference:+.2f}")
            cells.append("" if is_default or np.isnan(spread) else f"{spread:.2f}")
            yield f"| {title} | {setting} | " + " | ".join(cells) + " |"
            title = ""


def _figure(of_task, path):
    """Draw a dot per label split, a bar at the mean, one line per setting."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    default = of_task["default"]["default"]
    rows, ticks, y = [], [], 0.0
    for _, settings in _rows(of_task):
        for setting, errors in settings:
            rows.append((y, paired(errors, default)[3]))
            ticks.append(setting)
            y += 1
        y += 0.7  # gap between factors
    height = 1.2 + 0.17 * y
    fig, ax = plt.subplots(figsize=(7.5, height), layout="constrained")
    for y, values in rows:
        ax.scatter(values, [y] * len(values), s=14, color="C0", alpha=0.6)
        ax.plot([values.mean()] * 2, [y - 0.4, y + 0.4], color="C3", lw=2)
    ax.axvline(rows[0][1].mean(), color="C3", lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set_xticks([2, 3, 5, 10, 20, 40, 80], ["2", "3", "5", "10", "20", "40", "80"])
    ax.minorticks_off()
    ax.set_yticks([y for y, _ in rows], ticks, fontsize=8)
    ax.set_ylim(rows[-1][0] + 1, -1)
    ax.grid(axis="x", alpha=0.3)
    ax.set_xlabel("test error in % (dots: label splits, bars: their mean)")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _curves(records):
    """Return (label of the x axis, [(name, numbers, errors), ...]) of each panel."""
    summary = summarize(reported(records))
    budgets, sizes = [], []
    for method in ("default", "baseline", "self_training", "label_spreading"):
        names = [n for n in GROUPS["digits"] if method in summary.get(n, {})]
        numbers = [int(name.removeprefix("digits-")) for name in names]
        errors = [summary[name][method][2].mean() for name in names]
        budgets.append((TITLES[method], numbers, errors))
    for name, of_task in changes(records).items():
        default = of_task["default"]["default"]
        settings = of_task.get("study-unlabeled", {})
        numbers = [int(setting.split()[0]) for setting in settings]
        errors = [paired(found, default)[0] for found in settings.values()]
        sizes.append((TASKS[name].title, numbers, errors))
    panels = [("labeled digits", budgets), ("unlabeled samples", sizes)]
    return [
        (label, [line for line in lines if len(line[1]) > 1])
        for label, lines in panels
        if any(len(line[1]) > 1 for line in lines)
    ]


def _curves_figure(panels, path):
    """Draw the error by the number of labels, and of unlabeled samples."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = 4.2 * len(panels), 3.4
    fig, axes = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", squeeze=False
    )
    for ax, (label, lines) in zip(axes[0], panels, strict=True):
        for name, numbers, errors in lines:
            ax.plot(numbers, errors, marker="o", label=name)
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel="test error in %")
        largest = max(number for _, numbers, _ in lines for number in numbers)
        # No ticks far beyond the data, which would widen the axis.
        counts = [n for n in (10, 30, 100, 300, 1000, 10000) if n < 3 * largest]
        for axis, marks in [
            (ax.xaxis, counts),
            (ax.yaxis, (1, 2, 3, 5, 10, 20, 30, 50)),
        ]:
            axis.set_ticks(marks, [str(mark) for mark in marks])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)
