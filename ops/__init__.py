"""Running dejaview: commands, local servers, demo, benchmarks."""
