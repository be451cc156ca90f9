// Sets priorities and routes by content: words that sound urgent go first, refunds to a topic of their own.

import { get } from "mqueue:hooks/config@0.1.0";

const decoder = new TextDecoder();
const keep = { tag: "keep" };

function triage(item, settings) {
  let ticket;
  try {
    ticket = JSON.parse(decoder.decode(item.payload));
  } catch {
    return keep;
  }
  const text = `${ticket?.subject ?? ""} ${ticket?.body ?? ""}`.toLowerCase();
  const edit = {};
  if (settings.urgent.some((word) => text.includes(word))) {
    edit.priority = 1;
  }
  const route = settings.routes.find(({ word }) => text.includes(word));
  if (route) {
    edit.topic = route.topic;
  }
  return Object.keys(edit).length > 0 ? { tag: "edit", val: edit } : keep;
}

export const enqueue = {
  onEnqueue(context, items) {
    const settings = {
      urgent: JSON.parse(get("urgent") ?? '["urgent", "down", "outage"]'),
      routes: JSON.parse(get("routes") ?? '[{"word": "refund", "topic": "refunds"}]'),
    };
    return items.map((item) => {
      try {
        return { tag: "ok", val: triage(item, settings) };
      } catch (error) {
        return { tag: "err", val: String(error) };
      }
    });
  },
};
