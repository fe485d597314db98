"""Stages 4 to 7: the people around the persona, how their writing falls short, how pictures look, the lorebook."""

from __future__ import annotations

from collections.abc import Iterator

from personalab.offline.choice import number
from personalab.offline.lexicon import Entry, Lexicon
from personalab.offline.pen import Pen, join, keys_of
from personalab.offline.persona import Persona, full_name, recall
from personalab.offline.prompt_reader import Asked
from personalab.offline.stage_tweets import habits
from personalab.records import JsonObject

_AGE_SPREAD = 7
_AGE_LEAST, _AGE_MOST = 18, 94
_ITEMS_LEAST, _ITEMS_MOST = 3, 6
_KEYS_LEAST = 2
_NAMES_TRIED = 60


def social_network(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Friends, past relationships and friends from the net; no two names begin alike."""
    persona, pen = recall(asked, lexicon)
    initials = {persona.name[0].casefold()}
    groups = {
        "close_friends": ("close", pen.between("close friends", 2, 3)),
        "past_relationships": ("past", pen.between("past", 1, 2)),
        "online_friends": ("online", pen.between("online friends", 2, 3)),
    }
    return {
        name: [_relation(kind, persona, pen, initials) for _ in range(count)]
        for name, (kind, count) in groups.items()
    }


def authenticity(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Writing habits as in the tweets, and flaws as in the description."""
    persona, pen = recall(asked, lexicon)
    rates = {name: _wavering(rate, name, pen) for name, rate in habits(persona).items()}
    flaws = {entry["flaw"]: entry for entry in persona.flaws}
    while len(flaws) < 2 + pen.between("flaws", 0, 2):
        entry = pen.choose("flaws")
        flaws.setdefault(entry["flaw"], entry)
    return {
        "writing_habits": rates,
        "flaws": [
            {
                "flaw": pen.fill(entry["flaw"]),
                "frequency": round(0.05 + 0.4 * pen.chooser.share(f"frequency {entry['flaw']}"), 2),
                "shows": join(pen.fill(entry["shows"]), pen.odd(), code=lexicon.code),
            }
            for entry in flaws.values()
        ],
    }


def visual_profile(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Outfits, props, colours, light, poses, mood and camera angles."""
    persona, pen = recall(asked, lexicon)
    colours = _colours(asked, persona, lexicon)
    pen = pen.knowing(**{f"colour{at}": entry["adjective"] for at, entry in enumerate(colours, 1)})
    props = [persona.occupation["tool"], persona.pastime["prop"]]
    profile: JsonObject = {"outfits": _some("outfits", pen)}
    profile["props"] = [pen.fill(prop) for prop in props] + pen.say_some(
        "objects", pen.between("props", 1, 4)
    )
    profile["colours"] = [entry["paint"] for entry in colours]
    for name in ("light", "poses", "mood", "camera_angles"):
        profile[name] = _some(name, pen)
    if odd := pen.odd():
        profile["mood"].append(odd)
    return profile


def character_book(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Six entries whose keys are all different."""
    persona, pen = recall(asked, lexicon)
    taken = {persona.name.casefold(), persona.first.casefold()}
    work = {
        "name": pen.say("entry_work"),
        "keys": persona.occupation.get("keys", ""),
        "book": pen.say("entry_work_text"),
    }
    own = (persona.pastime, persona.grudge if pen.between("own", 0, 1) else persona.keepsake)
    others = ("locals", "past_people", "beliefs")
    fixed = (work if work["keys"] else pen.choose("beliefs"), *own)
    entries = [_entry(entry, pen, taken) for entry in fixed]
    return {"entries": [entry for entry in entries if entry] + [_drawn(name, pen, taken) for name in others]}


def _relation(kind: str, persona: Persona, pen: Pen, initials: set[str]) -> JsonObject:
    entry = pen.choose(kind)
    centre = persona.age + int(entry["years"])
    spread = round((pen.chooser.share(f"{entry['relation']} age") - 0.5) * 2 * _AGE_SPREAD)
    age = min(max(centre + spread, _AGE_LEAST), _AGE_MOST)
    gender = "m" if pen.chooser.share(f"{entry['relation']} gender") < 0.5 else "f"
    name = _new_name(pen, gender, age, initials)
    trade = pen.about(gender, {}).fill(pen.choose("occupations")["title"])
    pen = pen.about(gender, {**persona.facts(), "name": name.split()[0], "trade": trade})
    return {
        "name": name,
        "age": age,
        "relation": pen.fill(entry["relation"]),
        "personality": pen.say("traits"),
        "backstory": join(pen.fill(entry["backstory"]), pen.odd(), code=pen.lexicon.code),
        "current_status": pen.say("status"),
        "memorable_moments": pen.say_some(
            "moments_online" if kind == "online" else "moments",
            pen.between(f"{entry['relation']} moments", 1, 2),
        ),
        "contact": pen.say(f"contact_{kind}"),
    }


def _new_name(pen: Pen, gender: str, age: int, initials: set[str]) -> str:
    for _ in range(_NAMES_TRIED):
        name = full_name(pen, gender, age)
        if name[0].casefold() not in initials:
            break
    initials.add(name[0].casefold())
    return name


def _wavering(rate: float, name: str, pen: Pen) -> float:
    off = pen.chooser.random.gauss(0, 0.04) * pen.chooser.temperature
    return round(min(1.0, max(0.0, rate + off)), 2)


def _some(name: str, pen: Pen) -> list[str]:
    return pen.say_some(name, pen.between(f"{name} count", _ITEMS_LEAST, _ITEMS_MOST))


def _colours(asked: Asked, persona: Persona, lexicon: Lexicon) -> list[Entry]:
    """The colours named in the appearance, filled up by hash."""
    entries = lexicon.entries["colours"]
    said = str((asked.persona or {}).get("appearance", ""))
    longest_first = sorted(entries, key=lambda entry: -len(entry["adjective"]))
    here = []
    for entry in longest_first:
        if entry["adjective"] in said:
            here.append(entry)
            said = said.replace(entry["adjective"], "")
    start = number(persona.identity)
    others = [entries[(start + 5 * step) % len(entries)] for step in range(len(entries))]
    return [*here, *(entry for entry in others if entry not in here)][:5]


def _drawn(name: str, pen: Pen, taken: set[str]) -> JsonObject:
    """An entry of a list that still has enough keys of its own."""
    for _ in pen.lexicon.entries[name]:
        if entry := _entry(pen.choose(name), pen, taken):
            return entry
    raise AssertionError(f"no entry of {name} has two free keys")


def _entry(entry: Entry, pen: Pen, taken: set[str]) -> JsonObject | None:
    """A lorebook entry, or None if others have taken its keys."""
    keys = [key for key in keys_of(entry) if key.casefold() not in taken]
    if len(keys) < _KEYS_LEAST:
        return None
    taken.update(key.casefold() for key in keys)
    pen = pen.knowing(**dict(_names(pen)))
    return {"name": pen.fill(entry["name"]), "keys": keys, "content": pen.fill(entry["book"])}


def _names(pen: Pen) -> Iterator[tuple[str, str]]:
    """Names for people of the past: a man, a woman, somebody, and a family."""
    yield "man", pen.say("given_younger_m")
    yield "woman", pen.say("given_older_f")
    yield "somebody", pen.say(f"given_older_{'mf'[pen.chooser.index('somebody', 2)]}")
    yield "family2", pen.say("family")
