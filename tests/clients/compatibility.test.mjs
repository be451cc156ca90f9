// The document breaks no client that was made of the released one, and each kind of break would be found.
import assert from "node:assert/strict";
import { test } from "node:test";
import { breaks } from "./compatibility.mjs";
import { openapi } from "./workshop.mjs";

test("nothing that was released is broken", () => {
  const found = breaks(openapi("released.json"), openapi("mqueue.json"));
  assert.deepEqual(found, [], "bring back what clients rely on, or, for a release that may break them, copy mqueue.json to released.json");
});

/** A small document: one operation that takes a `Question` and gives an `Answer`. */
const sample = () => ({
  paths: {
    "/ask/{who}": {
      post: {
        operationId: "ask",
        parameters: [
          { in: "path", name: "who", required: true, schema: { type: "string" } },
          { in: "query", name: "limit", required: false, schema: { type: "integer", maximum: 10 } },
        ],
        requestBody: { required: false, content: { "application/json": { schema: { $ref: "#/components/schemas/Question" } }, "text/plain": { schema: { type: "string" } } } },
        responses: {
          200: { $ref: "#/components/responses/Good" },
          404: { description: "a problem" },
        },
      },
    },
  },
  components: {
    responses: {
      Good: { headers: { ETag: {} }, content: { "application/json": { schema: { $ref: "#/components/schemas/Answer" } } } },
    },
    schemas: {
      Question: {
        type: "object",
        required: ["text"],
        properties: { text: { type: "string", maxLength: 9 }, tone: { allOf: [{ $ref: "#/components/schemas/Tone" }] }, more: { type: "array", items: { $ref: "#/components/schemas/Question" } } },
      },
      Answer: { type: "object", required: ["id"], properties: { id: { type: "string" }, tone: { $ref: "#/components/schemas/Tone" }, count: { type: "integer", format: "int32" } } },
      Tone: { type: "string", enum: ["calm", "loud"] },
    },
  },
});
const operation = (document) => document.paths["/ask/{who}"].post;
const schema = (document, name) => document.components.schemas[name];

const BREAKS = {
  "an operation that is gone": [(d) => delete d.paths["/ask/{who}"].post, "POST /ask/{who} is gone"],
  "a path that is gone": [(d) => delete d.paths["/ask/{who}"], "POST /ask/{who} is gone"],
  "another name for an operation": [(d) => (operation(d).operationId = "question"), "POST /ask/{who} is question and no longer ask: generated names change"],
  "a parameter that is gone": [(d) => operation(d).parameters.pop(), "POST /ask/{who} query limit is gone"],
  "a parameter that is needed": [(d) => (operation(d).parameters[1].required = true), "POST /ask/{who} query limit is required now"],
  "a new parameter that is needed": [(d) => operation(d).parameters.push({ in: "header", name: "If-Match", required: true }), "POST /ask/{who} header If-Match is new and required"],
  "a parameter that takes less": [(d) => (operation(d).parameters[1].schema.maximum = 5), "POST /ask/{who} query limit has the maximum 5, which was 10"],
  "a name that must match": [(d) => (operation(d).parameters[0].schema.pattern = "^a$"), "POST /ask/{who} path who must match ^a$ now"],
  "a body that is needed": [(d) => (operation(d).requestBody.required = true), "POST /ask/{who} needs a body now"],
  "a media type that is gone": [(d) => delete operation(d).requestBody.content["text/plain"], "POST /ask/{who} body text/plain is gone"],
  "a new member that is needed": [(d) => { schema(d, "Question").required.push("why"); schema(d, "Question").properties.why = { type: "string" }; }, "Question.why is required now"],
  "a member no longer taken": [(d) => delete schema(d, "Question").properties.tone, "Question.tone is gone from requests"],
  "a shorter text": [(d) => (schema(d, "Question").properties.text.maxLength = 8), "Question.text has the maxLength 8, which was 9"],
  "a member of another type": [(d) => (schema(d, "Question").properties.text = { type: "integer" }), "Question.text is integer and no longer string in a request"],
  "a value no longer taken": [(d) => schema(d, "Tone").enum.pop(), "Tone takes no loud any more"],
  "a value nobody knows": [(d) => schema(d, "Tone").enum.push("shrill"), "Tone can be shrill now"],
  "a success that is gone": [(d) => { operation(d).responses[201] = operation(d).responses[200]; delete operation(d).responses[200]; }, "POST /ask/{who} 200 is gone"],
  "a header that is gone": [(d) => delete d.components.responses.Good.headers.ETag, "POST /ask/{who} 200 header ETag is gone"],
  "a member that is gone": [(d) => delete schema(d, "Answer").properties.count, "Answer.count is gone from answers"],
  "a member that may be missing": [(d) => (schema(d, "Answer").required = []), "Answer.id may be left out of answers now"],
  "a member that may be null": [(d) => (schema(d, "Answer").properties.id.nullable = true), "Answer.id can be null now"],
  "another number": [(d) => (schema(d, "Answer").properties.count.format = "int64"), "Answer.count has the format int64 and no longer int32"],
};

for (const [name, [change, expected]] of Object.entries(BREAKS)) {
  test(`${name} is a break`, () => {
    const changed = sample();
    change(changed);
    assert.deepEqual(breaks(sample(), changed), [expected]);
  });
}

const FINE = {
  "nothing changed": () => {},
  "a new path": (d) => (d.paths["/new"] = { get: { operationId: "new", responses: {} } }),
  "a new parameter": (d) => operation(d).parameters.push({ in: "query", name: "more", required: false }),
  "a new member": (d) => { schema(d, "Question").properties.why = { type: "string" }; schema(d, "Answer").properties.why = { type: "string" }; },
  "a member no longer needed": (d) => (schema(d, "Question").required = []),
  "a null that is taken": (d) => (schema(d, "Question").properties.text.nullable = true),
  "a longer text": (d) => (schema(d, "Question").properties.text.maxLength = 20),
  "a member always there": (d) => schema(d, "Answer").required.push("count"),
  "another problem": (d) => { delete operation(d).responses[404]; operation(d).responses[409] = {}; },
};

for (const [name, change] of Object.entries(FINE)) {
  test(`${name}: no break`, () => {
    const changed = sample();
    change(changed);
    assert.deepEqual(breaks(sample(), changed), []);
  });
}
