// The next token of `getToken`, when the one before was refused.

const RENEW_MILLISECONDS = 3000; // before `getToken` is asked again
let next; // one question for all refused calls
let waiting;

/** Goes on with the next token; asks again later while `getToken` gives out the one that was refused, or none. */
export async function renew(app) {
  next ??= Promise.resolve()
    .then(() => app.getToken())
    .catch(() => "")
    .finally(() => (next = undefined));
  if (app.goOnWith(await next)) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => renew(app), RENEW_MILLISECONDS);
}
