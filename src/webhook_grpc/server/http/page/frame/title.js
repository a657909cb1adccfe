// The title of the document: by it a reader knows a tab, a bookmark and a line of the history among others.

import { LINKS } from "./head.js";

const WORDS = { ...Object.fromEntries(LINKS), attempts: "Attempts" };
const ACTS = { "webhooks/new": "Create webhook", "webhooks/edit": "Edit", "replays/new": "New replay" };

/** Shows the title of a route, null for an address that the page has not. What tells it from others stands first. */
export function showTitle(route, words) {
  const { page, id, act } = route ?? {};
  const parts = route ? [id, act && words(ACTS[`${page}/${act}`]), words(WORDS[page])] : [];
  document.title = [...parts.filter(Boolean), "webhook-grpc"].join(" · ");
}
