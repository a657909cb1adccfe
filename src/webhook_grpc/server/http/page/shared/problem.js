// A call that failed, as a panel of its own: the other panels go on.

import { element } from "./look.js";

/** Returns a problem as a panel of its own, with its reason, its request id and, with `retry`, a way to try again. */
export function problemNode(page, error, retry) {
  const { title = "", reason = "", request_id: requestId = "" } = error.document ?? {};
  const button = element("button", { type: "button", hidden: !retry }, page.words("Try again"));
  button.addEventListener("click", () => retry());
  return element(
    "div",
    { className: "panel", role: "alert" },
    element("div", { className: "bad" }, `${title} ${error.message}`.trim()),
    element("div", { className: "muted" }, `${reason}  ${page.words("Request id")} ${requestId}`),
    button,
  );
}
