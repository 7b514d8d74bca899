"""Tables and progress for people."""

import sys


def print_table(headers, rows):
    """Prints rows of text under headers: numbers to the right, words to the left."""
    rows = [[str(cell) for cell in row] for row in rows]
    columns = list(zip(headers, *rows))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    for row in [headers, ["-" * width for width in widths], *rows]:
        aligned = zip(row, widths, to_right)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in aligned).rstrip())


def progress(items=None, **options):
    """A tqdm bar on standard error, where that is a terminal; silent elsewhere."""
    import tqdm  # here, so that doctor can say that it is missing

    return tqdm.tqdm(items, file=sys.stderr, disable=not sys.stderr.isatty(), **options)


def verification_cells(score):
    """Accuracy and TAR at FAR 1e-3 of a verification (dict of its fields), as the cells of a table."""
    tar = score["tar"]["0.001"]
    return [f"{score['accuracy']:.5f} +- {score['std']:.5f}", "-" if tar is None else f"{tar:.4f}"]
