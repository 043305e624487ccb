"""Log densities: missing values, sufficient statistics of constant rows, conditionals."""
