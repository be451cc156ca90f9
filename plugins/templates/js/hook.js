// {{does}}

import { log } from "mqueue:hooks/log@0.1.0";

function decide(context, item) {
  if (item.payload.length === 0) {
    log("info", `item ${item.id} of ${context.topic} is empty`);
    return { tag: "{{refuse}}", val: { code: "empty", message: "the payload is empty" } };
  }
  return { tag: "{{pass}}" };
}

export const {{side}} = {
  on{{Side}}(context, items) {
    return items.map((item) => {
      try {
        return { tag: "ok", val: decide(context, item) };
      } catch (error) {
        return { tag: "err", val: String(error) };
      }
    });
  },
};
