"""The figure of a report: a histogram of the errors, and maps of the wrong elements."""

from __future__ import annotations

import numpy as np

_ZOOM = 64  # elements along each side of the map at full resolution
_WRONG, _OK, _BACKGROUND = "#c2321f", "#3f7f5f", "#f4f4f0"


def plot(report, path, format):
    # Not pyplot: Figure has no global state and works in threads and without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 9), layout="constrained")
    verdict = "ok" if report.ok else "NOT OK"
    if report.shape_mismatch:
        figure.suptitle("{}: shapes differ, {} and {}".format(verdict, *report.shape_mismatch))
        figure.savefig(path, dpi=110, format=format)
        return
    figure.suptitle(
        f"{verdict}: {report.wrong:,} of {report.count:,} {report.dtype.name} elements off by more than "
        f"{report.tolerance} ULP, at most {report.max_ulp:,} ULP"
        + (f"\n{report.pattern()}" if report.wrong else ""),
        color=_OK if report.ok else _WRONG,
    )
    axes = figure.subplot_mosaic([["map", "zoom"], ["histogram", "profile"]], height_ratios=[3, 2])
    _histogram(axes["histogram"], report)
    _map(figure, axes["map"], report)
    _zoom(axes["zoom"], report)
    _profile(axes["profile"], report)
    figure.savefig(path, dpi=110, format=format)


def _histogram(ax, report):
    used = np.flatnonzero(report.histogram)
    last = max(int(used[used < 65].max(initial=0)), 3)
    buckets = [*range(last + 1), *([65] if report.histogram[65] else [])]
    values = report.histogram[buckets]
    fine = [b == 0 or (b < 64 and (1 << b) - 1 <= report.tolerance) for b in buckets]
    partly = [b < 65 and b > 0 and (1 << (b - 1)) <= report.tolerance for b in buckets]
    colors = [_OK if f or p else _WRONG for f, p in zip(fine, partly, strict=True)]
    step = 1 if len(buckets) <= 20 else 2 if len(buckets) <= 40 else 4
    bars = ax.bar(range(len(buckets)), values, color=colors)
    ax.bar_label(bars, [f"{v:,}" if v else "" for v in values], fontsize=8)
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(0, max(float(values.max(initial=1)), 1) * 8)
    ax.set_xticks(
        range(len(buckets)),
        [_label(b) if b == 65 or b % step == 0 else "" for b in buckets],
        fontsize=8,
    )
    ax.set(
        title="Histogram of the errors (green: within the tolerance)",
        xlabel="error in ULP (lower bound of each bin)",
        ylabel="elements",
    )


def _label(bucket):
    if bucket == 65:
        return "NaN"
    return str((0, 1, 2, 4, 8)[bucket]) if bucket < 5 else f"$2^{{{bucket - 1}}}$"


def _map(figure, ax, report):
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    where = report.error_map
    cell_size = where.row_step * where.column_step
    share = np.ma.masked_equal(where.counts / cell_size, 0)
    ax.set_facecolor(_BACKGROUND)
    extent = (-0.5, where.columns - 0.5, where.rows - 0.5, -0.5)
    if share.count():
        # The colours start dark enough for a cell with a single wrong element to be visible.
        ramp = ListedColormap(colormaps["YlOrRd"](np.linspace(0.35, 1, 256)))
        image = ax.imshow(
            share.clip(0, 1),
            cmap=ramp,
            vmin=0,
            vmax=1,
            aspect="auto",
            extent=extent,
            interpolation="none",
        )
        _frame(ax, where)
        figure.colorbar(image, ax=ax, label="share of wrong elements in a cell", shrink=0.8)
    else:
        ax.set_xlim(extent[:2])
        ax.set_ylim(extent[2:])
        ax.text(0.5, 0.5, "nothing wrong", transform=ax.transAxes, ha="center", color=_OK)
    cell = f"{where.row_step} x {where.column_step}"
    ax.set(
        title=f"Wrong elements per cell of {cell}, shape {_shape(report)}",
        xlabel="column",
        ylabel="row",
    )


def _frame(ax, where):
    """Draws a frame around the wrong elements if they would be too small to see."""
    from matplotlib.patches import Rectangle

    sizes = [axis.high - axis.low + 1 for axis in where.axes]
    if all(size > 0.06 * axis.extent for size, axis in zip(sizes, where.axes, strict=True)):
        return
    pads = [0.02 * axis.extent for axis in where.axes]
    corner = (where.axes[1].low - 0.5 - pads[1], where.axes[0].low - 0.5 - pads[0])
    ax.add_patch(
        Rectangle(
            corner,
            sizes[1] + 2 * pads[1],
            sizes[0] + 2 * pads[0],
            fill=False,
            color=_WRONG,
            linewidth=2,
            clip_on=False,
        )
    )


def _zoom(ax, report):
    where = report.error_map
    flat = where.stored()
    height, width = min(_ZOOM, where.rows), min(_ZOOM, where.columns)
    row, column = flat // where.columns, flat % where.columns
    top, left = _window(row, column, where, height, width)
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    grid = np.zeros((height, width))
    grid[row[inside] - top, column[inside] - left] = 1
    from matplotlib.colors import ListedColormap

    ax.imshow(
        grid,
        cmap=ListedColormap([_BACKGROUND, _WRONG]),
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="none",
        extent=(left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5),
    )
    title = "Close-up of the densest part, element by element" if flat.size else "Close-up"
    ax.set(title=title, xlabel="column", ylabel="row")


def _window(row, column, where, height, width):
    """The upper left corner of the zoom: a few elements before the first wrong one of the densest cell."""
    if row.size == 0:
        return 0, 0
    densest = np.unravel_index(int(where.counts.argmax()), where.counts.shape)
    here = (row // where.row_step == densest[0]) & (column // where.column_step == densest[1])
    if not here.any():  # beyond the stored elements
        here = slice(None)
    top = min(max(int(row[here].min()) - 4, 0), where.rows - height)
    left = min(max(int(column[here].min()) - 4, 0), where.columns - width)
    return top, left


def _profile(ax, report):
    """The share of wrong elements by row and column index modulo 32, which shows periodic patterns."""
    where = report.error_map
    period = 32
    place = np.arange(period)
    for i, (name, color) in enumerate((("row", _WRONG), ("column", "#33658a"))):
        extent = (where.rows, where.columns)[i]
        hits = where.residues[i].reshape(-1, period).sum(0)
        # The number of elements with each residue.
        totals = np.array([len(range(r, extent, period)) for r in place]) * (report.count / extent)
        share = np.divide(hits, totals, out=np.zeros(period), where=totals > 0)
        ax.bar(
            place + (i - 0.5) * 0.4,
            100 * share,
            0.4,
            color=color,
            label=f"{name} index",
        )
    ax.set(
        title="Wrong elements by index modulo 32",
        xlabel="index modulo 32",
        ylabel="wrong elements (%)",
    )
    ax.set_ylim(0, max(ax.get_ylim()[1] * 1.15, 1e-9))
    ax.legend(loc="upper right", fontsize=8)


def _shape(report):
    where = report.error_map
    given = " x ".join(f"{n:,}" for n in report.shape) or "one element"
    if report.shape in ((where.rows, where.columns), ()):
        return given
    return f"{given} (as {where.rows:,} rows of {where.columns:,})"
