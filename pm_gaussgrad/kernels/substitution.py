"""Triangular solves of many short columns side by side.

The inner loops run along the columns, which are contiguous in each row and independent, so
they compile to vector instructions. (Golub and Van Loan, 2013, Matrix Computations, algorithms
3.1.1 and 3.1.4.)
"""


def forward_substitution(factor, columns):
    """Overwrite the columns (k, c) by L^-1 times them."""
    for i in range(columns.shape[0]):
        row = columns[i]
        for j in range(i):
            multiple, above = factor[i, j], columns[j]
            for s in range(row.size):
                row[s] -= multiple * above[s]
        row /= factor[i, i]


def backward_substitution(factor, columns):
    """Overwrite the columns (k, c) by L'^-1 times them."""
    for i in range(columns.shape[0] - 1, -1, -1):
        row = columns[i]
        row /= factor[i, i]
        for j in range(i):
            multiple, above = factor[i, j], columns[j]
            for s in range(row.size):
                above[s] -= multiple * row[s]
