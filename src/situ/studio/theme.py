"""How the studio looks: one calm page, the picture large, light and dark."""

from gradio.themes import Base, Soft

CSS = """
.gradio-container {width: 100% !important; max-width: 1240px !important; min-width: 0 !important;
  margin: 0 auto !important; box-sizing: border-box}
#chooser .thumbnail-item {min-width: 0}
#chooser .grid-container {grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)) !important}
#library .grid-container {grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)) !important}
#head {padding: 2px 0 0 0}
#head h1 {font-size: 1.25rem; margin: 0; font-weight: 600}
#head p {margin: 0; opacity: .65; font-size: .88rem}
#picture .image-frame, #picture .image-container, #picture button {width: 100%; height: auto}
#picture img {width: 100% !important; height: auto !important; max-height: none !important;
  object-fit: contain !important}
#library .grid-container, #chooser .grid-container {gap: 8px}
#library .thumbnail-item {aspect-ratio: 2 / 1.25}
#library .caption-label, #chooser .caption-label {font-size: .7rem; padding: 1px 6px; opacity: .85}
.quiet p {font-size: .85rem; opacity: .8; margin: 6px 0}
#painter {max-width: 100%}
#said p {margin: 2px 0; min-height: 1.4em; font-size: .9rem}
.edit {border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 8px 10px}
.small button {min-width: 2.6rem}
footer {display: none !important}
"""


def theme() -> Base:
    """Fonts are those of the system: nothing is asked of other machines."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return Soft(
        primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]
    )
