"""The acts of data: every institution imports what it made, and the communities screen their residents."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from yilian.crypto.suite import sha256
from yilian.demo.consortium import COMMUNITIES, CUSTODIANS, Place, mapping, organisations
from yilian.demo.residents import generate
from yilian.demo.stage import Stage
from yilian.web.kit.text import mapping_line

MOST_LINES = 12
_UNITS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))


def load(stage: Stage) -> None:
    """Import at each institution what it made: the given data, or made-up residents."""
    options, tell = stage.options, stage.tell
    source = str(options.data) if options.data is not None else f"{options.residents}/{options.seed}"
    name = sha256(source.encode()).hex()
    if name in stage.done.files:
        return
    tell.chapter("loading")
    began = time.monotonic()
    if options.data is not None:
        tell.say("given", path=options.data)
        _import_all(stage, options.data, {})
    else:
        # beside the home, never inside: nothing in a home is readable
        with tempfile.TemporaryDirectory(prefix="yilian-residents-") as folder:
            for file, content in generate(options.residents, options.seed, organisations(tell.language)):
                Path(folder, file).write_bytes(content)
            tell.say("generated", count=options.residents, seed=options.seed)
            _import_all(stage, Path(folder), mapping())
    stage.seconds["import"] = time.monotonic() - began
    stage.done.files.append(name)
    stage.save()


def screen(stage: Stage) -> None:
    """Screen the residents of every community institution."""
    if stage.is_done("screening"):
        return
    stage.tell.chapter("screening")
    began = time.monotonic()
    for place in COMMUNITIES:
        physician = stage.face(place, "physician")
        if not stage.done.residents.get(place.slug):
            stage.tell.say("nobody", name=stage.name(place))
            continue
        with stage.tell.work("screening", name=stage.name(place)) as report:
            job = physician.post("/v1/screenings", {"north": place.north, "urban": place.urban})["job_id"]
            figures = physician.wait_for_job(job, report)["progress"]
        stage.tell.say("screened", name=stage.name(place), **figures)
    stage.seconds["screen"] = time.monotonic() - began
    stage.finish("screening")


def _import_all(stage: Stage, path: Path, explicit: dict[str, str]) -> None:
    records = 0
    for place in CUSTODIANS:
        with stage.tell.work("importing", name=stage.name(place)) as report:
            officer = stage.face(place, "data-officer")
            asked = {"path": str(path.resolve()), "mapping": explicit, "only_mapped": bool(explicit)}
            figures = officer.wait_for_job(officer.post("/v1/imports", asked)["job_id"], report)["progress"]
        records += figures["published"]
        stage.done.residents[place.slug] = stage.done.residents.get(place.slug, 0) + figures["residents"]
        if place is CUSTODIANS[0]:
            _tell_mapping(stage, figures)
        _tell_import(stage, place, figures)
    stage.tell.say("catalogue", records=records)


def _tell_mapping(stage: Stage, figures: dict[str, Any]) -> None:
    lines = figures["mapping"]
    stage.tell.say("mapped")
    for line in lines[:MOST_LINES]:
        stage.tell.under(mapping_line(line, stage.tell.language))
    if len(lines) > MOST_LINES:
        stage.tell.detail("mapped_more", count=len(lines) - MOST_LINES)


def _tell_import(stage: Stage, place: Place, figures: dict[str, Any]) -> None:
    stage.tell.say(
        "imported",
        name=stage.name(place),
        records=figures["records"],
        residents=figures["residents"],
        bytes=_size(figures["bytes_sealed"]),
        seconds=figures["seconds"],
    )
    if figures["broken"]:
        stage.tell.say("broken", name=stage.name(place), count=len(figures["broken"]))


def _size(number: int) -> str:
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
