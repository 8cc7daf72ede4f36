"""An HTTP server that answers texts with a model, with the answers of `infer.py --json`."""
