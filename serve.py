"""Serve a model over HTTP: texts in JSON -> the answers of `infer.py --json`, batched across requests.

    python serve.py --model runs/NAME
    curl -H "Content-Type: application/json" -d '{"text": "Thank you!"}' http://127.0.0.1:8000/predict

Paths, limits and the container: docs/serving.md.
"""

from emotion.errors import ConfigError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import importlib.util
    import sys
    import time

    from emotion.arguments import BACKBONE_OPTION, MODEL_OPTION, ArgumentParser, BeQuiet
    from emotion.paths import expand_home
    from emotion.serving.access import TOKEN_VARIABLE, read_token
    from emotion.serving.limits import Limits
    from emotion.text import print_message

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def main() -> int:
    started = time.perf_counter()
    arguments, limits = parse_arguments()
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"the server needs {', '.join(missing)}, not installed: pip install -r requirements-serve.txt")
    token = read_token(arguments.token_file)
    from emotion.inference.loading import load_predictor
    from emotion.serving.answering import Answerer
    from emotion.serving.application import Service, build_app
    from emotion.serving.server import is_loopback, name_address, open_socket, serve
    from emotion.tracking.locating import choose_model

    model, choice = choose_model(arguments.model)
    with open_socket(arguments.host, arguments.port) as listener:  # before the model is loaded: a port that is taken is known at once
        answerer = Answerer(load_predictor(model, arguments.backend, is_brief=True, backbone=arguments.backbone), model)
        print_message(f"model: {model} ({', '.join(filter(None, (answerer.predictor.backend_name, choice)))})")
        answerer.warm_up(is_batching=limits.max_batch > 1)
        if limits.max_batch > 1:
            print_message(f"batches: {answerer.textwise.describe()}")
        if not is_loopback(listener):
            who = "with the token" if token else f"without a token (set {TOKEN_VARIABLE} or --token-file)"
            print_message(f"listening beyond this machine: whoever reaches it may use it {who}; texts are not encrypted")
        service = Service(answerer, limits)
        app = build_app(service, token, arguments.log_requests)
        print(f"{name_address(listener)}  (ready after {time.perf_counter() - started:.1f} s; stop with Ctrl-C)", flush=True)
        if not serve(service, app, listener):
            raise KeyboardInterrupt
    return 0


def parse_arguments() -> tuple[argparse.Namespace, Limits]:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--model", type=expand_home, **MODEL_OPTION)
    add("--backbone", type=expand_home, **BACKBONE_OPTION)
    add("--backend", choices=("auto", "torch", "onnx", "numpy"), default="auto", help="as for infer.py with a text; default: auto")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    add("--port", type=int, default=8_000, help="port to listen on; 0 takes a free one (default: 8000)")
    add("--token-file", type=expand_home, metavar="FILE", help=f"file with the token that clients send (default: {TOKEN_VARIABLE}, if set)")
    add("--max-batch", type=int, default=Limits.max_batch, help="texts predicted together; 1: each alone (default: 32)")
    add("--max-wait-ms", type=float, default=Limits.max_wait_ms, help="longest wait of a text for others, in ms (default: 5)")
    add("--max-queue", type=int, default=Limits.max_queue, help="texts that wait; beyond it the answer is 503 (default: 1024)")
    add("--max-texts", type=int, default=Limits.max_texts, help="texts of a request (default: 256)")
    add("--max-characters", type=int, default=Limits.max_characters, help="characters of a text (default: 10000)")
    add("--max-body-kb", type=int, default=Limits.max_body_kb, help="KiB of a request's body (default: 1024)")
    add("--timeout", type=float, default=Limits.timeout, help="seconds for a request, and for those in flight at a stop (default: 30)")
    add("--log-requests", action="store_true", help="print a line for each request: path, status, time; never a text")
    add("--quiet", action=BeQuiet, help="print the address and errors only")
    arguments = parser.parse_args()
    if not 0 <= arguments.port < 65_536:
        raise ConfigError(f"--port {arguments.port}: must be from 0 to 65535")
    values = vars(arguments)
    return arguments, Limits(**{name: values[name] for name in Limits.__dataclass_fields__})


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
