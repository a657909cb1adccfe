// The look of views with panels.

export const DETAIL_LOOK = `
.panel { border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; }
.detail { display: grid; gap: 12px; overflow: auto; align-content: start; }
.title { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; font-size: 16px; margin: 0; }
.story { font-size: 16px; margin: 8px 0; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 24px; color: var(--muted); }
.facts b { font-weight: 400; color: var(--ink); }
.attempts { display: grid; grid-template-columns: minmax(280px, 2fr) 3fr; gap: 16px; }
.attempts ol { list-style: none; margin: 0; padding: 0; }
.attempts ol > .muted { margin-bottom: 4px; }
.attempts li > button { display: grid; grid-template-columns: 32px 16px 1fr 72px; gap: 8px; align-items: center; width: 100%; text-align: left; border-color: transparent; }
.attempts .wait-between { padding-left: 48px; color: var(--muted); font-size: 12px; }
.attempts svg { width: 12px; height: 12px; }
pre { margin: 0; padding: 12px; background: var(--surface); border-radius: 6px; overflow: auto; max-height: 480px; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 14px; margin: 8px 0 4px; }
.ok { color: var(--ok); } .wait { color: var(--wait); } .bad { color: var(--bad); } .off { color: var(--off); }
.state { display: flex; gap: 6px; align-items: center; }
.buttons { display: flex; flex-wrap: wrap; gap: 8px; }
.why { list-style: none; padding: 0; margin: 0; display: grid; gap: 8px; }
.why li { display: grid; grid-template-columns: 16px 200px 1fr; gap: 12px; }
@media (max-width: 480px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 4px; } }
.payload-head { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.payload-head h3 { margin: 0; }
button[aria-pressed="true"] { border-color: var(--accent); box-shadow: inset 0 -2px var(--accent); }
pre details { display: inline; }
pre details > summary { display: inline-block; padding: 2px 0; cursor: pointer; color: var(--accent); }
pre details > span { display: block; border-left: 1px solid var(--line); padding-left: 12px; }
@media (max-width: 720px) {
  .attempts { grid-template-columns: 1fr; }
  .why li { grid-template-columns: 16px 1fr; gap: 2px 8px; }
  .why li > :nth-child(3) { grid-column: 2; }
}
`;
