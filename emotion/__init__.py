"""Multi-label emotion detection from text: data, models, training, evaluation, inference."""
