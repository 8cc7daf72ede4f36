"""Everything that writes or publishes a trained model: merging, ONNX, refitting, the Hub, and the check that all variants agree."""
