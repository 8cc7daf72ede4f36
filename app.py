"""Serve a page in the browser that tries a model on texts and files.

    python app.py --model runs/NAME
    python app.py --model runs/FIRST --model runs/SECOND

model -> a page on this machine with three tabs: try a text, score a file, read about the model. Its API: docs/app.md.
"""

from emotion.errors import ConfigError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import importlib.util
    import os
    import signal
    import sys
    import tempfile
    import threading
    import time
    from pathlib import Path

    from emotion.arguments import BACKBONE_OPTION, ArgumentParser
    from emotion.paths import expand_home
    from emotion.text import print_message


def main() -> int:
    started = time.perf_counter()
    arguments = parse_arguments()
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the page needs Gradio, which is not installed: pip install -r requirements-app.txt")
    with tempfile.TemporaryDirectory(prefix="emotion-app-") as tmp_dir:
        folder = Path(arguments.uploads or tmp_dir)
        serve_until_interrupted(arguments, folder, started)
    return 0


def serve_until_interrupted(arguments: argparse.Namespace, folder: Path, started: float) -> None:
    """Load the models, serve the page and wait for Ctrl-C."""
    from emotion.app.server import prepare_environment, serve

    prepare_environment(folder)
    from emotion.app.models import load_models
    from emotion.tracking.locating import find_default_model

    location, choice = find_default_model() if not arguments.model else ("", "")
    models = load_models(arguments.model or [location], arguments.backend, arguments.backbone)
    for model in models.values():
        print_message(f"model: {model.location} ({', '.join(filter(None, (model.predictor.backend_name, choice)))})")
    page, address = serve(models, folder, arguments.host, arguments.port, arguments.share, arguments.uploads is not None)
    print(f"{address}  (ready after {time.perf_counter() - started:.1f} s; stop with Ctrl-C)", flush=True)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # not the handler of SIGINT: a background job ignores that
        threading.Event().wait()
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        page.close(verbose=False)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    help_model = (
        "run folder, model folder or Hub id; give it several times to compare (default: the newest finished run, or else the bundled model)"
    )
    add("--model", type=expand_home, action="append", metavar="FOLDER", help=help_model)
    add("--backbone", type=expand_home, **BACKBONE_OPTION)
    add("--backend", choices=("auto", "torch", "onnx", "numpy"), default="auto", help="as for infer.py; auto starts fastest (default)")
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")  # a Space sets it
    add("--host", default=host, help="address to listen on (default: 127.0.0.1, this machine only)")
    add("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    add("--share", action="store_true", help="ask Gradio for a public link: texts then pass through its server")
    add(
        "--uploads",
        type=expand_home,
        metavar="FOLDER",
        help="keep uploaded and scored files here (default: a temporary folder, removed at the end)",
    )
    arguments = parser.parse_args()
    if arguments.port is not None and not 0 < arguments.port < 65_536:
        raise ConfigError(f"--port {arguments.port}: must be from 1 to 65535")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
