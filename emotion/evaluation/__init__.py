"""Decision rules, metrics, bootstrap intervals, plots and reports. Nothing here needs torch."""
