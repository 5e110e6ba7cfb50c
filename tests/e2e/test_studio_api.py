"""The studio from a program: the example of its page, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from situ.core.images import load_image

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "studio.md"


def test_the_example_runs_and_bad_calls_say_why(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    server = serve("studio", "--workspace", "work")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example.replace("http://127.0.0.1:7860", server.url), names)
    assert names["names"][0].startswith("mouth-resefa")
    assert load_image(names["picture"]).shape[-2:] == (64, 64)
    client: Client = names["studio"]
    with pytest.raises(AppError, match='no direction "nothing"'):
        client.predict(3, 0.7, [["nothing", 1.0]], api_name="/edit")
    with pytest.raises(AppError, match="knows the parts"):
        client.predict("tail", "resefa", 3, api_name="/find")
    with pytest.raises(AppError, match="methods are resefa and lelsd"):
        client.predict("mouth", "magic", 3, api_name="/find")
    assert server.process.poll() is None


def test_others_are_let_in_only_with_a_password(serve: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="others could reach the studio"):
        serve("studio", "--workspace", "work", "--host", "0.0.0.0")
