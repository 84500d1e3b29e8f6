"""The configuration that the tests give the daemon; the one file that knows its keys."""

import json


def usual(place, ports):
    """Everything in `place` and on loopback; limits that do not get in the way of a load test."""
    return {
        "server": {"data_dir": str(place / "data")},
        "log": {},
        # Segments that are small enough to be finished and reclaimed within a test.
        "store": {"segment_bytes": 16 << 20, "low_water_bytes": 8 << 20, "ballast_bytes": 4 << 20},
        "admin": {"socket": str(place / "admin.sock")},
        "metrics": {"listen": f"127.0.0.1:{ports['metrics']}"},
        "smtp": {
            "max_connections_per_peer": 1000,
            "listeners": [{"name": "smtp", "bind": f"127.0.0.1:{ports['smtp']}"}],
        },
        "channel": [SUPPORT],
        "queue": [{"name": "Support", "colour": "#2f80ed"}],
    }


SUPPORT = {"address": "support@localhost", "name": "Support", "queue": "Support"}


def merge(base, changes):
    """`changes` laid over `base`, table by table; None takes a key away."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def to_toml(table, path=()):
    """TOML of a dictionary: values first, then its tables, so that every key stands under its own header."""
    tables = {k: v for k, v in table.items() if isinstance(v, dict)}
    arrays = {k: v for k, v in table.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    lines = [f"{k} = {to_value(k, v)}" for k, v in table.items() if k not in tables and k not in arrays]
    for key, value in tables.items():
        name = ".".join((*path, key))
        lines += ["", f"[{name}]", to_toml(value, (*path, key))]
    for key, items in arrays.items():
        name = ".".join((*path, key))
        for item in items:
            lines += ["", f"[[{name}]]", to_toml(item, (*path, key))]
    return "\n".join(lines)


def to_value(key, value):
    """Sizes are numbers in the tests and have their unit in the file."""
    return json.dumps(f"{value}B" if key.endswith("_bytes") else value)
