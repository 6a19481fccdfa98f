"""One printed line an epoch, in the style of skorch's table."""

_WIDTHS = {
    "epoch": 5,
    "train_loss": 10,
    "supervised_loss": 15,
    "negative_loss": 13,
    "balance_loss": 12,
    "negative_weight": 15,
    "agreement": 9,
    "coverage": 8,
    "seconds": 7,
}


def print_row(row: dict) -> None:
    """Print a row of history, below a header if it is the first."""
    if row["epoch"] == 1:
        print("  ".join(f"{name:>{width}}" for name, width in _WIDTHS.items()))
        print("  ".join("-" * width for width in _WIDTHS.values()))
    cells = [
        f"{row[name]:>{width}}" if name == "epoch" else f"{row[name]:>{width}.4f}"
        for name, width in _WIDTHS.items()
    ]
    print("  ".join(cells), flush=True)
