"""The analysis of a pattern as one array of integers: a header, then sections.

The rows and columns of a matrix Q (n, n) are put into the order in which they are eliminated,
P Q P' = L L'. Consecutive columns of L with (nearly) the same pattern are a *supernode*. Its
*front* has a row for each of its own columns and for each row below them; its *panel* holds the
columns of L as the rows of a C-contiguous array (columns, height), of which what lies left of the
diagonal means nothing. Without supernodes, for matrices that hardly fill, each column is one by
itself.

Positions in the header, the first ``SECTIONS`` of which are numbers:

====================  ==========================================================================
``NODES``             n
``SUPERNODAL``        1 where there are supernodes, 0 where each column is by itself
``FACTOR_SIZE``       length of a factor: the panels, one after the other
``STACK_SIZE``        length of the memory for the matrices that fronts hand to their parents
``TALLEST``           the largest height of a front
``LARGEST``           the largest size of a panel
====================  ==========================================================================

and, at each of the others, where its section begins:

====================  ==========================================================================
``ORDER``             (n) the row of Q that is eliminated first, second, ...
``FIRST``             (s + 1) the first column of each supernode
``ROW_START``         (s + 1) where its rows below begin in ``ROWS``
``ROWS``              their numbers in the order of elimination, ascending
``PANEL_START``       (s + 1) where its panel begins in a factor
``ENTRY_START``       (s + 1) where its entries begin in the next two
``ENTRY``             positions in the values of Q, by supernode
``PLACE``             where in the panel each of these belongs
``CHILD``             (s) its first child in the tree of supernodes, -1 for none
``SIBLING``           (s) the next child of its parent, -1 for none
``RELATIVE``          the place of each row below in the front of the parent, as ``ROWS``
``SHARED``            (s) how many of its rows below are columns of its parent
``STACK``             (s) where in the stack the matrix for its parent is
``TARGET``            where in a factor the product of each two entries below a diagonal belongs
====================  ==========================================================================

With supernodes ``TARGET`` is empty; without, those from ``CHILD`` to ``STACK`` are.
"""

NODES, SUPERNODAL, FACTOR_SIZE, STACK_SIZE, TALLEST, LARGEST = range(6)
SECTIONS = 6
ORDER, FIRST, ROW_START, ROWS, PANEL_START, ENTRY_START, ENTRY, PLACE = range(6, 14)
CHILD, SIBLING, RELATIVE, SHARED, STACK, TARGET, END = range(14, 21)
HEADER = 21


def section(analysis, which):
    """A view of one section."""
    return analysis[analysis[which] : analysis[which + 1]]
