"""Keys and passwords: what looks like one is no parameter, and what is known to be one is shown nowhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from personalab.config import load_settings
from personalab.errors import ConfigError

_HIDDEN = "[hidden]"
_LENGTH_LEAST = 8
"""Shorter ones are stand-ins such as `none` or `ollama`, and parts of ordinary words."""
_LAST_WORDS = {
    "key", "apikey", "token", "secret", "password", "passwd", "passphrase", "credential", "credentials", "bearer",
}  # fmt: skip
_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
# How the keys of well-known services begin, an address with a password, a bearer's header, a JSON web token.
_VALUES = re.compile(
    r"\b(sk|pk|rk)-[\w-]{8,}|\b(ghp|gho|ghs|ghu|glpat|hf|gsk|xai|r8|nvapi)[_-]\w{16,}|\bgithub_pat_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}|\bxox[abprs]-[\w-]{10,}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]+:[^/\s@]+@|\bBearer +[\w.~+/-]{12,}",
)


def refuse_credentials(parameters: Mapping[str, Any]) -> None:
    """A parameter stands in the executed notebook, its metadata and the trial's files, so a key must not be one.

    Raises:
        ConfigError: a parameter whose name or value looks like a key; the value is not shown.
    """
    known = known_credentials()
    for name, value in parameters.items():
        why = ""
        if is_credential_name(name):
            why = "its name says that it is a key"
        elif _holds_credential(value, known):
            why = "its value looks like a key"
        if why:
            raise ConfigError(
                f"parameter {name!r}: {why}, and parameters are written into every executed notebook; set it in the "
                "environment or in .env, such as OPENAI_API_KEY, and read it there; if it is none, rename it"
            )


def is_credential_name(name: str) -> bool:
    """Whether a name ends in a word for a key, such as `api_key` or `githubToken`; `max_tokens` and `keywords` do not."""
    words = [word.lower() for word in _WORD_ENDS.split(name) if word and not word.isdigit()]
    return bool(words) and (words[-1] in _LAST_WORDS or "api_key" in "_".join(words))


def known_credentials() -> tuple[str, ...]:
    """The keys in the environment and in `.env`, longest first."""
    key = load_settings().api_key
    found = {value for name, value in os.environ.items() if is_credential_name(name)}
    found |= {key.get_secret_value()} if key else set()
    return tuple(sorted((value for value in found if len(value) >= _LENGTH_LEAST), key=len, reverse=True))


def hide(text: str, credentials: tuple[str, ...]) -> str:
    """The text, without the credentials, also as they are written in JSON."""
    for credential in credentials:
        for form in (credential, json.dumps(credential)[1:-1]):
            text = text.replace(form, _HIDDEN)
    return text


def _holds_credential(value: Any, known: tuple[str, ...]) -> bool:
    if isinstance(value, str):
        return bool(_VALUES.search(value)) or any(credential in value for credential in known)
    if isinstance(value, Mapping):
        return any(
            is_credential_name(str(name)) or _holds_credential(inner, known) for name, inner in value.items()
        )
    return isinstance(value, list | tuple) and any(_holds_credential(inner, known) for inner in value)
