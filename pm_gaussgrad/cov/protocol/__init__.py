"""What a covariance structure is; nothing here knows a concrete one."""
