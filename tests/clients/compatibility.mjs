// What a change of the OpenAPI document breaks for clients that were made of an earlier one.
//
// A request that was good must stay good, and an answer must stay one that was documented. So requests may only become
// wider and answers only narrower:
//
//   in requests   no path, operation, parameter, media type, property or value goes away; nothing new is required; no type
//                 changes and no limit is tightened
//   in answers    no success, media type, header or property goes away or becomes optional; no type changes; no value is
//                 new in an enumeration, for generated code refuses what it does not know; nothing can be null that was not
//
// Whatever else is new is no break, and neither are problems: all have one shape.

const METHODS = ["get", "put", "post", "delete", "patch"];

/** Every break of `current` against `released`, as a sentence each. */
export function breaks(released, current) {
  const comparison = new Comparison(released, current);
  for (const [path, item] of Object.entries(released.paths)) {
    for (const method of METHODS.filter((method) => method in item)) {
      comparison.operation(`${method.toUpperCase()} ${path}`, item[method], current.paths[path]?.[method]);
    }
  }
  return comparison.found;
}

class Comparison {
  found = [];
  #documents;
  /** Pairs of named schemas that were compared: a schema may contain itself, and many contain the same. */
  #compared = new Set();

  constructor(released, current) {
    this.#documents = [released, current];
  }

  operation(place, before, after) {
    if (!after) return this.#say(place, "is gone");
    if (before.operationId !== after.operationId) this.#say(place, `is ${after.operationId} and no longer ${before.operationId}: generated names change`);
    this.#parameters(place, before.parameters ?? [], after.parameters ?? []);
    this.#body(place, before.requestBody, after.requestBody);
    for (const [status, response] of Object.entries(before.responses)) {
      if (/^[23]/.test(status)) this.#response(`${place} ${status}`, this.#at(0, response), this.#at(1, after.responses[status]));
    }
  }

  #parameters(place, before, after) {
    const find = (list, { in: where, name }) => list.find((entry) => entry.in === where && entry.name === name);
    for (const parameter of before) {
      const now = find(after, parameter);
      const here = `${place} ${parameter.in} ${parameter.name}`;
      if (!now) this.#say(here, "is gone");
      else {
        if (now.required && !parameter.required) this.#say(here, "is required now");
        this.#schema(here, parameter.schema, now.schema, "request");
      }
    }
    for (const parameter of after) {
      if (parameter.required && !find(before, parameter)) this.#say(`${place} ${parameter.in} ${parameter.name}`, "is new and required");
    }
  }

  #body(place, before, after) {
    if (after?.required && !before?.required) this.#say(place, "needs a body now");
    if (before && !after) return this.#say(place, "takes no body any more");
    if (before) this.#content(`${place} body`, before.content, after.content, "request");
  }

  #response(place, before, after) {
    if (!after) return this.#say(place, "is gone");
    for (const name of Object.keys(before.headers ?? {})) {
      if (!after.headers?.[name]) this.#say(`${place} header ${name}`, "is gone");
    }
    this.#content(place, before.content ?? {}, after.content ?? {}, "answer");
  }

  #content(place, before, after, direction) {
    for (const [type, { schema }] of Object.entries(before)) {
      if (!after[type]) this.#say(`${place} ${type}`, "is gone");
      else this.#schema(place, schema, after[type].schema, direction);
    }
  }

  #schema(place, before = {}, after = {}, direction) {
    const [was, is] = [before, after].map((schema) => schema.allOf?.length === 1 ? schema.allOf[0] : schema);
    if (was.$ref && is.$ref) {
      const pair = [was.$ref, is.$ref, direction].join();
      if (this.#compared.has(pair)) return;
      this.#compared.add(pair);
      place = was.$ref.split("/").pop();
    }
    const [old, now] = [this.#at(0, was), this.#at(1, is)];
    if (old.type !== now.type && !(direction === "request" ? now.type === undefined : old.type === undefined)) {
      return this.#say(place, `is ${now.type ?? "anything"} and no longer ${old.type ?? "anything"} in an ${direction}`.replace("an request", "a request"));
    }
    if (old.format !== now.format) this.#say(place, `has the format ${now.format ?? "none"} and no longer ${old.format ?? "none"}`);
    this.#values(place, old.enum, now.enum, direction);
    if (direction === "request") this.#limits(place, old, now);
    else if (now.nullable && !old.nullable) this.#say(place, "can be null now");
    if (old.items) this.#schema(`${place}[]`, old.items, now.items, direction);
    if (typeof old.additionalProperties === "object") this.#schema(`${place}{}`, old.additionalProperties, now.additionalProperties, direction);
    this.#properties(place, old, now, direction);
  }

  #values(place, old, now, direction) {
    const [wide, narrow] = direction === "request" ? [now, old] : [old, now];
    if (wide && !narrow) return this.#say(place, "has a list of values that it had not, or has lost it");
    for (const value of narrow ?? []) {
      if (wide && !wide.includes(value)) this.#say(place, direction === "request" ? `takes no ${value} any more` : `can be ${value} now`);
    }
  }

  #limits(place, old, now) {
    for (const [name, sign] of [["minimum", 1], ["minLength", 1], ["minItems", 1], ["maximum", -1], ["maxLength", -1], ["maxItems", -1]]) {
      const tighter = now[name] !== undefined && (old[name] === undefined || sign * (now[name] - old[name]) > 0);
      if (tighter) this.#say(place, `has the ${name} ${now[name]}, which was ${old[name] ?? "none"}`);
    }
    if (now.pattern !== undefined && now.pattern !== old.pattern) this.#say(place, `must match ${now.pattern} now`);
    if (old.nullable && !now.nullable) this.#say(place, "takes no null any more");
  }

  #properties(place, old, now, direction) {
    for (const [name, property] of Object.entries(old.properties ?? {})) {
      const here = `${place}.${name}`;
      const kept = now.properties?.[name];
      if (!kept) this.#say(here, `is gone from ${direction === "request" ? "requests" : "answers"}`);
      else {
        if (direction === "answer" && old.required?.includes(name) && !now.required?.includes(name)) this.#say(here, "may be left out of answers now");
        this.#schema(here, property, kept, direction);
      }
    }
    if (direction !== "request") return;
    for (const name of now.required ?? []) {
      if (!old.required?.includes(name)) this.#say(`${place}.${name}`, "is required now");
    }
  }

  /** What a reference stands for in the released document, or in the current one. */
  #at(document, value) {
    let here = value;
    while (here?.$ref) {
      here = here.$ref.split("/").slice(1).reduce((level, key) => level?.[key], this.#documents[document]);
    }
    return here ?? (value && {});
  }

  #say(place, what) {
    this.found.push(`${place} ${what}`);
  }
}
