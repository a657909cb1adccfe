// Why attempts failed, in Chinese. The service says it in English, by a sentence of a closed list (domain/model.py).

const CHINESE = {
  "The connection to the receiver failed.": "无法连接到接收方。",
  "The host name of the webhook's URL could not be resolved.": "无法解析回调地址中的域名。",
  "The receiver answered 410 Gone, so the webhook was disabled.": "接收方返回 410 Gone，该 Webhook 因此被停用。",
  "The receiver answered with a redirect, which is not followed; update the webhook's URL.": "接收方返回了重定向，服务不会跟随；请更新回调地址。",
  "The receiver answered with an error status.": "接收方返回了错误状态码。",
  "The receiver closed the connection before it answered.": "接收方在响应之前关闭了连接。",
  "The receiver did not answer within the webhook's timeout.": "接收方没有在超时时间内响应。",
  "The receiver wants a TLS client certificate, which webhooks do not have.": "接收方要求 TLS 客户端证书，而 Webhook 没有。",
  "The receiver's TLS certificate has expired.": "接收方的 TLS 证书已过期。",
  "The receiver's TLS certificate is for another host name than the webhook's URL has.": "接收方的 TLS 证书与回调地址的域名不符。",
  "The receiver's TLS certificate is from an authority that is not known here, or its chain is not complete.": "接收方的 TLS 证书由此处未知的机构签发，或证书链不完整。",
  "The receiver's TLS certificate is self-signed.": "接收方的 TLS 证书是自签名的。",
  "The receiver's TLS certificate was not accepted.": "接收方的 TLS 证书未被接受。",
  "The receiver's answer was not valid HTTP or was beyond its limits.": "接收方的响应不是有效的 HTTP，或超出了限制。",
  "The request could not be built from the webhook's settings.": "无法根据该 Webhook 的设置生成请求。",
  "The service stopped during this attempt; whether it arrived is not known.": "服务在这次尝试期间停止；不知道请求是否到达。",
  "The TLS handshake with the receiver failed.": "与接收方的 TLS 握手失败。",
  "The webhook's secret could not be opened; contact the operator.": "无法打开该 Webhook 的密钥；请联系运营方。",
  "The webhook's URL leads to an address that may not be called.": "回调地址指向不允许访问的地址。",
};

/** Returns a reason in the reader's language; one that this page does not know stays as the service said it. */
export function reasonText(text, language) {
  return (language === "zh" && CHINESE[text]) || text;
}
