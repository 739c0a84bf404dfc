"""The encoder: pictures in, fingerprints out. Weights ship in `weights/`, runtimes are in `runtimes/`."""
