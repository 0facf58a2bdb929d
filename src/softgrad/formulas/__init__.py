"""The mathematics, one map a page, on any array-API namespace: short, slow, the reference."""
