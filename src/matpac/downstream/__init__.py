"""What is done with a frozen encoder's vectors on labelled sounds: metrics, probes, comparison."""
