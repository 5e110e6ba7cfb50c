"""What the pages of a study say, and to whom."""

import json
from pathlib import Path

import pytest
import torch

from situ.core.errors import FileError
from situ.studio.study import Study, create_study
from toys_study import methods_folder

pytest.importorskip("gradio")

from situ.studio import study_page

METHODS = ("<b>one", "two & more")  # names of folders are anybody's


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folder = methods_folder(tmp_path / "methods", METHODS)
    (folder / "edits.json").write_text(json.dumps({"0.png": "<i>smile</i>"}))
    return create_study(
        folder, tmp_path / "study.sqlite", torch.Generator().manual_seed(0), judges=2, question="Which <u>?"
    )


def test_a_judge_is_told_no_method_and_no_file(study: Study) -> None:
    token = study.judges[0].token
    while trial := study.next_trial(token):
        shown = study_page.pair_html(trial)
        assert "Which &lt;u&gt;?" in shown
        assert shown.count("data:image/png;base64,") == 2
        assert f"{trial.voted} of 4 judged" in shown
        assert not any(word in shown for word in ("one", "two", ".png", "<i>", token))
        study.vote(token, trial.position, "left")


def test_the_results_name_methods_as_text(study: Study) -> None:
    assert "No votes yet" in study_page.results_html(study)
    token = study.judges[0].token
    while trial := study.next_trial(token):
        study.vote(token, trial.position, "left", 1.25)
    page = study_page.results_html(study)
    assert "&lt;b&gt;one over two &amp; more" in page or "two &amp; more over &lt;b&gt;one" in page
    assert "<b>one" not in page
    assert "50 % [15, 85]" in page
    assert "4 of 4" in page
    assert "1.2" in page
    assert page.count("?judge=") == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "localhost.example", ""])
def test_other_hosts_need_a_password(study: Study, host: str) -> None:
    with pytest.raises(FileError, match="give it a --password"):
        study_page.serve(study, 1, host)
