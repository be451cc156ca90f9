"""{{does}}"""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import log, types


def decide(ctx, item):
    if not item.payload:
        log.log(log.Level.INFO, f"item {item.id} of {ctx.topic} is empty")
        return types.{{Side}}Verdict_{{Refuse}}(types.Reason("empty", "the payload is empty"))
    return types.{{Side}}Verdict_{{Pass}}()


def attempt(ctx, item):
    try:
        return Ok(decide(ctx, item))
    except Exception as error:
        return Err(repr(error))


class {{Side}}(exports.{{Side}}):
    def on_{{side}}(self, ctx, items):
        return [attempt(ctx, item) for item in items]
