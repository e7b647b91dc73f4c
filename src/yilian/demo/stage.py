"""What the acts of the story share: the home, the people, who tells, and what is done already."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from yilian.demo.consortium import FOLLOWERS, PLACES, Place
from yilian.demo.faces import Face, Faces, wait_until
from yilian.demo.telling import Teller
from yilian.node.control import NodeControl
from yilian.node.home import Home, store_private
from yilian.node.network import AccessFile, read_access
from yilian.node.settings import Settings

FILE_NAME = "demo.json"


class Done(msgspec.Struct, kw_only=True):
    """What a demonstration did in a home, so that another run goes on from there; ids of cases only."""

    acts: list[str] = []
    files: list[str] = []
    """Inputs that were imported, by digest of their path."""
    residents: dict[str, int] = {}
    """How many residents an import counted as an institution's own."""
    shown: dict[str, str] = {}
    """Ids that later acts speak of, by what they are."""
    proofs: dict[str, float] = {}
    """Milliseconds that making each receipt took."""


@dataclass(slots=True, kw_only=True)
class Options:
    """What the caller chose. `data` None: residents are made up."""

    data: Path | None
    residents: int
    seed: int


class Stage:
    """The scene of all acts."""

    def __init__(self, home: Home, settings: Settings, tell: Teller, options: Options) -> None:
        self.home = home
        self.settings = settings
        self.tell = tell
        self.options = options
        self.file = home.path / FILE_NAME
        self.done = _load(self.file)
        self.ids: dict[str, str] = {}
        self.seconds = {"import": 0.0, "screen": 0.0}
        self._lock = threading.Lock()
        self._faces: Faces | None = None
        self._control: NodeControl | None = None
        self._urls: dict[str, str] = {}
        """API of each institution that has a node of its own."""
        self._controls: dict[str, NodeControl] = {}

    @property
    def is_anonymous(self) -> bool:
        """Whether no resident may be named: the data was given."""
        return self.options.data is not None

    @property
    def control(self) -> NodeControl:
        """The side door of the running node."""
        if self._control is None:
            raise RuntimeError("the node is not up yet")
        return self._control

    def open(self, url: str) -> None:
        """Meet the people of a node that runs now."""
        self._control = NodeControl(self.home)
        self._faces = Faces(lambda slug: self._urls.get(slug, url), self.tell.language, self.access)
        self.meet()

    def know(self, place: Place, url: str, control: NodeControl) -> None:
        """Meet the people of an institution on a node of its own, which the caller stops."""
        self._urls[place.slug] = url
        self._controls[place.slug] = control
        self.meet()

    def home_of(self, place: Place) -> Home:
        """Give the home of the node that an institution is on."""
        return Home(self.home.path / "nodes" / place.slug) if place in FOLLOWERS else self.home

    def control_of(self, place: Place) -> NodeControl:
        """Give the side door of the node that an institution is on."""
        return self._controls.get(place.slug, self.control)

    def catch_up(self, place: Place) -> None:
        """Wait until the node of an institution, if it follows, has executed and projected what the sequencer has."""
        control = self._controls.get(place.slug)
        if control is None:
            return
        height = self.control.status()["height"]

        def is_there() -> bool:
            status = control.status()
            return bool(status["height"] >= height and status["read_model_height"] >= height)

        wait_until(is_there, f"{place.slug} to follow up to block {height}")

    def meet(self) -> None:
        """Learn the ids of all institutions of the node."""
        for control in (self.control, *self._controls.values()):
            self.ids |= {item["slug"]: item["id"] for item in control.status()["institutions"]}

    def close(self) -> None:
        """Close all connections."""
        if self._faces is not None:
            self._faces.close()
        if self._control is not None:
            self._control.close()

    def face(self, place: Place, label: str) -> Face:
        """Give a person of an institution."""
        if self._faces is None:
            raise RuntimeError("the node is not up yet")
        self.catch_up(place)
        return self._faces(place.slug, label)

    def access(self, slug: str, label: str) -> AccessFile:
        """Read the access file of a person."""
        place = next(place for place in PLACES if place.slug == slug)
        return read_access(self.home_of(place).clients / f"{slug}-{label}.toml")

    def name(self, place: Place) -> str:
        """Give an institution's name in the language of the story."""
        return place.name(self.tell.language)

    def name_of(self, institution: str) -> str:
        """Give the name of an institution by its id."""
        return next((self.name(place) for place in PLACES if self.ids.get(place.slug) == institution), institution)

    def id(self, place: Place) -> str:
        """Give an institution's id."""
        return self.ids[place.slug]

    def is_done(self, act: str) -> bool:
        """Say whether an act was played to its end before."""
        return act in self.done.acts

    def finish(self, act: str) -> None:
        """Note that an act is played to its end."""
        with self._lock:
            if act not in self.done.acts:
                self.done.acts.append(act)
            self._save()

    def show(self, **ids: str) -> None:
        """Note ids that later acts speak of."""
        with self._lock:
            self.done.shown.update(ids)
            self._save()

    def save(self) -> None:
        """Write down what is done."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        store_private(self.file, msgspec.json.format(msgspec.json.encode(self.done), indent=1))


def _load(file: Path) -> Done:
    return msgspec.json.decode(file.read_bytes(), type=Done) if file.is_file() else Done()
