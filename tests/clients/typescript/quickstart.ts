// The quickstart's workflow with openapi-fetch, typed by what openapi-typescript made of docs/openapi.yaml. Type-checked, then run.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };
const [url, token] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });

const must = <T>(data: T | undefined, error: unknown): T => {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
};

const created = await api.POST("/api/v1/sessions", { body: { template_id: "python-basic", timeout: 300 } });
const session = must(created.data, created.error);

const code = "def handler(event):\n    return {'result': event['x'] + event['y']}";
const sent = await api.POST("/api/v1/sessions/{session_id}/execute", {
  params: { path: { session_id: session.session_id } },
  body: { code, language: "python", event: { x: 10, y: 32 } },
});
const run = { params: { path: { execution_id: must(sent.data, sent.error).execution_id } } };

for (;;) {
  const { data, error } = await api.GET("/api/v1/executions/{execution_id}/status", run);
  if (["completed", "failed", "timeout"].includes(must(data, error).status)) break;
  await new Promise((resolve) => setTimeout(resolve, 200));
}
const { data: result, error } = await api.GET("/api/v1/executions/{execution_id}/result", run);
console.log(must(result, error).status, JSON.stringify(must(result, error).return_value));

const ended = await api.DELETE("/api/v1/sessions/{session_id}", { params: { path: { session_id: session.session_id } } });
console.log(must(ended.data, ended.error).message);
