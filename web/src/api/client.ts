import createClient from "openapi-fetch";
import { refuseToken, token } from "../session";
import type { components, paths } from "./schema";

export type Schema = components["schemas"];
export type Problem = Schema["Problem"];

/** An answer that is no success, or none at all. */
export class Refusal extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.title);
    this.problem = problem;
  }
}

/** `body` as a problem; one made of the status when it is none, as from a proxy. */
export function problemOf(body: unknown, status: number): Problem {
  if (typeof body === "object" && body !== null && "code" in body && "title" in body && "detail" in body) {
    return body as Problem;
  }
  return {
    type: "about:blank",
    title: status === 0 ? "The server does not answer" : `The server answered ${status}`,
    status,
    detail: status === 0 ? "Check that it runs and that this machine reaches it." : "There is no more to know.",
    code: "",
    request_id: "",
  };
}

const client = createClient<paths>({ baseUrl: location.origin });
client.use({
  onRequest({ request }) {
    if (token.value) request.headers.set("Authorization", `Bearer ${token.value}`);
    return request;
  },
});

export const api = client;

/** The data of a call, or its problem thrown as a {@link Refusal}. */
export async function answer<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  let result;
  try {
    result = await call;
  } catch {
    throw new Refusal(problemOf(null, 0));
  }
  if (result.data !== undefined) return result.data;
  const problem = problemOf(result.error, result.response.status);
  if (result.response.status === 401) refuseToken(problem.detail);
  throw new Refusal(problem);
}

export function refusalOf(error: unknown): Problem {
  if (error instanceof Refusal) return error.problem;
  return { ...problemOf(null, 0), title: "The console failed", detail: String(error) };
}
