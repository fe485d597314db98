"""`personalab offline`: the embedded provider for any client."""

from __future__ import annotations

from typing import Annotated

import typer

from personalab.commands.options import EXIT_OK

HELP = "Serve the embedded provider to any OpenAI client."
EPILOG = (
    "It runs until Ctrl-C, on this machine only, and is no language model. Faults by rate (0 to 1): rate_limit, "
    "server_error, reset, broken_json, wrong_shape, cut_off, refusal, empty. Quirks: no_json_schema, no_json_mode, "
    "no_temperature, no_max_tokens, no_images, no_quota, no_retry_after, quota_headers, no_batches, batch_fails. Limits: max_concurrent=N, "
    "requests_per_minute=N, tokens_per_minute=N, window_seconds=SECONDS, "
    "retry_after=SECONDS. Batches: batch_expires=rate, batch_polls=N. Others: key=K, models=A,B, seed=N. Example: personalab offline --fault rate_limit=0.2 "
    "--latency 0.1..0.5"
)


def offline(
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 8000,
    fault: Annotated[
        list[str] | None, typer.Option(help="kind=rate or quirk, such as rate_limit=0.2. May be repeated.")
    ] = None,
    latency: Annotated[
        list[str] | None, typer.Option(help="Seconds: 0.2, 0.1..0.5 or stage=2. May be repeated.")
    ] = None,
) -> int:
    """The embedded provider until it is interrupted."""
    from personalab.offline.faults import parse_faults
    from personalab.offline.server import serve

    faults = parse_faults(fault=fault or [], latency=latency or [])
    serve(
        "127.0.0.1",
        port,
        faults,
        ready=lambda url: print(
            f"export OPENAI_BASE_URL={url} PERSONALAB_MODEL=personalab-offline", flush=True
        ),
    )
    return EXIT_OK
