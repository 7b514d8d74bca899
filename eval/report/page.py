"""Page of a report: self-contained HTML."""

from __future__ import annotations

import base64
import html
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from vargfacenet.eval.plausible import CAUSES, detail_doubts, label_doubt
from vargfacenet.eval.protocols.detail import Detail
from vargfacenet.eval.report.results import Gallery, Result, Section, ShownImage, ShownPair
from vargfacenet.eval.report.table import interval_cell, rate_rows, rates_by_network, summary_rows, unmeasured

_STYLE = pathlib.Path(__file__).parent / "page.css"
_TITLES = {
    "roc": "Error rates over all thresholds; points with 95% intervals at the false accept rates of the table",
    "scores": "Cosines of pairs; the line is the mean threshold of the folds",
    "folds": "Accuracy of each fold; lines are means",
    "norms": "L2 norm of embeddings by sharpness of images (variance of the Laplacian)",
}


def page(results: Sequence[Result], sections: Iterable[Section], *, version: str, date: str) -> str:
    """Return the page; `sections` has one section for each verification set."""
    networks = list(dict.fromkeys((result.network, result.about) for result in results))
    body = [
        "<h1>Verification</h1>",
        f'<p class="quiet">{html.escape(date)}, vargfacenet {html.escape(version)}</p>',
        "<ul>",
        *(f"<li><strong>{html.escape(name)}</strong> {html.escape(about)}</li>" for name, about in networks),
        "</ul>",
        _table(*summary_rows(results)),
        *_doubts(results),
        _HOW,
    ]
    for section in sections:
        body += _section(section)
    return _PAGE.format(style=_STYLE.read_text(encoding="utf-8"), body="\n".join(body))


def _doubts(results: Iterable[Result]) -> Iterator[str]:
    """Give a paragraph with the results that are not plausible, and likely causes."""
    items, causes = [], ""
    for result in results:
        labels, doubts = label_doubt(result.detail.is_same), detail_doubts(result.detail)
        if labels or doubts:
            name = f"<strong>{html.escape(result.network)}</strong>, {html.escape(result.set)}"
            items.append(f"<li>{name}: {_text(labels or '; '.join(doubts))}</li>")
        if doubts:
            causes = f"<p>{html.escape(CAUSES[:1].upper() + CAUSES[1:])}.</p>"
    if items:
        yield f'<div class="wrong"><p>Doubtful results:</p><ul>{"".join(items)}</ul>{causes}</div>'


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{html.escape(section.name)}</h2>"
    some = next(iter(section.details.values()))
    yield f"<p>{len(some.is_same):,} pairs, {int(some.is_same.sum()):,} of one identity.</p>"
    headers, rows = rate_rows(section.details)
    if rows and len(section.details) > 1:
        yield _table(*rates_by_network(section.details))
    if rows:
        yield _table(headers, rows)
    if needed := unmeasured(some):
        yield f'<p class="quiet">{html.escape(needed)}</p>'
    yield '<div class="figures">'
    for name, content in section.figures.items():
        caption = f"<figcaption class=quiet>{html.escape(_TITLES[name])}</figcaption>"
        yield f'<figure><img alt="{html.escape(_TITLES[name])}" src="{_data_uri(content, "png")}">{caption}</figure>'
    yield "</div>"
    for name, gallery in section.galleries.items():
        detail = section.details[name]
        yield f"<h3>{html.escape(name)}</h3>"
        yield f"<p>{_text('; '.join(_facts(detail, gallery)))}.</p>"
        yield "<h4>Different identities, most similar</h4>"
        yield _pairs(gallery.accepts)
        yield "<h4>Same identity, least similar</h4>"
        yield _pairs(gallery.rejects)
        yield "<h4>Smallest L2 norms of embeddings</h4>"
        yield _images(gallery.shortest)


def _facts(detail: Detail, gallery: Gallery) -> Iterator[str]:
    equal = detail.equal_error
    yield "Equal error rate " + ("not measurable" if equal is None else f"{100 * equal.rate:.2f}%")
    yield f"95% interval of the accuracy {interval_cell(detail.over_pairs)} over pairs"
    yield f"{interval_cell(detail.over_folds)} over folds"
    yield f"mean L2 norm of embeddings {detail.norms.mean():.2f}, rank correlation with sharpness {gallery.correlation:+.2f}"


def _pairs(shown: Iterable[ShownPair]) -> str:
    items = []
    for pair in shown:
        word = '<span class="wrong">wrong</span>' if pair.is_wrong else '<span class="right">right</span>'
        images = "".join(_image(image, f"pair {pair.number}") for image in pair.images)
        items.append(
            f"<li><figure>{images}<figcaption>{pair.score:.3f} {word}, pair {pair.number}</figcaption></figure></li>"
        )
    return f'<ul class="pairs">{"".join(items)}</ul>'


def _images(shown: Iterable[ShownImage]) -> str:
    items = (
        f"<li><figure>{_image(one.image, f'image {one.number}')}<figcaption>norm {one.norm:.2f}, sharpness "
        f"{one.sharpness:.0f}</figcaption></figure></li>"
        for one in shown
    )
    return f'<ul class="pairs">{"".join(items)}</ul>'


def _image(encoded: bytes, what: str) -> str:
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f'<img alt="{what}" src="{_data_uri(encoded, kind)}">'


def _table(headers: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in headers)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(cell: object) -> str:
    return html.escape(str(cell)).replace(" +- ", " &plusmn; ").replace(" .. ", " &ndash; ")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


_HOW = """<p class="quiet">Accuracy by the lineage's protocol: embeddings of image and mirror added, ten folds in order, the
threshold that is best on the other nine; mean and standard deviation over the folds. 95% intervals by the bootstrap over
pairs. TAR at FAR is over all pairs at once.</p>"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Verification</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
