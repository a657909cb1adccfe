// Commands to copy into a terminal. No secret is ever in them: the token and the address are variables.

/** Returns a text as one word of a POSIX shell. */
export function quote(text) {
  return `'${String(text).replaceAll("'", "'\\''")}'`;
}

/** Returns the curl command of a GET. */
export function curl(base, path) {
  return `curl -sS -H "Authorization: Bearer $TOKEN" ${quote(base + path)}`;
}

/** Returns the grpcurl command of a call. */
export function grpcurl(method, request) {
  const body = quote(JSON.stringify(request));
  return `grpcurl -H "authorization: Bearer $TOKEN" -d ${body} $ADDRESS webhook.v1.WebhookService/${method}`;
}
