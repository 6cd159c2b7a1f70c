"""What is painted: subjects, places and lights, and the phrase that tells them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.18, 0.15),
    "blue": (0.18, 0.32, 0.72),
    "yellow": (0.93, 0.78, 0.20),
    "white": (0.94, 0.93, 0.90),
    "green": (0.22, 0.52, 0.26),
    "violet": (0.50, 0.28, 0.62),
}
LIGHTS = ("dawn", "noon", "dusk", "night", "fog")
PLACES: dict[str, tuple[str, ...]] = {
    "boat": ("lake", "sea"),
    "house": ("field", "snow", "sand"),
    "tree": ("field", "snow", "sand"),
    "mountain": ("lake", "field", "snow"),
    "tower": ("sea", "snow", "sand"),
    "flowers": ("table",),
    "fruit": ("table",),
    "woman": ("room",),
    "man": ("room",),
}
_PLACE_WORDS = {
    "lake": "on a calm lake",
    "sea": "on a rough sea",
    "field": "in a green field",
    "snow": "in the snow",
    "sand": "on the sand",
}
_BY_WORDS = {"lake": "by a calm lake", "sea": "by a rough sea"}


@dataclass(frozen=True)
class Scene:
    """What is painted: a subject, its colour and number, a place and a light."""

    subject: str
    colour: str
    count: int
    place: str
    light: str

    @property
    def caption(self) -> str:
        """One English phrase; its words are the attributes, and none speaks of style."""
        light = "in fog" if self.light == "fog" else f"at {self.light}"
        if self.subject == "flowers":
            return f"{self.colour} flowers in a vase on a table {light}"
        if self.subject == "fruit":
            return f"{self.colour} fruit in a bowl on a table {light}"
        if self.subject == "woman":
            return f"a woman in a {self.colour} hat {light}"
        if self.subject == "man":
            return f"a man in a {self.colour} coat {light}"
        floats = self.subject == "boat"
        place = _PLACE_WORDS[self.place] if floats else {**_PLACE_WORDS, **_BY_WORDS}[self.place]
        head = f"a {self.colour} {self.subject}"
        if self.count == 2:
            head = f"two {self.colour} {self.subject}s"
        return f"{head} {place} {light}"


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene: subject, colour, place and light uniform, sometimes two of a kind."""
    subjects = tuple(PLACES)
    subject = subjects[int(rng.integers(len(subjects)))]
    places = PLACES[subject]
    colours = tuple(COLOURS)
    pair = subject in ("boat", "house", "tree") and rng.random() < 0.3
    return Scene(
        subject=subject,
        colour=colours[int(rng.integers(len(colours)))],
        count=2 if pair else 1,
        place=places[int(rng.integers(len(places)))],
        light=LIGHTS[int(rng.integers(len(LIGHTS)))],
    )


def caption_words() -> tuple[str, ...]:
    """Every word that a caption can contain, sorted: the miniature's tokenizer is built of them."""
    scenes = (
        Scene(subject, colour, count, place, light)
        for subject, places in PLACES.items()
        for colour in COLOURS
        for count in ((1, 2) if subject in ("boat", "house", "tree") else (1,))
        for place in places
        for light in LIGHTS
    )
    return tuple(sorted({word for scene in scenes for word in scene.caption.split()}))
