"""What `python -m benchmarks` can measure: each part is a function of the settings that gives figures."""
