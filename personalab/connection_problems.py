"""Why no answer came: what the network's library raises, in plain words and with what mends it.

Knows the library's errors and addresses, not requests.
"""

from __future__ import annotations

import errno
import ssl
from urllib.parse import urlsplit

from personalab.config import CONNECT_TIMEOUT_SECONDS

_CHAT = "/chat/completions"
_VERSION = "/v1"


def problem_of(error: Exception, endpoint: str, timeout_seconds: float) -> str:
    """What went wrong with a connection to an endpoint, and how to mend it, in one line."""
    import aiohttp

    reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
    address = urlsplit(endpoint)
    match error:
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy {error.host}:{error.port} cannot be reached ({reason}); check HTTP_PROXY and HTTPS_PROXY"
        case aiohttp.ClientConnectorDNSError():
            return f"nobody knows a host {error.host!r} ({reason}); check OPENAI_BASE_URL and your own connection"
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"its certificate is not trusted ({_certificate_reason(error)}); if it is your organisation's own, set "
                "SSL_CERT_FILE to the file with its certificates"
            )
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return f"it does not speak https ({reason}); did you mean http://{address.netloc}{address.path}?"
        case aiohttp.ClientConnectorError() if error.errno == errno.ECONNREFUSED:
            return (
                f"nothing listens on {error.host}:{error.port}; is the server running and the base URL right?"
            )
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {CONNECT_TIMEOUT_SECONDS:g} s; is the host up, and does a firewall let you through?"
        case TimeoutError():
            return (
                f"none within {timeout_seconds:g} s; it is slow or has too much to do: lower max_concurrent, or raise "
                "timeout_seconds"
            )
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return f"it dropped the connection ({reason}); its own log says why"
        case _:
            return f"{reason}; is the server running and the base URL right?"


def likely_urls(endpoint: str) -> tuple[str, ...]:
    """Base URLs that may be meant by one where nothing answers as it should: without the path of a request, with `/v1`."""
    base = endpoint.rstrip("/").removesuffix(_CHAT)
    address = urlsplit(base)
    root = f"{address.scheme}://{address.netloc}{_VERSION}"
    found = [base] if base.endswith(_VERSION) else [f"{base}{_VERSION}", root]
    return tuple(url for url in dict.fromkeys(found) if url != endpoint)


def _certificate_reason(error: Exception) -> str:
    inner = getattr(error, "certificate_error", error)
    return str(getattr(inner, "verify_message", "") or inner)
