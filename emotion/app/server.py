"""Serve the page: on this machine only unless told otherwise, without telemetry, and so that the browser loads nothing from elsewhere."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion.errors import ConfigError

if TYPE_CHECKING:
    from emotion.app.models import ServedModel


CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""A model card from elsewhere may link pictures; the browser must not fetch them. Gradio needs inline scripts and styles."""


class SecurityHeaders:
    """ASGI middleware that adds the policy to every response."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())]
                headers += [(b"referrer-policy", b"no-referrer")]
                message = message | {"headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def prepare_environment(folder: Path) -> None:
    """Turn telemetry off and keep uploads in `folder`; call this before Gradio is imported."""
    os.environ.update({"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": str(folder / "gradio")})


def serve(
    models: dict[str, "ServedModel"], folder: Path, host: str, port: int | None, is_shared: bool = False, is_kept: bool = False
) -> tuple[Any, str]:
    """Start the server and return the page and its address; stop it with `page.close()`.

    `folder` gets uploaded and scored files, which are removed after a day unless they are kept.

    Raises: ConfigError if the port or the host cannot be used.
    """
    from starlette.middleware import Middleware

    from emotion.app.handlers import Handlers
    from emotion.app.page import build_page
    from emotion.app.theme import build_style, build_theme
    from emotion.app.uploads import KEPT_SECONDS, MAX_UPLOAD_MEGABYTES, UploadStore

    store = UploadStore(folder / "uploads", float("inf") if is_kept else KEPT_SECONDS)
    page = build_page(Handlers(models, store), is_shared)
    reports = [str(model.run.path.resolve() / "report") for model in models.values()]
    try:
        _, address, public = page.launch(
            server_name=host,
            server_port=port,
            share=is_shared,
            quiet=True,
            prevent_thread_lock=True,
            theme=build_theme(),
            css=build_style(),
            footer_links=["api"],
            max_file_size=f"{MAX_UPLOAD_MEGABYTES}mb",
            allowed_paths=[*reports, str(store.folder)],
            app_kwargs={"middleware": [Middleware(SecurityHeaders)]},
            ssr_mode=False,
        )
    except OSError:
        if port is None:
            raise ConfigError(f"--host {host}: no port can be opened there; choose another --host") from None
        raise ConfigError(f"--port {port}: is taken, or not open to you; choose another --port") from None
    return page, public or address
