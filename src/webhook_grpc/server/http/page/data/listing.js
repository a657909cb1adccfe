// A list that is read page by page, newest first, as far as the reader wants. Nothing here touches the document.

export const PAGE_SIZE = 50;
export const ROWS_MAX = 2000;
export const PAGES_MAX = 10; // that are read by themselves, because a filter fits few
export const LOOK_MILLISECONDS = 5000;

/**
 * The rows of a list, and how it stands. Only this object writes them:
 *   loading  a page is being read
 *   more     there is a next page
 *   looked   the filter fits few: ten pages or five seconds were read for less than a page of rows; there may be more
 *   full     as many rows as are kept, and there are more
 *   ended    these are all
 *   problem  the last page could not be read; `problem` says why, and more() reads it again
 */
export class Listing {
  rows = [];
  state = "ended";
  problem = null;
  lookedBackTo = ""; // the time up to which the list was read, empty if that is not known
  round = 0; // of the rows: another one after each restart
  isStale = false; // the rows are those of before, because the first page of this round has not come yet

  /** `changed` is called after each change, `now` returns milliseconds. */
  constructor({ changed, now = () => performance.now(), pageSize = PAGE_SIZE, rowsMax = ROWS_MAX }) {
    this._changed = changed;
    this._now = now;
    this._pageSize = pageSize;
    this._rowsMax = rowsMax;
    this._abort = new AbortController();
  }

  /**
   * Reads the list from its start; what is still being read is aborted. The rows of before stay until the first ones come.
   * `read(token, signal)` returns a page: {rows, token, time}, with the token of the next page, empty on the last one.
   */
  restart(read) {
    this._read = read;
    this._token = "";
    this.isStale = true;
    this.lookedBackTo = "";
    return this._look();
  }

  /** Reads on, or reads the page again that could not be read. Does nothing if there is nothing to read. */
  async more() {
    if (["more", "looked", "problem"].includes(this.state)) await this._look();
  }

  /** Ends what is being read. */
  stop() {
    this._abort.abort();
  }

  /** Reads pages until there are enough rows for one. */
  async _look() {
    this._abort.abort();
    const { signal } = (this._abort = new AbortController());
    this._become("loading");
    const start = this._now();
    let found = 0;
    try {
      for (let pages = 1; ; pages += 1) {
        const page = await this._read(this._token, signal);
        if (signal.aborted) return;
        this._take(page);
        found += page.rows.length;
        const isOver = pages >= PAGES_MAX || this._now() - start >= LOOK_MILLISECONDS;
        if (!this._token || isOver || found >= this._pageSize || this.rows.length >= this._rowsMax) break;
        if (found) this._changed();
      }
      this._end(found);
    } catch (error) {
      if (!signal.aborted) this._fail(error);
    }
  }

  _take({ rows, token, time }) {
    if (rows.length) this._renew();
    this.rows.push(...rows.slice(0, this._rowsMax - this.rows.length));
    this._token = token;
    this.lookedBackTo = time || this.lookedBackTo;
  }

  /** Drops the rows of the round before. */
  _renew() {
    if (!this.isStale) return;
    this.isStale = false;
    this.rows = [];
    this.round += 1;
  }

  _end(found) {
    this._renew();
    if (!this._token) this._become("ended");
    else if (this.rows.length >= this._rowsMax) this._become("full");
    else this._become(found < this._pageSize ? "looked" : "more");
  }

  _fail(error) {
    this.problem = error;
    this._become("problem");
  }

  _become(state) {
    this.state = state;
    if (state !== "problem") this.problem = null;
    this._changed();
  }
}

/** Returns what reads a list of the API: `name` is the field of the rows, `rowOf` leaves out what a row does not show. */
export function readerOf(api, path, query, name, rowOf = (row) => row) {
  return async (token, signal) => {
    const more = token && `&page_token=${encodeURIComponent(token)}`;
    const page = await api.get(`${path}${query || "?"}${query && "&"}page_size=${PAGE_SIZE}${more}`, { signal });
    return { rows: page[name].map(rowOf), token: page.next_page_token ?? "", time: page.progress_time ?? "" };
  };
}

/**
 * Carries out `act(item)` for each item, `atOnce` of them at a time, and calls `done(item, result, error)` after each.
 * Goes on if one fails. Items that have not begun when `signal` aborts are left out.
 */
export async function forEach(items, act, done, { atOnce = 5, signal } = {}) {
  const left = [...items];
  const work = async () => {
    for (let item = left.shift(); item !== undefined && !signal?.aborted; item = left.shift()) {
      const said = await act(item).then((result) => [result], (error) => [undefined, error]);
      done(item, ...said);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}
