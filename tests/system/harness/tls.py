"""A certificate for loopback, made by openssl."""

import subprocess

from .settings import need


def certificate(place, name="gw"):
    """Paths of a self-signed certificate and its key."""
    need("openssl")
    cert, key = place / f"{name}.crt", place / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}.example.com", "-addext", f"subjectAltName=DNS:{name}.example.com,DNS:localhost",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )
    return cert, key
