"""From probabilities to decisions, scores and figures."""
