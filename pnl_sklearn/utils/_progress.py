"""What a fit prints."""

from typing import Any

# Columns of a line, their widths and their names in the history.
_COLUMNS = {
    "epoch": (5, "epoch"),
    "train_loss": (10, "train_loss"),
    "supervised": (10, "supervised_loss"),
    "negative": (8, "negative_loss"),
    "balance": (7, "balance_loss"),
    "agreement": (9, "teacher_student_agreement"),
    "coverage": (8, "negative_coverage"),
    "seconds": (7, "seconds"),
}


def print_line(text: str) -> None:
    """Print a line, above a progress bar if there is one."""
    from tqdm.auto import tqdm

    tqdm.write(text)


class Progress:
    """Progress of a fit: nothing, a progress bar, or one line per epoch.

    Parameters
    ----------
    verbose : int
        0: nothing; 1: a progress bar; 2 or more: lines.
    """

    def __init__(self, verbose: int) -> None:
        self.verbose = int(verbose)
        self._bar: Any = None
        if self.verbose == 1:
            from tqdm.auto import tqdm

            # Until the first epoch there are no steps to count.
            self._bar = tqdm(bar_format="{desc} [{elapsed}]", desc="neighbors")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, text: str) -> None:
        """Print a line."""
        if self.verbose:
            print_line(text)

    def begin(self, n_epochs: int, n_steps: int, n_done: int) -> None:
        """Begin the epochs."""
        self._n_epochs, self._n_done = n_epochs, n_done
        if self._bar is not None:
            self._bar.bar_format = None
            self._bar.unit = "step"
            self._bar.reset(total=(n_epochs - n_done) * n_steps)
            self._describe()
        if self.verbose > 1:
            names = [f"{name:>{width}}" for name, (width, _) in _COLUMNS.items()]
            print("  ".join(names))

    def step(self) -> None:
        """Count a step."""
        if self._bar is not None:
            self._bar.update()

    def end_epoch(self, row: dict) -> None:
        """Show the metrics of an epoch."""
        self._n_done += 1
        if self._bar is not None:
            agreement = row["teacher_student_agreement"]
            self._bar.set_postfix_str(
                f"loss={row['train_loss']:.3f}, agreement={agreement:.2f}"
            )
            self._describe()
        if self.verbose > 1:
            cells = [
                f"{row[key]:>{width}}" if key == "epoch" else f"{row[key]:>{width}.4f}"
                for width, key in _COLUMNS.values()
            ]
            print("  ".join(cells), flush=True)

    def _describe(self) -> None:
        epoch = min(self._n_done + 1, self._n_epochs)
        self._bar.set_description(f"epoch {epoch}/{self._n_epochs}")
