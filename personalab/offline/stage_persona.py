"""Stage 1: somebody for a picture or a description, in the fields of a character card."""

from __future__ import annotations

import re

from personalab.offline.choice import number
from personalab.offline.image_reader import COLOURS, palette
from personalab.offline.lexicon import Lexicon
from personalab.offline.pen import Pen, join
from personalab.offline.persona import Persona, invent
from personalab.offline.prompt_reader import Asked
from personalab.records import JsonObject

_DARK, _BRIGHT = 0.33, 0.66
_QUOTED_WORDS, _QUOTED_CHARACTERS = 9, 18
_WISH_WORDS = 5


def core_persona(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Everything about them; appearance and description name the colours that were seen."""
    persona, pen = invent(asked, lexicon)
    pen = pen.knowing(**_colours(asked, lexicon), shine=pen.say(f"shine_{_brightness(asked)}"))
    # What one sees is said twice, in description and appearance, so it is drawn once.
    pen = pen.knowing(
        **{name: pen.say(name) for name in ("build", "manner", "face", "clothes", "second_piece", "backdrop")}
    )
    scenes = [pen.choose("scenes") for _ in range(1 + pen.between("greetings", 2, 3))]
    return {
        "name": persona.name,
        "age": persona.age,
        "occupation": pen.say("work_line"),
        "location": _location(asked, persona, pen),
        "description": _description(asked, pen),
        "personality": join(pen.say("inner"), pen.odd(), code=lexicon.code),
        "scenario": pen.fill(scenes[0]["scenario"]),
        "first_mes": _greeting(pen, scenes[0]["opening"], scenes[0]["question"]),
        "mes_example": _dialogues(pen),
        "alternate_greetings": [_greeting(pen, scene["opening"], scene["question"]) for scene in scenes[1:]],
        "tags": _tags(persona, pen),
        "appearance": pen.say("look"),
    }


def wish_words(wishes: str, lexicon: Lexicon) -> list[str]:
    """The words of the researcher's instructions that carry meaning."""
    small = lexicon.texts["small_words"]
    words = (word for word in re.findall(r"[\w'-]+", wishes) if word.casefold() not in small)
    long_enough = (word[:_QUOTED_CHARACTERS] for word in words if len(word) > 3 or not word.isascii())
    return list(dict.fromkeys(long_enough))[:_WISH_WORDS]


def _location(asked: Asked, persona: Persona, pen: Pen) -> str:
    """Where they live; word for word what was asked for if it names a district and a town."""
    complete = persona.town in asked.location and persona.district in asked.location
    return asked.location if complete else pen.say("location_line")


def _description(asked: Asked, pen: Pen) -> str:
    code = pen.lexicon.code
    second = [pen.say("p2")]
    if asked.source:
        second.append(pen.knowing(words=_quoted(asked.source, pen.lexicon)).say("described"))
    if words := wish_words(asked.wishes, pen.lexicon):
        second.append(pen.knowing(words=pen.lexicon.texts["comma"][0].join(words)).say("wished"))
    paragraphs = (
        pen.say("p1"),
        join(*second, pen.odd(), code=code),
        join(pen.say("p3"), pen.odd(), code=code),
    )
    return "\n\n".join(paragraphs)


def _quoted(source: str, lexicon: Lexicon) -> str:
    """The beginning of the description, short enough to quote and not broken off after a little word."""
    clause = re.split(r"[.;!?。；！？\n]", source.replace('"', ""), maxsplit=1)[0]
    if lexicon.code == "zh":
        return clause[:_QUOTED_CHARACTERS]
    words = clause.split()
    kept = words[:_QUOTED_WORDS]
    while (
        len(kept) > 2
        and len(kept) < len(words)
        and (len(kept[-1]) < 3 or kept[-1] in lexicon.texts["small_words"])
    ):
        kept.pop()
    quoted = " ".join(kept).rstrip(",:-– ")
    return quoted[:1].lower() + quoted[1:]


def _greeting(pen: Pen, opening: str, question: str) -> str:
    scene = join(pen.fill(opening), pen.say("gestures"), pen.odd(), code=pen.lexicon.code)
    return f"{scene}\n\n{pen.fill(question)}"


def _dialogues(pen: Pen) -> str:
    chosen = [pen.choose("dialogues") for _ in range(pen.between("dialogues", 2, 3))]
    return "\n".join(
        f"<START>\n{{{{user}}}}: {pen.fill(one['user1'])}\n{{{{char}}}}: {pen.fill(one['char1'])}\n"
        f"{{{{user}}}}: {pen.fill(one['user2'])}\n{{{{char}}}}: {pen.fill(one['char2'])}"
        for one in chosen
    )


def _tags(persona: Persona, pen: Pen) -> list[str]:
    own = [persona.occupation.get("tag", ""), persona.pastime["tag"]]
    drawn = pen.say_some("tags", pen.between("tag count", 4, 6))
    return [tag for tag in dict.fromkeys((*own, *drawn)) if tag][:8]


def _colours(asked: Asked, lexicon: Lexicon) -> dict[str, str]:
    """What colour1, colour2 … are called: those of the pictures, filled up by hash."""
    seen = [
        colour for at in range(COLOURS) for picture in asked.seen for colour in picture.colours[at : at + 1]
    ]
    names = list(palette())
    start = number(asked.source_id)
    other = [names[(start + 5 * step) % len(names)] for step in range(COLOURS)]
    adjectives = {entry["id"]: entry["adjective"] for entry in lexicon.entries["colours"]}
    chosen = list(dict.fromkeys((*seen, *other)))[:COLOURS]
    return {f"colour{at}": adjectives[colour] for at, colour in enumerate(chosen, 1)}


def _brightness(asked: Asked) -> str:
    light = [picture.brightness for picture in asked.seen]
    mean = sum(light) / len(light) if light else number(asked.source_id) % 100 / 100
    return "dark" if mean < _DARK else "bright" if mean > _BRIGHT else "middle"
