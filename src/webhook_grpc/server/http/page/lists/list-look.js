// The look of a list, its filter and its foot.

import { LOOK as MENU_LOOK } from "../shared/menu.js";

export const LIST_LOOK = `${MENU_LOOK}
:host { height: auto; min-height: 100vh; min-height: 100dvh; scroll-padding-top: 40px; }
.list-page { display: grid; grid-template-columns: minmax(0, 1fr); gap: 8px; align-content: start; }
.list-page h2 { font-size: 16px; margin: 0; }
.list-page .over { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; }
.list-page .over:empty { display: none; }
.list { border: 1px solid var(--line); border-radius: 6px; min-width: 0; }
.list .head, .list .row { display: grid; grid-template-columns: var(--columns); gap: 0 12px; padding: 0 12px; align-items: center; }
.list .head { position: sticky; top: 0; z-index: 2; background: var(--surface); min-height: 32px; font-size: 12px; color: var(--muted); border-radius: 6px 6px 0 0; }
.list .row { position: relative; min-height: 36px; border-top: 1px solid var(--surface); scroll-margin-top: 40px; }
.list .row > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.list .row:hover, .list .row:focus-within { background: var(--surface); }
.list .open { color: inherit; text-decoration: none; }
.list .open::after { content: ""; position: absolute; inset: 0; }
.list .open:focus-visible { outline: none; }
.list .row:has(.open:focus-visible) { outline: 2px solid var(--accent); outline-offset: -2px; }
.list .select { position: relative; z-index: 1; overflow: visible; }
.list .select label { display: flex; align-items: center; justify-content: center; width: 24px; height: 24px; }
.list input[type="checkbox"] { width: 16px; height: 16px; min-height: 0; margin: 0; }
.list.stale .rows { opacity: 0.6; }
.list .grey > * { height: 12px; border-radius: 6px; background: var(--surface); border: 1px solid var(--surface); }
.list .trail { display: flex; align-items: center; gap: 1px; color: var(--muted); }
.list .trail svg { width: 12px; height: 12px; }
.foot { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; padding: 4px 0 16px; color: var(--muted); min-height: 36px; }
.foot .panel { border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; color: var(--ink); overflow-wrap: anywhere; min-width: 0; }
.ok { color: var(--ok); } .wait { color: var(--wait); } .bad { color: var(--bad); } .off { color: var(--off); }
.state { display: flex; gap: 6px; align-items: center; }
.filters summary.fold { cursor: pointer; min-height: 24px; display: none; }
.filter { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; min-width: 0; }
.filter input:not([type="checkbox"]) { width: 168px; max-width: 100%; }
.filter input[type="datetime-local"] { width: 200px; }
.filter [aria-invalid="true"] { border-color: var(--bad); }
.filter .period { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.filter .period label { color: var(--muted); }
.many { position: relative; }
.many summary { list-style: none; cursor: pointer; border: 1px solid var(--line); border-radius: 6px; min-height: 28px; padding: 2px 8px; max-width: 260px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.many summary::-webkit-details-marker { display: none; }
.many summary::after { content: " ▾"; }
.many fieldset { position: absolute; z-index: 3; margin: 4px 0 0; padding: 8px 12px; display: grid; gap: 4px; background: var(--bg); border: 1px solid var(--line); border-radius: 6px; white-space: nowrap; }
.many label { min-height: 24px; }
@media (pointer: coarse) { .list .select label { width: 44px; height: 44px; } .list { --box: 44px; } .many summary { min-height: 44px; padding: 8px; } .many label { min-height: 44px; } }
@media (max-width: 720px) {
  .list .head { display: none; }
  .list .row { display: flex; flex-wrap: wrap; gap: 2px 12px; padding: 8px 12px; min-height: 64px; }
  .list .row > * { max-width: 100%; }
  .list .row > .spare { display: none; }
  .list .row.grey > * { flex: 1; min-width: 60px; }
  .filters summary.fold { display: list-item; }
  .filters[open] .filter { margin-top: 8px; }
  .filter { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .filter input:not([type="checkbox"]), .filter select { width: 100%; }
  .filter .many, .filter .period { grid-column: 1 / -1; }
  .filter .period label { width: 100%; white-space: nowrap; }
  .many summary { max-width: 100%; }
  .many fieldset { position: static; white-space: normal; }
}
@media (forced-colors: active) { .list .row:hover, .list .row:focus-within { outline: 1px solid Highlight; } }
`;
