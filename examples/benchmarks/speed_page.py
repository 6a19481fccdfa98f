"""The page about speed and memory, from the recorded measurements."""

import numpy as np

from .scaling import exponent
from .speed import PAIRS, WORKLOADS, ratios

_HEAD = """# Speed

<!-- Written by `python -m examples.benchmarks report`; do not edit. -->

`python -m examples.benchmarks speed` times an epoch of `fit`, and `predict_proba`, in
turn with two references in one process:

- *plain loop*: the same fit written by hand in plain PyTorch, with the same networks,
  batches, views, losses, optimizer and EMA, but no history, callbacks or checks;
- *floor*: only forward, backward and optimizer step of the same two networks, on
  batches that are ready. A fit does more: each network also predicts as a teacher, and
  views are computed.

Both compute in float32. Where the classifier has `precision="bfloat16"`, they are timed
in bfloat16, too. Both launch one operation at a time. On a CUDA device the last of
several epochs is timed, since steps of `fit` are captured in the earlier ones; layers
are compiled where the table says so. The numbers are medians of five repetitions, with
the lowest and the highest in parentheses. Only the whole fits have a graph posterior,
which is computed once per fit.
"""


def _latest(records):
    """Return, by device, the last record of each workload, of fits and of scaling."""
    found = {}
    for record in records:
        place = found.setdefault(record["device"], {})
        kind = "fits" if "fits" in record else "scaling"
        place[record.get("workload", kind)] = record
    return found


def write_speed(records, folder):
    """Write speed.md and its figure into the folder of the documentation."""
    text = [_HEAD]
    for device, found in _latest(records).items():
        text.append(f"## {device}\n")
        text += _workloads([found[n] for n in WORKLOADS if n in found])
        if missing := [n for n in WORKLOADS if n not in found]:
            text.append(f"Not run here: {', '.join(missing)}.\n")
        if "fits" in found:
            text += _whole_fits(found["fits"])
        if "scaling" in found:
            text += _scaling(found["scaling"])
            _figure(found["scaling"], folder / "speed.png")
    if not any("peak_gpu_memory_mb" in record for record in records):
        text.append("## CUDA\n\nNot run.\n")
    (folder / "speed.md").write_text("\n".join(text) + "\n")


def _spread(values, form=".2f"):
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def _workloads(records):
    if not records:
        yield "The workloads were not run.\n"
        return
    yield "### Time as a fraction of the references\n"
    names = [f"{part} / {other}" for part, other in PAIRS]
    yield "| workload | precision | " + " | ".join(names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for record in records:
        cells = [
            _spread(ratios(record, part, other)) if other in record["rows"] else ""
            for part, other in PAIRS
        ]
        compiled = ", compiled" if record.get("compile") else ""
        first = f"{_title(record)} | {record['precision']}{compiled}"
        yield f"| {first} | " + " | ".join(cells) + " |"
    yield "\n### Samples per second\n"
    yield (
        "In `fit` and its references a sample counts once, though both networks are "
        "trained. skorch and MLPClassifier train one network, on labels.\n"
    )
    parts = list(dict.fromkeys(part for record in records for part in record["rows"]))
    titles = [_title(record) for record in records]
    yield "| | " + " | ".join(titles) + " |"
    yield "|---|" + "---|" * len(titles)
    for part in parts:
        cells = []
        for record in records:
            n_samples = record["rows"].get(part)
            rate = n_samples and n_samples / np.median(record["seconds"][part])
            cells.append(f"{rate:,.0f}" if rate else "")
        yield f"| {part} | " + " | ".join(cells) + " |"
    yield "\n### Outside the epochs\n"
    yield (
        "Seconds of a fit outside its epochs: validation, set-up, capture of steps, "
        "and prediction on all unlabeled samples at the end. Memory is the growth of "
        "the process during a fit, without the input. The floor's rate is a fraction "
        "of the rate of a large float32 matrix product. The fit's rate is a fraction "
        "of the rate of its convolutions and linear layers alone, forward and "
        "backward, launched one by one, in the precision of the fit.\n"
    )
    yield (
        "| workload | samples | seconds | input, MB | memory, MB | floor's rate | "
        "fit's rate |"
    )
    yield "|---|---|---|---|---|---|---|"
    for record in records:
        cells = [
            _title(record),
            f"{WORKLOADS[record['workload']].n_samples:,}",
            f"{np.median(record['seconds']['fixed']):.2f}",
            str(record["input_mb"]),
            str(record["fit_memory_mb"]),
            f"{record['teraflops'] / record['matmul_teraflops']:.0%}",
            _share_of_layers(record),
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield from _circumstances(records)


def _share_of_layers(record):
    """Return the fit's rate as a fraction of its layers'; early records lack it."""
    if "layer_teraflops" not in record:
        return ""
    return f"{record['fit_teraflops'] / record['layer_teraflops']:.0%}"


def _title(record):
    title = WORKLOADS[record["workload"]].title
    n_steps = record.get("n_steps", WORKLOADS[record["workload"]].n_steps)
    batch = record["rows"]["fit"] // n_steps
    return f"{title}, {batch} samples per step"


def _circumstances(records):
    for title, values in [
        ("Device", {f"{r['device']}, {r['threads']} threads" for r in records}),
        ("Commits", {r["commit"] for r in records}),
        ("Versions", {str(r["versions"])[1:-1].replace("'", "") for r in records}),
    ]:
        yield f"- {title}: " + "; ".join(sorted(values)) + "."
    yield ""


def _fits(record):
    """Yield (shape, samples, steps, minutes) of fits with the defaults."""
    for fit in record["fits"]:
        yield (
            " x ".join(f"{size:,}" for size in fit["shape"]),
            f"{fit['samples']:,}",
            f"{fit['steps']:,}",
            f"{fit['minutes']:.1f}",
        )


def _tables(record):
    """Yield (samples, kind, input, memory of fit and predict, seconds) of tables."""
    for table in record["tables"]:
        yield (
            f"{table['rows']:,}",
            "memory-mapped" if table["mapped"] else "in memory",
            f"{table['input_mb']:.0f}",
            f"{table['fit_mb']:.0f}",
            f"{table['predict_mb']:.0f}",
            f"{table['epoch_seconds']:.2f}",
            f"{table['predict_seconds']:.2f}",
        )


def _facts(record):
    """Yield sentences about growth with samples, grid searches and the import."""
    yield (
        "Seconds of an epoch grow as the number of samples to the power of "
        f"{exponent(record):.3f}, by least squares over the tables in memory."
    )
    shares = [t["processes"] / t["search"] for t in record["grid_search"]]
    yield (
        f"GridSearchCV(n_jobs=2) did {_spread(shares)} times the fits per second of "
        "two processes with half of the grid each, all with one thread."
    )
    own, parts = record["imports"].values()
    share = np.array(own) / np.array(parts)
    yield (
        f"import pnl_sklearn took {np.median(own):.2f} s, {_spread(share)} times what "
        "importing torch, skorch and sklearn took."
    )


def fits_lines(record):
    """Yield lines of text."""
    yield "shape of a sample, samples, steps, minutes"
    for cells in _fits(record):
        yield "".join(f"{cell:>15}" for cell in cells)


def scaling_lines(record):
    """Yield lines of text."""
    yield "samples, kind, input MB, fit MB, predict MB, s per epoch, s of predict"
    for cells in _tables(record):
        yield "".join(f"{cell:>15}" for cell in cells)
    yield from _facts(record)


def _whole_fits(record):
    yield "### Whole fits\n"
    yield (
        "Fits with the defaults, from samples in memory to `transduction_`, the graph "
        "posterior included where the defaults have one. `python -m "
        "examples.benchmarks fits` measures this section.\n"
    )
    yield "| shape of a sample | samples | steps | minutes |"
    yield "|---|---|---|---|"
    for cells in _fits(record):
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield from _circumstances([record])


def _scaling(record):
    yield "### Number of samples\n"
    yield (
        "A float32 table of 20 features, the default network, 1,024 unlabeled samples "
        "per step, one pass per epoch. Memory is anonymous memory, which no file "
        "backs, beyond that of the process with X and y. `fit` includes what torch "
        "itself takes at its first use. `python -m examples.benchmarks "
        "scaling` measures this section.\n"
    )
    yield (
        "| samples | X is | X, MB | fit, MB more | predict, MB more | s per epoch | "
        "s to predict |"
    )
    yield "|---|---|---|---|---|---|---|"
    for cells in _tables(record):
        yield "| " + " | ".join(cells) + " |"
    yield "\n![Seconds of an epoch by the number of samples](speed.png)\n"
    for fact in _facts(record):
        yield f"- {fact}"
    yield from _circumstances([record])


def _figure(record, path):
    """Draw seconds of an epoch by samples, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for mapped, label, mark in [
        (False, "in memory", "o"),
        (True, "memory-mapped", "s"),
    ]:
        tables = [t for t in record["tables"] if t["mapped"] == mapped]
        counts, seconds = ([t[k] for t in tables] for k in ("rows", "epoch_seconds"))
        ax.loglog(counts, seconds, marker=mark, label=label)
    ax.set(xlabel="samples", ylabel="seconds of an epoch")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    fig.savefig(path, dpi=110)
    plt.close(fig)
