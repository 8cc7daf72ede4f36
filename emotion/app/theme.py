"""How the page looks: the colors and fonts of the comparison report, light and dark, as a Gradio theme and a style sheet."""

import re
from pathlib import Path
from typing import Any

import gradio as gr

from emotion.evaluation.document import STYLE as REPORT_STYLE
from emotion.evaluation.drawing import BLUE, ORANGE

LIGHT, DARK = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", rule)) for rule in re.findall(r":root \{(.*?)\}", REPORT_STYLE))
"""Colors of the report by name: ink, soft, paper, line, band and link."""
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
"""Fonts of the report. They are the reader's own: Gradio would load others from outside."""
MONOSPACE_FONTS = ("ui-monospace", "Consolas", "monospace")
COLOR_OF = {
    "body_background_fill": "paper",
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "background_fill_primary": "paper",
    "background_fill_secondary": "band",
    "block_background_fill": "paper",
    "block_border_color": "line",
    "block_label_background_fill": "paper",
    "block_label_border_color": "line",
    "block_label_text_color": "soft",
    "block_title_text_color": "ink",
    "block_info_text_color": "soft",
    "border_color_primary": "line",
    "input_background_fill": "paper",
    "input_border_color": "line",
    "input_placeholder_color": "soft",
    "link_text_color": "link",
    "link_text_color_hover": "link",
    "link_text_color_visited": "link",
    "link_text_color_active": "link",
    "slider_color": "link",
    "border_color_accent": "link",
    "button_secondary_background_fill": "band",
    "button_secondary_background_fill_hover": "line",
    "button_secondary_text_color": "ink",
    "button_secondary_border_color": "line",
    "button_primary_background_fill": "link",
    "button_primary_background_fill_hover": "link",
    "button_primary_text_color": "paper",
    "table_text_color": "ink",
    "checkbox_background_color": "paper",
    "checkbox_border_color": "soft",
    "checkbox_label_background_fill": "band",
    "checkbox_label_background_fill_selected": "band",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "checkbox_background_color_selected": "link",
    "checkbox_border_color_selected": "link",
}
"""Gradio's name of a color, and the report's."""


def build_theme() -> Any:
    """Return the Gradio theme."""
    theme = gr.themes.Base(font=FONTS, font_mono=MONOSPACE_FONTS, radius_size="sm", spacing_size="md", text_size="md")
    colors = {name: LIGHT[color] for name, color in COLOR_OF.items()} | {f"{name}_dark": DARK[color] for name, color in COLOR_OF.items()}
    return theme.set(
        **colors,
        block_shadow="none",
        button_primary_shadow="none",
        input_shadow="none",
        block_border_width="0px",
        color_accent="var(--link)",
    )


def build_style() -> str:
    """Return the style sheet, which begins with the colors as variables."""
    light, dark = ("; ".join(f"--{name}: {value}" for name, value in colors.items()) for colors in (LIGHT, DARK))
    variables = f":root {{ {light}; --fill: {BLUE}; --warning: {ORANGE} }}\n.dark {{ {dark} }}\n"
    return variables + Path(__file__).with_name("style.css").read_text(encoding="utf-8")
