"""Triangular solves and products with a sparse factor, of rows in the order of elimination.

Each panel is read once for all rows. Source: Davis (2006), Direct Methods for Sparse Linear
Systems, chapter 3.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.layout import (
    FIRST,
    PANEL_START,
    ROW_START,
    ROWS,
    section,
)


@apart("float64 1", "int64 1", "float64 2")
def substitute_forward(factor, analysis, ordered):
    """Overwrite each row r of ``ordered`` (m, n) by L^-1 r."""
    first, panel_start = section(analysis, FIRST), section(analysis, PANEL_START)
    row_start, rows = section(analysis, ROW_START), section(analysis, ROWS)
    for s in range(first.size - 1):
        begin, end = first[s], first[s + 1]
        where = rows[row_start[s] : row_start[s + 1]]
        for r in range(ordered.shape[0]):
            row, position = ordered[r], panel_start[s]
            for j in range(begin, end):
                value = row[j] / factor[position]
                row[j] = value
                position += 1
                for i in range(j + 1, end):
                    row[i] -= value * factor[position]
                    position += 1
                for i in range(where.size):
                    row[where[i]] -= value * factor[position]
                    position += 1
                position += j + 1 - begin


@apart("float64 1", "int64 1", "float64 2")
def substitute_backward(factor, analysis, ordered):
    """Overwrite each row r of ``ordered`` (m, n) by L'^-1 r."""
    first, panel_start = section(analysis, FIRST), section(analysis, PANEL_START)
    row_start, rows = section(analysis, ROW_START), section(analysis, ROWS)
    for s in range(first.size - 2, -1, -1):
        begin, end = first[s], first[s + 1]
        where = rows[row_start[s] : row_start[s + 1]]
        for r in range(ordered.shape[0]):
            row, position = ordered[r], panel_start[s + 1]
            for j in range(end - 1, begin - 1, -1):
                total = row[j]
                for i in range(where.size - 1, -1, -1):
                    position -= 1
                    total -= row[where[i]] * factor[position]
                for i in range(end - 1, j, -1):
                    position -= 1
                    total -= row[i] * factor[position]
                position -= 1
                row[j] = total / factor[position]
                position -= j - begin


def multiply_by_factor(factor, analysis, ordered):
    """Overwrite each row r of ``ordered`` (m, n) by L r."""
    first, panel_start = section(analysis, FIRST), section(analysis, PANEL_START)
    row_start, rows = section(analysis, ROW_START), section(analysis, ROWS)
    for s in range(first.size - 2, -1, -1):
        columns, where = first[s + 1] - first[s], rows[row_start[s] : row_start[s + 1]]
        panel, height = factor[panel_start[s] : panel_start[s + 1]], columns + where.size
        for r in range(ordered.shape[0]):
            row = ordered[r]
            for j in range(columns - 1, -1, -1):
                column, value = panel[j * height + j : (j + 1) * height], row[first[s] + j]
                row[first[s] + j] = value * column[0]
                for i in range(1, columns - j):
                    row[first[s] + j + i] += value * column[i]
                for i in range(where.size):
                    row[where[i]] += value * column[columns - j + i]


def multiply_by_transposed(factor, analysis, ordered):
    """Overwrite each row r of ``ordered`` (m, n) by L' r."""
    first, panel_start = section(analysis, FIRST), section(analysis, PANEL_START)
    row_start, rows = section(analysis, ROW_START), section(analysis, ROWS)
    for s in range(first.size - 1):
        columns, where = first[s + 1] - first[s], rows[row_start[s] : row_start[s + 1]]
        panel, height = factor[panel_start[s] : panel_start[s + 1]], columns + where.size
        for r in range(ordered.shape[0]):
            row = ordered[r]
            for j in range(columns):
                column, total = panel[j * height + j : (j + 1) * height], 0.0
                for i in range(columns - j):
                    total += row[first[s] + j + i] * column[i]
                for i in range(where.size):
                    total += row[where[i]] * column[columns - j + i]
                row[first[s] + j] = total


def in_order(rows, order):
    """Rows (m, n) with their entries in the order of elimination, a copy."""
    ordered = np.empty(rows.shape)
    for r in range(rows.shape[0]):
        for place in range(order.size):
            ordered[r, place] = rows[r, order[place]]
    return ordered


def out_of_order(ordered, order):
    """The inverse of :func:`in_order`, a copy."""
    rows = np.empty(ordered.shape)
    for r in range(rows.shape[0]):
        for place in range(order.size):
            rows[r, order[place]] = ordered[r, place]
    return rows
