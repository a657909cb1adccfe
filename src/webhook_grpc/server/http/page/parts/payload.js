// What customers and receivers wrote, as text: an event's data, indented or to the byte.

import { memberText, parse, pretty, visible } from "../data/json-text.js";
import { element } from "./look.js";

const PRETTY_CHARACTERS_MAX = 64 * 1024; // a larger text is shown as it is, in pieces
const PIECE_CHARACTERS = 16 * 1024;

/** Returns an event with its data as text, to the byte. */
export async function eventOf(page, path, signal) {
  const text = await page.api.text(path, { signal });
  return { ...parse(text), data_text: memberText(text, "data") ?? "" };
}

/** Returns an event's data: indented, or as it was published; a large one in pieces. */
export function dataNode(page, event) {
  const { words } = page;
  if (!event) return element("section", { className: "panel muted" }, words("Expired: {story}; the event is no longer kept.", { story: "–" }));
  const text = event.data_text;
  const box = element("pre", {});
  const more = element("button", { hidden: true });
  const indented = text.length <= PRETTY_CHARACTERS_MAX ? pretty(text) : null;
  let length = PIECE_CHARACTERS;
  const show = (isPretty) => {
    const whole = isPretty && indented !== null ? indented : text;
    box.textContent = visible(whole.slice(0, length));
    more.hidden = whole.length <= length;
    more.textContent = `${Math.round(length / 1024)} / ${Math.round(whole.length / 1024)} KiB +`;
  };
  const buttons = element("div", { className: "buttons" });
  for (const [word, isPretty] of [["Pretty", true], ["Raw", false]]) {
    const button = element("button", { disabled: isPretty && indented === null }, words(word));
    button.addEventListener("click", () => show(isPretty));
    buttons.append(button);
  }
  more.addEventListener("click", () => ((length += PIECE_CHARACTERS), show(false)));
  show(true);
  return element("section", { className: "panel" }, element("h3", {}, words("Data")), buttons, box, more);
}
