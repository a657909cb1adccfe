// Two people changed a webhook: both versions side by side, field by field, with a choice.

import { visible } from "../data/json-text.js";
import { delayText, policyDelays } from "../data/webhook-draft.js";
import { element } from "../shared/look.js";

/** Shows the conflicts of an edit, and returns what was chosen, by field; null if the person went back to the form. */
export async function choose(page, found) {
  const { words } = page;
  const text = [element("p", {}, words("Choose for each field which version is kept.")), ...found.map((one, index) => choiceNode(words, one, index))];
  const isKept = await page.confirm(text, words("Save"), { title: words("Somebody changed it meanwhile") });
  if (!isKept) return null;
  return Object.fromEntries(found.map((one, index) => [one.name, text[index + 1].querySelector("input").checked ? one.mine : one.theirs]));
}

function choiceNode(words, { name, mine, theirs, isMine }, index) {
  const option = (title, value, other, checked) => {
    const input = element("input", { type: "radio", name: `conflict-${index}`, checked });
    return element("label", { className: "side" }, element("span", {}, input, ` ${title}`), element("code", {}, shown(words, name, value, other)));
  };
  return element(
    "fieldset",
    { className: "conflict" },
    element("legend", {}, element("code", {}, name)),
    option(words("Yours"), mine, theirs, isMine),
    option(words("Theirs"), theirs, mine, !isMine),
  );
}

/** Returns a value as text. Of headers the names only, and which values differ. */
function shown(words, name, value, other) {
  if (name === "retry_policy") return policyDelays(value).map(delayText).join(", ") || "–";
  if (Array.isArray(value)) return visible(value.join(", "));
  if (name === "headers") {
    const names = Object.keys(value).sort().map((key) => (key in other && other[key] !== value[key] ? `${key} (${words("another value")})` : key));
    return visible(names.join(", ")) || "–";
  }
  if (value && typeof value === "object") return visible(Object.entries(value).sort().map((pair) => pair.join("=")).join(", ")) || "–";
  return visible(String(value || "–"));
}
