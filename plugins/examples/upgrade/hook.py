"""Upgrades old versions of a payload on delivery, so that consumers know the newest one only.

What is stored stays as it was; each function below takes a payload from one version to the next.
"""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types


def to_2(order):
    """Version 2 has the customer's name in two parts."""
    first, _, last = order.pop("customer").partition(" ")
    return order | {"first_name": first, "last_name": last}


def to_3(order):
    """Version 3 counts in cents."""
    return order | {"total_cents": round(order.pop("total") * 100)}


STEPS = {1: to_2, 2: to_3}
NEWEST = 3


def upgraded(item):
    order = json.loads(item.payload)
    version = order.get("version", 1)
    if version >= NEWEST:
        return types.DequeueVerdict_Deliver()
    for step in range(version, NEWEST):
        order = STEPS[step](order)
    order["version"] = NEWEST
    return types.DequeueVerdict_DeliverAs(json.dumps(order).encode())


def decide(item):
    try:
        return Ok(upgraded(item))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Err(f"the order cannot be upgraded: {error!r}")


class Dequeue(exports.Dequeue):
    def on_dequeue(self, ctx, items):
        return [decide(item) for item in items]
