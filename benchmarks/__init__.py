"""What the library costs, as ratios: `python -m benchmarks --help`."""
