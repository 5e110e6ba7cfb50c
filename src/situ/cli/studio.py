"""`situ studio`: local editing in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from situ.checkpoints.networks import data_folder
from situ.cli.options import Device, Model, SegmenterFile, open_on, with_segmenter
from situ.cli.output import say
from situ.core.errors import FileError
from situ.packs.segmenters import goes_by_words


def studio(
    model: Model = "portraits",
    port: Annotated[int | None, typer.Option("--port", help="of the page; a free one from 7860 on")] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", help="folder for directions, photos and work (default: your data)")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; others than this machine's need --password")
    ] = "127.0.0.1",
    share: Annotated[bool, typer.Option("--share", help="a public link of Gradio's; needs --password")] = False,
    password: Annotated[str, typer.Option("--password", help="asked of everybody")] = "",
    segmenter: SegmenterFile = None,
    device: Device = "auto",
) -> None:
    """Open the studio: sample, find directions for a part, edit live, in the browser."""
    try:
        from situ.studio.app import serve
    except ImportError as error:
        raise FileError(f"the studio needs {error.name}, which is not installed: pip install 'situ[studio]'") from None
    pack = open_on(model, device)
    words = segmenter if segmenter and goes_by_words(Path(segmenter)) else None
    pack = with_segmenter(pack, None if words else segmenter)
    place = workspace or data_folder() / "studio" / pack.name
    say(f"opening the studio of {pack.name}; what you make is kept in {place}")
    serve(
        pack,
        model,
        place,
        host=host,
        port=port,
        share=share,
        password=password,
        words=words,
        started=lambda address: say(f"the studio is at {address} (Ctrl-C ends it)"),
    )
