// Which webhooks are disabled: on every page, because nobody reads the mail that says so.

import { visible } from "../data/json-text.js";
import { may } from "../shared/act-button.js";
import { disableReason } from "../shared/facts.js";
import { icon } from "../shared/icons.js";
import { element } from "../shared/look.js";

const ASK_MILLISECONDS = 60_000;
const NAMED_MAX = 3;
const WEBHOOKS_MAX = 50;

// What was found, and when; written by showDisabled only.
const known = { at: -Infinity, webhooks: [], isMore: false, timer: undefined };

/**
 * Shows in `node` which webhooks are disabled, and goes on looking each minute while the page is visible. `isNew`: they
 * have just changed. A caller who may not read is not bothered.
 */
export async function showDisabled(node, page, { isNew = false } = {}) {
  clearTimeout(known.timer);
  if (!may(page, "read")) return;
  known.timer = setTimeout(() => showDisabled(node, page), ASK_MILLISECONDS);
  if (isNew || (!document.hidden && page.now() - known.at >= ASK_MILLISECONDS)) await ask(page);
  node.replaceChildren(...(known.webhooks.length ? [bannerNode(page)] : []));
}

async function ask(page) {
  known.at = page.now();
  try {
    const found = await page.api.get(`/api/webhooks?statuses=disabled&page_size=${WEBHOOKS_MAX}`);
    known.webhooks = found.webhooks;
    known.isMore = Boolean(found.next_page_token);
  } catch (error) {
    console.warn(`the disabled webhooks are not known: ${error.message}`); // the view says what is wrong with the service
  }
}

function bannerNode(page) {
  const { words } = page;
  const { webhooks, isMore } = known;
  const count = `${words("{n}", { n: webhooks.length })}${isMore ? "+" : ""}`;
  const names = webhooks.slice(0, NAMED_MAX).flatMap((webhook, index) => [index ? words(", ") : "", ...nameNodes(page, webhook)]);
  const more = webhooks.length > NAMED_MAX ? `${words(", ")}${words("and {n} more", { n: webhooks.length - NAMED_MAX })}` : "";
  const said = webhooks.length === 1 ? words("1 webhook is disabled") : words("{n} webhooks are disabled", { n: count });
  const consequence = webhooks.length === 1 ? words("Nothing is sent to it.") : words("Nothing is sent to them.");
  const see = element("a", { href: webhooks.length === 1 ? pathOf(webhooks[0]) : "/webhooks?statuses=disabled" }, words("See"));
  return element("div", { className: "banner", role: "status" }, element("span", {}, icon("disabled"), ` ${said}${words(": ")}`, ...names, `${more}${words(". ")}${consequence}`), see);
}

function nameNodes(page, webhook) {
  const link = element("a", { href: pathOf(webhook) }, `${visible(webhook.name)} #${webhook.webhook_id}`);
  return [link, page.words(" ({reason})", { reason: disableReason(page, webhook).replace(/[.。]$/, "") })];
}

function pathOf(webhook) {
  return `/webhooks/${webhook.webhook_id}?customer_id=${webhook.customer_id}`;
}
