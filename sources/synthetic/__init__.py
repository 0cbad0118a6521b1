"""What a simulated person's state looks like to a device: a module per kind of signal."""
