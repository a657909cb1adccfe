// The audit as people read it: what a method does in words, and where the thing that it changed is shown.

import { visible } from "./json-text.js";
import { isId, queryOf } from "./route.js";

const METHODS = {
  BatchPublishEvents: "批量发布事件",
  CancelDelivery: "取消投递",
  CancelReplay: "取消重放",
  CreateAccessToken: "签发短期令牌",
  CreateEventType: "新建事件类型",
  CreateReplay: "新建重放",
  CreateToken: "新建访问令牌",
  CreateWebhook: "新建 Webhook",
  DeleteCustomerData: "删除客户数据",
  DeleteWebhook: "删除 Webhook",
  ExplainEvent: "查询事件去向",
  GetDelivery: "读取投递",
  GetEvent: "读取事件",
  GetEventType: "读取事件类型",
  GetReplay: "读取重放",
  GetSigningKeys: "读取签名公钥",
  GetWebhook: "读取 Webhook",
  GetWebhookStats: "读取 Webhook 统计",
  ListAuditEntries: "读取审计记录",
  ListDeliveries: "列出投递",
  ListDeliveryAttempts: "列出尝试",
  ListEventTypes: "列出事件类型",
  ListEvents: "列出事件",
  ListReplays: "列出重放",
  ListTokens: "列出访问令牌",
  ListWebhooks: "列出 Webhook",
  PauseWebhook: "暂停 Webhook",
  PublishEvent: "发布事件",
  ResumeWebhook: "恢复 Webhook",
  RetryDelivery: "重试投递",
  RevokeToken: "吊销访问令牌",
  RotateSigningKey: "轮换签名密钥",
  RotateWebhookSecret: "轮换 Webhook 密钥",
  TestWebhook: "测试 Webhook",
  UpdateEventType: "修改事件类型",
  UpdateWebhook: "修改 Webhook",
  WatchDeliveries: "实时查看投递",
};

/** The words that only the audit says, and their Chinese. */
export const AUDIT_CHINESE = {
  "Done": "已完成",
  "Fields": "字段",
  "From": "来源地址",
  "Not allowed": "无权限",
  "Not found": "不存在",
  "Only a caller with the permission admin may see the audit.": "只有具有 admin 权限的调用方才能查看审计。",
  "Result": "结果",
  "When": "时间",
  "Which": "对象",
  "Who": "调用方",
};

const PLACES = { webhook: "webhooks", delivery: "deliveries", replay: "replays", event_type: "event-types" };

/** Returns a function like `words` that has the words of the audit too, which the first view does not need. */
export function auditWords(words, language) {
  return (text, values) => (text in AUDIT_CHINESE ? (language === "zh" ? AUDIT_CHINESE[text] : text) : words(text, values));
}

/** Returns what a method does: `Create webhook` for `CreateWebhook`. */
export function methodText(method, language) {
  if (language === "zh" && Object.hasOwn(METHODS, method)) return METHODS[method];
  return visible(method.replace(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));
}

/** Returns the address of what a call has changed, empty if the page shows no such thing, or none any more. */
export function changedHref({ method, result, resources = [], customer_id: customerId }) {
  const [kind, id] = (resources.at(-1) ?? "").split(":"); // of several the last is the most particular one
  if (result !== "OK" || method.startsWith("Delete") || !isId(PLACES[kind], id)) return "";
  return `/${PLACES[kind]}/${id}${queryOf({ customer_id: isId("customers", customerId) ? String(customerId) : "" })}`;
}
