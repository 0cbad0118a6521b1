"""Shipped configs and bundles: data only, found through importlib.resources."""
