"""Rows of the tables that command line, page and papers show."""

HEADERS = ("network", "set", "accuracy", "95%", "TAR@FAR=1e-3", "EER", "no flip", "threshold", "norm", "pairs")
NOT_MEASURABLE = "-"


def summary_rows(results):
    """One row a network and set: (headers, rows of text).

    The TAR is exact over all pairs, with its 95% interval; the threshold is a cosine.
    """
    return HEADERS, [[result.network, result.set, *_cells(result.detail)] for result in results]


def rate_rows(details):
    """TAR at every FAR, and the cosine above which pairs are accepted: (headers, rows of text)."""
    rows = []
    for name, detail in details.items():
        for rate in detail.rates:
            if rate.tar is None:
                rows.append([name, f"{rate.far:g}", "not measurable", NOT_MEASURABLE, NOT_MEASURABLE])
            else:
                between = _interval(rate)
                rows.append([name, f"{rate.far:g}", f"{rate.tar:.4f}", between, f"{rate.threshold:.4f}"])
    return ("network", "FAR", "TAR", "95%", "cosine above"), rows


def rates_by_network(details):
    """TAR at every FAR with its 95% interval, networks side by side: (headers, rows of text)."""
    rows = []
    for number, rate in enumerate(next(iter(details.values())).rates):
        found = [detail.rates[number] for detail in details.values()]
        cells = [NOT_MEASURABLE if one.tar is None else f"{one.tar:.4f} ({_interval(one)})" for one in found]
        rows.append([f"{rate.far:g}", *cells])
    return ("FAR", *details), rows


def markdown(results):
    """A table for a paper: accuracy of each set in percent, mean +- standard deviation over folds, and TAR at FAR 1e-3."""
    sets = list(dict.fromkeys(result.set for result in results))
    by_network = {}
    for result in results:
        by_network.setdefault(result.network, {})[result.set] = result.detail
    lines = [
        "| network | " + " | ".join(f"{name} | TAR@FAR=1e-3" for name in sets) + " |",
        "|---" * (1 + 2 * len(sets)) + "|",
    ]
    for network, details in by_network.items():
        cells = [network.replace("|", "\\|")]
        for name in sets:
            score, tar = details[name].verification, _rate(details[name], 1e-3)
            cells += [
                f"{100 * score.accuracy:.2f} +- {100 * score.std:.2f}",
                NOT_MEASURABLE if tar is None else f"{100 * tar.tar:.2f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def interval_cell(interval):
    """An interval as text."""
    return f"{interval[0]:.4f} .. {interval[1]:.4f}"


def _interval(rate):
    return interval_cell((rate.low, rate.high))


def _cells(detail):
    score, rate, equal = detail.verification, _rate(detail, 1e-3), detail.equal_error
    return [
        f"{score.accuracy:.5f} +- {score.std:.5f}",
        interval_cell(detail.over_pairs),
        NOT_MEASURABLE if rate is None else f"{rate.tar:.4f}",
        NOT_MEASURABLE if equal is None else f"{equal.rate:.4f}",
        f"{score.accuracy_no_flip:.5f} +- {score.std_no_flip:.5f}",
        f"{1 - score.threshold / 2:.3f}",
        f"{score.embedding_norm:.3f}",
        score.pairs,
    ]


def _rate(detail, far):
    return next((rate for rate in detail.rates if rate.far == far and rate.tar is not None), None)
