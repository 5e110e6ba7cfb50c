"""`situ study edits|create|serve|judges|results`: which of two edits people prefer."""

import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from situ.cli.options import (
    Class,
    ClassNames,
    Device,
    Force,
    Json,
    LatentsFile,
    Model,
    Seed,
    Truncation,
    latents_of,
    new_rng,
    open_on,
    require_folder,
)
from situ.cli.output import emit_json, progress_bar, say, table
from situ.core.direction import Edit, load_direction, require_generator
from situ.core.errors import FileError, SituError
from situ.core.files import write_whole
from situ.core.images import save_image
from situ.core.traversal import sweep_distances, synthesize_edits
from situ.packs.user_packs import made_beside
from situ.studio.study import CAPTIONS, ORIGINAL, QUESTION, JudgeTally, Preference, Results, Study, create_study

study_app = typer.Typer(
    help="Ask people which of two edits they prefer: side by side, blinded, in random order.", no_args_is_help=True
)

PORT = 7861
File = Annotated[Path, typer.Argument(help="a file of situ study create")]


@study_app.command()
def edits(
    directions: Annotated[
        list[str], typer.Argument(help="METHOD=FILE, a direction file; FILE alone is called after itself")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="a new folder, as situ study create takes it")] = Path(
        "methods"
    ),
    distance: Annotated[
        float | None,
        typer.Option(
            "--distance", help="perceptual distance of every edit (default: strength 1's); its sign is the side"
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="how many pictures")] = 16,
    seed: Seed = 0,
    latents_file: LatentsFile = None,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    class_: Class = None,
    class_names: ClassNames = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Edit the same pictures with several directions, as far as one another: a folder of methods for a study."""
    new_rng(seed)  # which refuses a seed that cannot be one
    files = _named(directions)
    if out.exists():
        raise FileError(f"{out} is there already: name a new folder with -o")
    pack = open_on(model, device, class_=class_, class_names=class_names)
    d = pack.unit_distance if distance is None else distance
    if not (math.isfinite(d) and d):
        raise SituError(f"a perceptual distance to edit at is a number other than 0, got {d}")
    found = {name: load_direction(file) for name, file in files.items()}
    for direction in found.values():
        require_generator(direction, pack.generator, force)
    seeds = None if latents_file else list(range(seed, seed + n))
    latents, captions = latents_of(pack.generator, seeds, latents_file, truncation, [])
    if latents_file:
        latents, captions = latents[:n], captions[:n]
    pictures = {ORIGINAL: synthesize_edits(pack.generator, latents, [Edit()])[:, 0]}
    missed = dict[str, int]()
    with progress_bar("editing") as progress:
        for i, (name, direction) in enumerate(found.items()):
            progress(i, len(found), name)
            edited, _, reached = sweep_distances(pack.generator, direction, latents, [d], pack.distance.between, force)
            pictures[name], missed[name] = edited[:, 0], sum(not each[0] for each in reached)
    names = [f"{caption.replace(' ', '_')}.png" for caption in captions]
    regions = {direction.region for direction in found.values()}
    with made_beside(out) as place:
        for name, rows in pictures.items():
            for file, image in zip(names, rows, strict=True):
                save_image(image, place / name / file)
        if len(regions) == 1 and (region := regions.pop()).replace("+", "").isalnum():
            text = json.dumps({file: f"To be changed: {region.replace('+', ', ')}, and nothing else" for file in names})
            (place / CAPTIONS).write_text(text, encoding="utf-8")
    for name in (name for name in missed if missed[name]):
        say(f"{name} cannot reach the distance on {missed[name]} of {len(names)} pictures: they go as far as they can")
    if as_json:
        emit_json({"out": str(out), "methods": list(found), "pictures": names, "distance": d, "missed": missed})
    else:
        say(f"wrote {out}: {len(names)} pictures, each edited by {', '.join(found)} to distance {d:g}")
        say(f"next: situ study create {out}")


@study_app.command()
def create(
    folder: Annotated[
        Path, typer.Argument(help="METHOD/PICTURE.png, same names under each method; original/ and edits.json if any")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="file of the study")] = Path("study.sqlite"),
    pairs: Annotated[int | None, typer.Option("--pairs", min=1, help="that each judge is asked (default: all)")] = None,
    judges: Annotated[int, typer.Option("--judges", min=1, help="how many people to ask")] = 1,
    question: Annotated[str, typer.Option("--question", help="what the judges are asked")] = QUESTION,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make a study of a folder of methods."""
    rng = new_rng(seed)
    require_folder(out.parent)
    with progress_bar("reading pictures") as progress:
        made = create_study(folder, out, rng, pairs, judges, question, progress)
    asked = made.judges[0].asked
    if as_json:
        emit_json({
            "study": str(out), "methods": made.methods, "pictures": made.pictures, "pairs_per_judge": asked,
            "judges": len(made.judges),
        })  # fmt: skip
        return
    say(f"{out}: {', '.join(made.methods)} on {len(made.pictures)} pictures; {asked} pairs for each of {judges} judges")
    say(f"next: situ study serve {out}")


@study_app.command()
def serve(
    file: File,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="where the page listens")] = PORT,
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; other than this machine's needs --password")
    ] = "127.0.0.1",
    password: Annotated[
        str, typer.Option("--password", envvar="SITU_PASSWORD", help="asked of everyone, beside their link")
    ] = "",
    as_json: Json = False,
) -> None:
    """Serve the page, and print the links of the judges and of the organiser, until Ctrl-C."""
    study = Study(file)
    if importlib.util.find_spec("gradio") is None:
        raise SituError("the page of a study needs Gradio: pip install 'situ[studio]'")
    from situ.studio import study_page  # Gradio takes seconds to import

    def started(address: str) -> None:
        if as_json:
            emit_json(_links(study, address))
        else:
            _say_links(study, address)
            say("Ctrl-C ends it; votes are kept, and the same links go on when it is served again")

    study_page.serve(study, port, host, password, started)


@study_app.command()
def judges(
    file: File,
    add: Annotated[int, typer.Option("--add", min=0, help="ask so many more people")] = 0,
    address: Annotated[str, typer.Option("--address", help="where the page is served")] = f"http://127.0.0.1:{PORT}/",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Print the links again, or add judges."""
    study = Study(file)
    if add:
        study.add_judges(add, new_rng(seed))
    emit_json(_links(study, address)) if as_json else _say_links(study, address)


@study_app.command()
def results(
    file: File,
    votes: Annotated[Path | None, typer.Option("--votes", help="write every vote to this .csv")] = None,
    as_json: Json = False,
) -> None:
    """Say which method was preferred how often, with confidence intervals."""
    study = Study(file)
    found = study.results()
    if not found.votes:
        raise SituError(f"nobody has voted in {file} yet: serve it (situ study serve {file}) and send the links")
    if votes:
        text = study.votes_as_csv()
        write_whole(votes, lambda place: place.write_text(text, encoding="utf-8"))
    if as_json:
        emit_json(found.described())
    else:
        _print(found)


def _named(directions: Sequence[str]) -> dict[str, Path]:
    """The direction file of each method, by the method's name."""
    files = dict[str, Path]()
    for text in directions:
        given, _, file = text.rpartition("=")
        name = given or Path(file).stem
        if name == ORIGINAL or name != Path(name).name or name.startswith("."):
            raise SituError(f'a method cannot be called "{name}": name it as METHOD=FILE, with letters and digits')
        if name in files:
            raise SituError(f"two methods are called {name}: name them apart, as METHOD=FILE")
        files[name] = Path(file)
    if len(files) < 2:
        raise SituError(f"a study compares two methods at least, got {len(files)}: give more directions")
    return files


def _links(study: Study, address: str) -> dict[str, Any]:
    base = address.rstrip("/")
    rows = [
        {"judge": j.name, "voted": j.voted, "asked": j.asked, "link": f"{base}/?judge={j.token}"} for j in study.judges
    ]
    return {"address": address, "organiser": f"{base}/?organiser={study.organiser}", "judges": rows}


def _say_links(study: Study, address: str) -> None:
    links = _links(study, address)
    for judge in links["judges"]:
        say(f"{judge['judge']} ({judge['voted']} of {judge['asked']}): {judge['link']}")
    say(f"results, for you alone: {links['organiser']}")


def _print(found: Results) -> None:
    title = f"{found.question} {found.votes} votes; shares of those that chose a side, 95 % intervals"
    rows = [[name, *_cells(each)] for name, each in found.methods.items()]
    table(title, ["method", "preferred", "wins", "losses", "no difference", "p"], rows)
    rows = [
        [f"{each.first} over {each.second}", *_cells(each.votes), f"{each.pictures.wins} : {each.pictures.losses}"]
        for each in found.comparisons
    ]
    table("against each other", ["", "preferred", "wins", "losses", "no difference", "p", "pictures"], rows)
    rows = [[each.judge, f"{each.voted} of {each.asked}", each.ties, _seconds(each)] for each in found.judges]
    table("judges", ["judge", "judged", "no difference", "seconds a pair"], rows)
    say(f"the left side was chosen in {found.left} (p {found.left.p_text}); it should be near 50 %")


def _cells(of: Preference) -> list[object]:
    return [str(of), of.wins, of.losses, of.ties, of.p_text]


def _seconds(tally: JudgeTally) -> str:
    return "" if tally.median_seconds is None else f"{tally.median_seconds:.1f}"
