"""Training and evaluation: data sets, splits, metrics, and the way from a network to a bundle."""
