"""What makes small encoders fast on a CPU. The rest of the project calls `fast_path` alone."""
