"""How the studio looks: one calm page, the picture large, light and dark."""

from gradio.themes import Base, Soft


def theme() -> Base:
    """Fonts are those of the system: nothing is asked of other machines."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return Soft(
        primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]
    )
