"""The page about speed and memory, from the recorded measurements."""

import numpy as np

from .scaling import exponent
from .speed import PAIRS, WORKLOADS, ratios

_HEAD = """# Speed

<!-- Written by `python -m examples.benchmarks report`; do not edit. -->

`python -m examples.benchmarks speed` times an epoch of `fit`, and `predict_proba`, in
turn with two references in one process:

- *plain loop*: what a good engineer would write for this one fit in plain PyTorch: the
  same networks, batches, views, losses, optimizer and weight average; no history, no
  callbacks, nothing checked;
- *floor*: forward, backward and optimizer step of the same two networks on batches that
  lie ready, nothing else. A fit has more to do than that: each network also predicts
  the other's batch, and views are made.

Both are of float32; where the classifier computes in bfloat16, they are timed in that,
too. Of CPUs it does so on those with AMX, which multiply matrices of it. Both launch
one operation at a time. On a CUDA device the last of some epochs is timed, since in
those before steps of `fit` are recorded, and layers are compiled where it says so.
Medians of five turns, with the lowest and the highest in parentheses. No fit has
neighbors here, whose graph is made once: the user guide says how long it takes.
"""


def _latest(records):
    """Return, by device, the last record of each workload, and of scaling."""
    found = {}
    for record in records:
        place = found.setdefault(record["device"], {})
        place[record.get("workload", "scaling")] = record
    return found


def write_speed(records, folder):
    """Write speed.md and its figure into the folder of the documentation."""
    text = [_HEAD]
    for device, found in _latest(records).items():
        text.append(f"## {device}\n")
        text += _workloads([found[n] for n in WORKLOADS if n in found])
        if missing := [n for n in WORKLOADS if n not in found]:
            text.append(f"Not run here: {', '.join(missing)}.\n")
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
    yield "### Time as a share of the references\n"
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
    yield "\n### Rows a second\n"
    yield (
        "Of `fit` and its references a row counts once, though both networks see it; "
        "skorch and MLPClassifier train one network, on labels.\n"
    )
    parts = list(dict.fromkeys(part for record in records for part in record["rows"]))
    titles = [_title(record) for record in records]
    yield "| | " + " | ".join(titles) + " |"
    yield "|---|" + "---|" * len(titles)
    for part in parts:
        cells = []
        for record in records:
            n_rows = record["rows"].get(part)
            rate = n_rows and n_rows / np.median(record["seconds"][part])
            cells.append(f"{rate:,.0f}" if rate else "")
        yield f"| {part} | " + " | ".join(cells) + " |"
    yield "\n### Beside the epochs\n"
    yield (
        "Seconds of a fit outside its epochs: validation, set-up, recording of steps, "
        "and predictions of all unlabeled rows at the end. Memory is what the process "
        "of a fit grew by beyond the input. The last columns are how fast the floor "
        "computes, as a share of a large float32 matrix product, and how fast the fit "
        "does, as a share of its convolutions and linear layers alone, forward and "
        "backward, launched one by one, in its precision.\n"
    )
    yield (
        "| workload | rows | seconds | input, MB | memory, MB | floor's rate | "
        "fit's rate |"
    )
    yield "|---|---|---|---|---|---|---|"
    for record in records:
        cells = [
            _title(record),
            f"{WORKLOADS[record['workload']].n_rows:,}",
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
    """Rate of the fit as a share of its layers'; early records do not have it."""
    if "layer_teraflops" not in record:
        return ""
    return f"{record['fit_teraflops'] / record['layer_teraflops']:.0%}"


def _title(record):
    title = WORKLOADS[record["workload"]].title
    n_steps = record.get("n_steps", WORKLOADS[record["workload"]].n_steps)
    rows = record["rows"]["fit"] // n_steps
    return f"{title}, {rows} rows a step"


def _circumstances(records):
    for title, values in [
        ("Device", {f"{r['device']}, {r['threads']} threads" for r in records}),
        ("Commits", {r["commit"] for r in records}),
        ("Versions", {str(r["versions"])[1:-1].replace("'", "") for r in records}),
    ]:
        yield f"- {title}: " + "; ".join(sorted(values)) + "."
    yield ""


def _tables(record):
    """Yield (rows, kind, input, memory of fit and predict, seconds) of each table."""
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
    """Yield sentences about the growth with rows, grid searches and the import."""
    yield (
        f"Seconds of an epoch grow as rows to the power of {exponent(record):.3f}, by "
        "least squares over the tables in memory."
    )
    shares = [t["processes"] / t["search"] for t in record["grid_search"]]
    yield (
        f"GridSearchCV(n_jobs=2) did {_spread(shares)} times the fits a second of two "
        "processes with half of the grid each, all with one thread."
    )
    own, parts = record["imports"].values()
    share = np.array(own) / np.array(parts)
    yield (
        f"import pnl_sklearn took {np.median(own):.2f} s, {_spread(share)} times what "
        "importing torch, skorch and sklearn took."
    )


def scaling_lines(record):
    """Yield lines of text."""
    yield "rows, kind, input MB, fit MB, predict MB, s an epoch, s of predict"
    for cells in _tables(record):
        yield "".join(f"{cell:>15}" for cell in cells)
    yield from _facts(record)


def _scaling(record):
    yield "### Rows\n"
    yield (
        "A float32 table of 20 columns, the default network, "
        "1,024 unlabeled rows a step, one pass an epoch. Memory is anonymous memory, "
        "which no file backs, beyond that of the process with X and y; `fit` includes "
        "what torch itself takes at its first use. `python -m examples.benchmarks "
        "scaling` measures this section.\n"
    )
    yield (
        "| rows | X is | X, MB | fit, MB more | predict, MB more | s an epoch | "
        "s to predict |"
    )
    yield "|---|---|---|---|---|---|---|"
    for cells in _tables(record):
        yield "| " + " | ".join(cells) + " |"
    yield "\n![Seconds of an epoch by the number of rows](speed.png)\n"
    for fact in _facts(record):
        yield f"- {fact}"
    yield from _circumstances([record])


def _figure(record, path):
    """Seconds of an epoch by rows, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for mapped, label, mark in [
        (False, "in memory", "o"),
        (True, "memory-mapped", "s"),
    ]:
        tables = [t for t in record["tables"] if t["mapped"] == mapped]
        rows, seconds = ([t[k] for t in tables] for k in ("rows", "epoch_seconds"))
        ax.loglog(rows, seconds, marker=mark, label=label)
    ax.set(xlabel="rows", ylabel="seconds of an epoch")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    fig.savefig(path, dpi=110)
    plt.close(fig)
