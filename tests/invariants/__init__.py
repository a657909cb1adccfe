"""What the service promises, each promise once, as a function of a history, which `faults/` and `simulation/` fill."""
