"""Charts as SVG: bars, and lines over a logarithmic axis."""

import math
from xml.sax.saxutils import escape

WIDTH = 760
LEFT = 330          # where bars start
STOCK_COLOUR = "#9aa0a6"
COLOURS = ("#1a73e8", "#f9ab00", "#188038")     # the first one is ours


def colours_of(names):
    """Return a colour for each name, one of its own for stock."""
    rest = iter(COLOURS)
    return [STOCK_COLOUR if name == "stock" else next(rest) for name in names]


def number(value):
    """Return a number as a reader wants it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(x, y, words, anchor="start", size=12):
    """Return a line of text."""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}">{escape(words)}</text>')


def legend(names):
    """Return the names beside their colours, below the title."""
    parts = []
    x = 10
    for name, colour in zip(names, colours_of(names)):
        parts.append(f'<rect x="{x}" y="32" width="12" height="12" '
                     f'fill="{colour}"/>')
        parts.append(text(x + 17, 43, name))
        x += 40 + 7 * len(name)
    return parts


def page(height, title, names, parts):
    """Return a whole SVG document."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(10, 20, title, size=15), *legend(names), *parts, "</svg>", ""])


def bars(title, names, rows):
    """Draw for each (label, values) one bar per name; None leaves one out."""
    most = max(value for _, values in rows for value in values
               if value is not None)
    scale = (WIDTH - LEFT - 70) / most
    parts = []
    y = 62
    for label, values in rows:
        middle = y + 7 * len(names) + 4
        parts.append(text(LEFT - 8, middle, label, "end"))
        for value, colour in zip(values, colours_of(names)):
            if value is not None:
                width = max(value, 0) * scale
                parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" '
                             f'height="12" fill="{colour}"/>')
                parts.append(text(LEFT + width + 4, y + 10, number(value),
                                  size=10))
            y += 14
        y += 8
    return page(y + 6, title, names, parts)


def tick_step(most):
    """Return a round number of which four or so reach most."""
    power = 10 ** math.floor(math.log10(most / 4))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10)
                if power * factor * 4.5 >= most)


def lines(title, x_title, series):
    """Draw {name: [(x, y), ...]} over x on a logarithmic axis, y from 0."""
    points = [point for line in series.values() for point in line]
    first = math.log10(min(x for x, _ in points))
    last = math.log10(max(x for x, _ in points))
    step = tick_step(max(y for _, y in points))
    most = step * math.ceil(max(y for _, y in points) / step)
    left, right, top, bottom = 60, WIDTH - 30, 62, 330

    def place(x, y):
        share = (math.log10(x) - first) / ((last - first) or 1)
        return left + share * (right - left), bottom - y / most * (bottom
                                                                   - top)

    parts = []
    for tick in range(round(most / step) + 1):
        value = tick * step
        y = place(10 ** first, value)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(text(left - 6, y + 4, number(value), "end", 11))
    for x in sorted({x for x, _ in points}):
        parts.append(text(place(x, 0)[0], bottom + 17, number(x), "middle",
                          11))
    parts.append(text((left + right) / 2, bottom + 38, x_title, "middle"))
    for line, colour in zip(series.values(), colours_of(series)):
        path = "L".join("{:.1f} {:.1f}".format(*place(*point))
                        for point in line)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" '
                     f'stroke-width="2"/>')
        for point in line:
            x, y = place(*point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" '
                         f'fill="{colour}"/>')
    return page(bottom + 52, title, list(series), parts)
