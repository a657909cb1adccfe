// The list of replays, newest first, with how far each is.

import { isMoving } from "../data/replay.js";
import { queryOf } from "../data/route.js";
import { customerColumn, when } from "../shared/cells.js";
import { history } from "../lists/history.js";
import { LIST_LOOK } from "../lists/list-look.js";
import { element } from "../shared/look.js";
import { barNode, figuresNode, filterText, moment, replayStatusNode, REPLAY_LOOK, STATES, windowText } from "./replay-facts.js";

const FRESH_MILLISECONDS = 2000;
const FRESH_MAX = 10; // replays that are read again, the newest ones

export const LOOK = `${LIST_LOOK}${REPLAY_LOOK}
.list .row > * { white-space: normal; overflow-wrap: anywhere; padding: 6px 0; }
.only-narrow { display: none; }
.list .row > :nth-child(5) > * { margin: 2px 0; }
@media (max-width: 720px) {
  .only-narrow { display: inline; }
  .list .row > * { padding: 0; }
  .list .row > :nth-child(n + 3):nth-child(-n + 5) { width: 100%; }
}
`;

/** Shows the replays, newest first. Those that are running are read again each two seconds while the page is visible. */
export function view(page, route) {
  const hrefOf = (row) => `/replays/${row.replay_id}${queryOf({ customer_id: String(row.customer_id) })}`;
  const shown = history(page, route, {
    title: "Replays",
    order: "newest first",
    address: "/replays",
    fields: [{ kind: "many", name: "statuses", word: "Status", options: STATES }],
    columns: columnsOf(page),
    hrefOf,
    path: "/api/replays",
    copied: { method: "ListReplays", statuses: "REPLAY_STATUS" },
    name: "replays",
    isOfCustomer: true,
    links: ({ customer_id }) => [element("a", { href: `/replays/new${queryOf({ customer_id })}` }, page.words("New replay"))],
  });
  const abort = new AbortController();
  let isFreshening = false;
  const freshen = async () => {
    if (document.hidden || isFreshening) return;
    isFreshening = true;
    const moving = shown.list.rows.filter(isMoving).slice(0, FRESH_MAX);
    await Promise.all(moving.map((row) => renew(page, shown.list, row, hrefOf(row), abort)));
    isFreshening = false;
  };
  const timer = setInterval(freshen, FRESH_MILLISECONDS);
  return { ...shown, stop: () => (shown.stop(), abort.abort(), clearInterval(timer)) };
}

/** Reads a replay again and shows what has changed. One that can't be read stays as it is. */
async function renew(page, list, row, href, abort) {
  const fresh = await page.api.get(`/api${href}`, abort).catch(() => row);
  if (JSON.stringify(fresh) !== JSON.stringify(row)) list.replace((one) => one.replay_id === row.replay_id, () => fresh);
}

function columnsOf(page) {
  const { words } = page;
  return [
    { word: "Replay", width: "72px", cell: (row) => `${row.replay_id}` },
    { word: "Status", width: "112px", cell: (row) => replayStatusNode(page, row) },
    { word: "Window", width: "minmax(0, 1fr)", cell: (row) => windowText(page, row) },
    { word: "What", width: "minmax(0, 1.5fr)", cell: (row) => filterText(page, row) },
    { word: "Counts", width: "minmax(0, 1.3fr)", cell: (row) => [barNode(row), figuresNode(page, row, { all: false })] },
    { word: "Looked at up to", width: "136px", cell: (row) => moment(page, row.progress_time), isSpare: true },
    { word: "Started", width: "112px", cell: (row) => [element("span", { className: "muted only-narrow" }, words("Started")), " ", when(page, row.create_time)] },
    ...customerColumn(page),
  ];
}
