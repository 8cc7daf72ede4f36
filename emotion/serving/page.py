"""A page of the OpenAPI document that loads nothing: FastAPI's own page needs scripts from elsewhere."""

import json
from html import escape
from typing import Any

STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"


def format_page(document: dict[str, Any]) -> str:
    """Return the HTML page of an OpenAPI document."""
    about = document["info"]
    parts = [f"<h1>{escape(about['title'])}</h1><p>{escape(about['summary'])} <a href='openapi.json'>openapi.json</a></p>"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{escape(method.upper())} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>")
            for media in operation.get("requestBody", {}).get("content", {}).values():
                parts.append(_format_fields(media["schema"]))
            rows = [
                f"<li>{escape(status)}: {escape(answer['description'])}</li>" for status, answer in operation.get("responses", {}).items()
            ]
            parts.append(f"<ul>{''.join(rows)}</ul>")
    head = f"<meta charset='utf-8'><title>{escape(about['title'])}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def _format_fields(schema: dict[str, Any]) -> str:
    """Return the fields of a body: name, description, and the schema of each."""
    required = schema.get("required", [])
    rows = [
        f"<dt><code>{escape(name)}</code>{' (required)' if name in required else ''}</dt>"
        f"<dd>{escape(field.get('description', ''))} <code>{escape(json.dumps(field.get('anyOf') or field.get('type')))}</code></dd>"
        for name, field in schema["properties"].items()
    ]
    return f"<dl>{''.join(rows)}</dl>"
