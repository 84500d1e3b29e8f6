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


def authority(place, name="ca"):
    """Path of a private authority's certificate; `signed` makes certificates that it vouches for."""
    need("openssl")
    cert, key = place / f"{name}.crt", place / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )
    return cert


def signed(place, authority, name, *names):
    """Paths of a certificate for loopback and these names, signed by this authority, and of its key."""
    cert, key, asked, more = (place / f"{name}.{end}" for end in ("crt", "key", "csr", "ext"))
    all_names = ",".join(f"DNS:{one}" for one in (f"{name}.example.com", "localhost", *names))
    more.write_text(f"subjectAltName={all_names}\nbasicConstraints=critical,CA:FALSE\n")
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", f"/CN={name}.example.com", "-keyout", key, "-out", asked],
        check=True, capture_output=True,
    )
    subprocess.run(
        ["openssl", "x509", "-req", "-in", asked, "-CA", authority, "-CAkey", authority.with_suffix(".key"), "-CAcreateserial",
         "-days", "2", "-extfile", more, "-out", cert],
        check=True, capture_output=True,
    )
    return cert, key
